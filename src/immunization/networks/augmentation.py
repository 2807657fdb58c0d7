"""Random crops and mirror images, on the device and from a generator of their own."""

from __future__ import annotations

import torch
from torch import Tensor


def cropped(images: Tensor, rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """A square out of each image.

    Args:
        images: (B, C, H, W).
        rows, columns: upper left corner in each image, shape (B,).
        size: side of the squares.

    Returns:
        (B, C, size, size).
    """
    step = torch.arange(size, device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    down, across = rows[:, None, None] + step[:, None], columns[:, None, None] + step
    # Indices around a slice put the channels last.
    return images[batch, :, down, across].permute(0, 3, 1, 2)


def augmented(
    images: Tensor, size: int, generator: torch.Generator, *, flip: bool, cut: int = 0
) -> Tensor:
    """Training images: a random crop, mirrored half the time.

    Images at the network's own size are padded by an eighth of it, by reflection.

    Args:
        images: uint8 (B, 3, S, S), S ≥ size.
        size: side of a network's input.
        generator: on the images' device.
        flip: mirror.
        cut: side of a grey square put at a random place of each image (Cutout, DeVries and Taylor,
            2017); 0 for none.
    """
    if images.shape[-1] == size:
        pad = size // 8
        images = torch.nn.functional.pad(images.float(), [pad] * 4, mode="reflect").to(torch.uint8)
    count, device = len(images), images.device
    room = images.shape[-1] - size + 1

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=generator, device=device)

    images = cropped(images, draw(room), draw(room), size)
    if flip:
        images = torch.where((draw(2) == 1)[:, None, None, None], images.flip(-1), images)
    if cut:
        place = torch.arange(size, device=device)
        down, across = draw(size)[:, None], draw(size)[:, None]
        inside = ((place - down).abs() <= cut // 2)[:, :, None] & (
            (place - across).abs() <= cut // 2
        )[:, None, :]
        images = images.masked_fill(inside[:, None], 128)
    return images


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle of stored images that are larger than a network's input."""
    room = images.shape[-1] - size
    if room == 0:
        return images
    start = room // 2
    return images[..., start : start + size, start : start + size]
