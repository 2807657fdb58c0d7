"""Files of extractors: what the immunize stage writes and the later stages read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from immunization.files import read_metadata, read_tensor, refuse_nan, write_tensors


@dataclass(frozen=True)
class Extractors:
    """θ of one method on one data set, read seed by seed.

    Attributes:
        path: the file.
        label: what the study calls the method.
        dataset: label of the data set.
        code: fingerprint of the code that made it.
        owners: for each seed the one whose θ it has, itself but where seeds share their tasks and
            the method draws nothing.
        singular: whether θ has lost directions on purpose, as by erasure.
    """

    path: str
    label: str
    dataset: str
    code: str
    owners: dict[int, int]
    singular: bool = False

    def theta(self, seed: int, device: str = "cpu", pairs: Sequence[int] | None = None) -> Tensor:
        """θ of some pairs, given by number, or of all, shape (B, D, D).

        Raises:
            UserError: when it is damaged or not finite.
        """
        name = f"theta.{self.owners[seed]}"
        return refuse_nan(self.path, name, read_tensor(self.path, name, device, pairs))

    def sharing(self) -> dict[int, list[int]]:
        """Seeds by the one that owns their θ."""
        found: dict[int, list[int]] = {}
        for seed, owner in self.owners.items():
            found.setdefault(owner, []).append(seed)
        return found


def save_extractors(
    path: Path | str,
    thetas: dict[int, Tensor],
    owners: dict[int, int],
    metadata: dict[str, Any],
) -> None:
    """Write θ of each seed that owns one.

    Args:
        path: safetensors file.
        thetas: θ by seed.
        owners: see `Extractors`.
        metadata: provenance, with ``dataset``.
    """
    write_tensors(
        path,
        {f"theta.{seed}": theta for seed, theta in thetas.items()},
        metadata | {"seeds": list(owners), "owners": list(owners.values())},
        metadata,
    )


def open_extractors(path: str) -> Extractors:
    """Read a file's metadata."""
    metadata = read_metadata(path)
    return Extractors(
        path=path,
        label=metadata["parameters"]["label"],
        dataset=metadata["dataset"],
        code=metadata["code"],
        owners=dict(zip(metadata["seeds"], metadata["owners"], strict=True)),
        singular=metadata.get("singular", False),
    )
