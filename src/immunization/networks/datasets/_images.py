"""What every image data set gives, and how pixels and splits are made."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from immunization.runtime.errors import UserError

PARAMETERS = {
    "rows_per_class": {
        "type": ["integer", "null"],
        "minimum": 2,
        "default": None,
        "description": "largest number of training images of each class, the first ones; null "
        "uses all.",
    },
    "test_rows_per_class": {
        "type": ["integer", "null"],
        "minimum": 1,
        "default": None,
        "description": "largest number of test images of each class, the first ones; null uses "
        "all.",
    },
    "flip": {
        "type": "boolean",
        "default": True,
        "description": "whether augmentation may mirror an image.",
    },
}

MOST_PIXELS = 178_956_970
"""Of an image: twice what Pillow warns of. More is a decompression bomb."""

MEMORY_LIMIT = 4 * 2**30
"""Bytes of pixels up to which a data set is decoded once and kept on the GPU."""


@dataclass(frozen=True)
class Images:
    """Pixels in memory.

    Attributes:
        train, test: uint8, shape (N, 3, S, S).
        train_labels, test_labels: integer classes from 0, shape (N,).
        classes: their names.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: list[str]


@dataclass(frozen=True)
class Listing:
    """Files to decode while training.

    Attributes:
        train, test: (path, class) of every image.
        classes: names of the classes.
        boxes: crop (left, upper, right, lower) of some paths, in pixels.
        side: that images are decoded at.
    """

    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    classes: list[str]
    boxes: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    side: int = 0


def stored_size(size: int) -> int:
    """Side of stored images that are larger than a network's input: 8/7 of it, as 256 is of 224,
    which leaves room for random crops."""
    return -(-size * 8 // 7)


WHITE_IS_ZERO = 262
"""The TIFF tag of which 0 says that white is zero; Pillow heeds it in 8 bits."""


def decode(
    source: Path | bytes,
    side: int,
    box: tuple[int, int, int, int] | None = None,
    *,
    name: str | None = None,
) -> NDArray[np.uint8]:
    """One image as (3, side, side): the shorter side scaled to fit, the centre kept.

    It is turned as its EXIF orientation says. Pixels of more than 8 bits are scaled, see
    `eight_bit`.

    Args:
        source: a file, or its bytes.
        side: in pixels.
        box: cut this out first, of the pixels as they are stored, and squash it to a square, as for
            a bounding box.
        name: for messages; default the file's.

    Raises:
        UserError: when it is no readable image, or one of more than `MOST_PIXELS`.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # of which Pillow warns or raises; we refuse, below
    where = name or ("an image of the archive" if isinstance(source, bytes) else str(source))
    try:
        if not isinstance(source, bytes) and source.exists() and not source.is_file():
            raise ValueError("a pipe, a device or a folder")  # a pipe would be waited for
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.size[0] * image.size[1] > MOST_PIXELS:
                raise ValueError(
                    f"{image.size[0]} × {image.size[1]} pixels, more than {MOST_PIXELS:,} in all"
                )
            image = eight_bit(image)
            if box is not None:
                # Cut first: a resize within a box looks at pixels around it.
                image = image.crop(box).resize((side, side), Image.Resampling.LANCZOS)
            else:
                if readable_exif(image):
                    image = ImageOps.exif_transpose(image)
                width, height = image.size
                short = min(width, height)
                left, upper = (width - short) / 2, (height - short) / 2
                image = image.resize(
                    (side, side),
                    Image.Resampling.BICUBIC,
                    box=(left, upper, left + short, upper + short),
                )
            pixels: NDArray[np.uint8] = np.asarray(image).transpose(2, 0, 1).copy()
            return pixels
    except Exception as error:  # damaged images raise whatever their decoder stumbles over
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "of no kind that is known"
        raise UserError(
            f"{where}: not a readable image ({reason}). It is truncated or no image; replace or "
            "delete it and run again."
        ) from error


def readable_exif(image: Any) -> bool:
    """Whether an image's EXIF can be read; pixels are whole where it cannot."""
    try:
        image.getexif()
    except Exception:  # of whatever its bytes look like
        return False
    return True


def eight_bit(image: Any) -> Any:
    """An image of any mode as RGB.

    Grey values of 16 bits are divided by 257, those of 32 bits by the same where none is larger
    than 16 bits hold, else by 2³¹/256; floats lie in 0 to 1. (Pillow alone would clip all of them
    to white.) Where the largest needs 17 to 24 bits, either could be meant.

    Raises:
        ValueError: for values outside of these.
    """
    from PIL import Image

    if not (image.mode.startswith("I") or image.mode == "F"):
        return image.convert("RGB")
    values = np.asarray(image).astype(np.float64)
    low, high = (0.0, 0.0) if values.size == 0 else (float(values.min()), float(values.max()))
    top = 1.0 if image.mode == "F" else 65535.0 if high < 2**24 else 2.0**31 - 1
    if not (low >= 0 and high <= top):  # NaN fails it too
        raise ValueError(
            f"pixels from {low:.9g} to {high:.9g}, where "
            + ("floats lie in 0 to 1" if image.mode == "F" else "16 bits hold 0 to 65535")
        )
    if getattr(image, "tag_v2", {}).get(WHITE_IS_ZERO) == 0 and image.mode != "F":
        values = top - values
    grey = Image.fromarray((values * (255 / top)).round().astype(np.uint8)).convert("RGB")
    grey.info = dict(image.info)
    if readable_exif(image):
        grey.getexif().update(image.getexif())
    return grey


def resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Images (N, C, H, W) at another side, antialiased."""
    if images.shape[-1] == side:
        return images
    batches = []
    for part in torch.from_numpy(images).split(4096):
        scaled = torch.nn.functional.interpolate(
            part.float(), size=(side, side), mode="bilinear", antialias=True
        )
        batches.append(scaled.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(batches).numpy()


def stratified(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out: a share of every class, at least one, drawn by the seed."""
    held = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        held[generator.permutation(rows)[:count]] = True
    return held


def limited(labels: Sequence[int] | NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    """Places of the first `most` rows of each class, in order."""
    labels = np.asarray(labels)
    if most is None:
        return np.arange(len(labels))
    keep = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        keep[np.flatnonzero(labels == label)[:most]] = True
    return np.flatnonzero(keep)


def in_memory(listing: Listing, parameters: dict[str, Any], side: int) -> Images | Listing:
    """Decode a listing where its pixels fit `MEMORY_LIMIT`; rows are limited either way.

    Args:
        listing: files.
        parameters: of the data set.
        side: of the stored images, in pixels.
    """
    parts = []
    for rows, most in (
        (listing.train, parameters["rows_per_class"]),
        (listing.test, parameters["test_rows_per_class"]),
    ):
        kept = limited([label for _, label in rows], most)
        parts.append([rows[int(i)] for i in kept])
    if sum(map(len, parts)) * 3 * side * side > MEMORY_LIMIT:
        return Listing(parts[0], parts[1], listing.classes, listing.boxes, side)
    pixels = [
        _stack([decode(Path(p), side, listing.boxes.get(p)) for p, _ in part], side)
        for part in parts
    ]
    labels = [torch.tensor([label for _, label in part], dtype=torch.int64) for part in parts]
    return Images(pixels[0], labels[0], pixels[1], labels[1], listing.classes)


def _stack(images: Iterable[NDArray[np.uint8]], side: int) -> Tensor:
    arrays = list(images)
    if not arrays:
        return torch.empty(0, 3, side, side, dtype=torch.uint8)
    return torch.from_numpy(np.stack(arrays))


def of_arrays(
    train: NDArray[np.uint8],
    train_labels: NDArray[np.int64],
    test: NDArray[np.uint8],
    test_labels: NDArray[np.int64],
    classes: list[str],
    parameters: dict[str, Any],
    size: int,
) -> Images:
    """Pixels (N, 3, H, W) of a small data set at the study's size, rows limited."""
    parts = []
    for pixels, labels, most in (
        (train, train_labels, parameters["rows_per_class"]),
        (test, test_labels, parameters["test_rows_per_class"]),
    ):
        kept = limited(labels, most)
        parts.append(
            (torch.from_numpy(resized(pixels[kept], size)), torch.from_numpy(labels[kept]))
        )
    return Images(*parts[0], *parts[1], classes)
