"""What the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("suite")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Folder with the public data sets, or a skip that says where they were looked for."""
    wanted = Path(os.environ.get("IMMUNIZATION_DATA", ROOT.parent / "shared" / "data"))
    if not (wanted / "house-prices" / "train.csv").is_file():
        pytest.skip(f"the public data sets are not in {wanted} (set IMMUNIZATION_DATA)")
    return wanted


@pytest.fixture
def generator() -> torch.Generator:
    """Every draw of a test comes from here."""
    return torch.Generator().manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that mostly wait go first, then the long files, so that all end together (`-n 3`)."""
    waiting = (
        "cluster", "test_faults.py", "test_networks.py", "test_study.py", "test_stale.py",
        "test_shutdown.py", "workflow", "conda",
    )  # fmt: skip
    items.sort(key=lambda item: min(
        (place for place, name in enumerate(waiting) if name in item.path.parts),
        default=len(waiting),
    ))  # fmt: skip
