"""Country211: photographs by country (YFCC100M), 211 classes, in OpenAI's public layout."""

from __future__ import annotations

from typing import Any

from immunization.data.download import Place
from immunization.networks.datasets._folders import list_folder, public_folder
from immunization.networks.datasets._images import Images, Listing, in_memory, stored_size

EXTENDS = "_images"
PARAMETERS: dict[str, dict[str, Any]] = {}
TOLD = (
    "Fetch country211.tgz (11 GB), to which the CLIP repository of OpenAI links "
    "(data/country211.md) and which torchvision.datasets.Country211(download=True) also gets, and "
    "unpack it so that there are country211/train/XX/*.jpg and "
    "country211/test/XX/*.jpg, XX being country codes."
)


def load(parameters: dict[str, Any], place: Place, size: int) -> Images | Listing:
    """Its own training and test images."""
    folder = public_folder(place.mirror, place.cache, "country211", ["train", "test"], TOLD)
    train, classes = list_folder(folder / "train")
    test, _ = list_folder(folder / "test", classes)
    return in_memory(Listing(train, test, classes), parameters, stored_size(size))
