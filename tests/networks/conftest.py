"""Small networks and made-up images for the tests of deep networks."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from immunization.networks.activations import Activations
from immunization.networks.datasets._images import Images
from immunization.networks.image_store import ImageSet, write_images
from immunization.study.components import components, import_component
from tests.studies import write_study


def complete(kind: str, component: str, /, **changes: Any) -> dict[str, Any]:
    """Parameters of a component of networks, defaults filled in."""
    schema = components(f"networks/{kind}")[component].parameters
    found = {key: rule["default"] for key, rule in schema.items() if "default" in rule}
    return found | changes


SMALL = {
    "resnet": {"name": "test_resnet", "epochs": 2, "batch": 30},
    "vit": {
        "name": "test_vit", "arguments": {"patch_size": 8}, "epochs": 2, "batch": 30,
        "optimiser": "adamw", "learning_rate": 0.001,
    },
}  # fmt: skip


def backbone(use: str, seed: int = 0, **changes: Any) -> Any:
    """A small network with random weights, in eval mode."""
    torch.manual_seed(seed)
    found, _ = import_component("networks/backbones", use).build(
        complete("backbones", use, **SMALL[use] | changes), 32
    )
    return found.eval()


def pictures(classes: int, rows: int, seed: int) -> Images:
    """Images whose classes differ in colour and in a pattern, with noise."""
    generator = np.random.default_rng(seed)
    centres = generator.integers(40, 216, (classes, 3, 4, 4))
    parts = []
    for count in (rows, max(2, rows // 3)):
        labels = np.repeat(np.arange(classes), count)
        base = centres[labels].repeat(8, axis=2).repeat(8, axis=3)
        noisy = base + generator.normal(0, 40, (len(labels), 3, 32, 32))
        parts.append((noisy.clip(0, 255).astype(np.uint8), labels))
    (train, train_labels), (test, test_labels) = parts
    return Images(
        torch.from_numpy(train), torch.from_numpy(train_labels),
        torch.from_numpy(test), torch.from_numpy(test_labels),
        [f"class{c}" for c in range(classes)],
    )  # fmt: skip


def write_folder(path: Any, classes: int, rows: int, seed: int, side: int = 48) -> None:
    """A folder with one folder of JPEG files a class."""
    generator = np.random.default_rng(seed)
    for c in range(classes):
        folder = path / f"n{c:04d}"
        folder.mkdir(parents=True)
        centre = generator.integers(40, 216, (1, 1, 3))
        for r in range(rows):
            pixels = centre + generator.normal(0, 30, (side, side + 10 * (r % 2), 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{r:03d}.JPEG")


@pytest.fixture
def prepared(tmp_path):
    """Prepared made-up data sets: D_P with 5 classes, D_H with 7."""
    sets = {}
    for name, classes, rows, seed in (("benign", 5, 24, 0), ("harm", 7, 18, 1)):
        path = tmp_path / "images" / f"{name}.safetensors"
        write_images(path, pictures(classes, rows, seed), name=name, size=32, flip=True, record={})
        sets[name] = ImageSet(path)
    return sets


def activations(network: Any, images: ImageSet, part: str = "train", **options: Any) -> Activations:
    """The trunk's answers."""
    return Activations(network, images.part(part), images.size, **options)


def pretraining(folder: Any, images: Any, use: str = "resnet", **changes: Any) -> Any:
    """A study whose stage pretrain trains one small network ``n`` on prepared images."""
    raw = {
        "study": "small", "seeds": [0], "device": "cpu", "deterministic": True,
        "datasets": {"benign": {"source": "cifar10"}, "harm": {"source": "cifar10"}},
        "primary": "benign", "harmful": ["harm"],
        "networks": {"n": {"use": use, **SMALL[use], **changes}},
        "methods": {"identity": {}}, "attacks": {"linear_probe": {}},
    }  # fmt: skip
    path = write_study(folder, raw)
    if not (folder / "images").exists():
        shutil.copytree(images, folder / "images")
    return path
