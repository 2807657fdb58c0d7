"""ImageNet-1k (ILSVRC 2012) in its public layout, decoded while training."""

from __future__ import annotations

from typing import Any

from immunization.data.download import Place
from immunization.networks.datasets._folders import list_folder, public_folder
from immunization.networks.datasets._images import Images, Listing, in_memory, stored_size

EXTENDS = "_images"
PARAMETERS: dict[str, dict[str, Any]] = {}
TOLD = (
    "ImageNet needs an account and cannot be downloaded by a program. Get ILSVRC2012_img_train.tar "
    "and ILSVRC2012_img_val.tar from image-net.org/download, and unpack them into "
    "imagenet/train/nXXXXXXXX/*.JPEG and imagenet/val/nXXXXXXXX/*.JPEG (one folder a class; the "
    "validation images are sorted by ILSVRC2012_validation_ground_truth, as PyTorch's examples "
    "do with extract_ILSVRC.sh)."
)


def load(parameters: dict[str, Any], place: Place, size: int) -> Images | Listing:
    """Training images, and the validation images as test images."""
    folder = public_folder(place.mirror, place.cache, "imagenet", ["train", "val"], TOLD)
    train, classes = list_folder(folder / "train")
    test, _ = list_folder(folder / "val", classes)
    return in_memory(Listing(train, test, classes), parameters, stored_size(size))
