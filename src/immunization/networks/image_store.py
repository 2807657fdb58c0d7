"""Prepared images: small sets whole on the device, large ones decoded by worker processes.

A prepared file holds pixels, or for a large data set the paths of its images. Either way a store
answers "the images with these numbers, in these batches".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from immunization.networks.datasets._images import Images, Listing, decode
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_tensors, write_tensors

BATCH = 2048
"""Images a batch where nothing is trained."""


PIECE = 128
"""Images that a worker process decodes at a time."""


class Store(Protocol):
    """One part of a data set, on a device."""

    labels: Tensor

    def __len__(self) -> int: ...

    def batches(self, numbers: Sequence[Tensor]) -> Iterator[Tensor]:
        """Images uint8 (B, 3, S, S) with these numbers, batch after batch."""


class InMemory:
    """Pixels on the device."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, numbers: Sequence[Tensor]) -> Iterator[Tensor]:
        """See `Store`."""
        for rows in numbers:
            yield self.pixels[rows]


class _Decoded(torch.utils.data.Dataset[Tensor]):
    """What worker processes run."""

    def __init__(self, paths: list[str], boxes: list[list[int]] | None, side: int) -> None:
        self.paths, self.boxes, self.side = paths, boxes, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        box = None
        if self.boxes is not None and self.boxes[number][2] > 0:
            left, upper, right, lower = self.boxes[number]
            box = (left, upper, right, lower)
        return torch.from_numpy(decode(Path(self.paths[number]), self.side, box))


def cores() -> int:
    """Cores that this process may use; all where the system does not say."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(allowed(0)) if allowed else os.cpu_count() or 1


class OnDisk:
    """Files, decoded ahead by worker processes."""

    def __init__(
        self, files: _Decoded, labels: Tensor, device: torch.device, workers: int | None = None
    ) -> None:
        self.files, self.labels, self.device = files, labels, device
        if workers is None:
            workers = min(16, cores())
        self.workers = workers

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, numbers: Sequence[Tensor]) -> Iterator[Tensor]:
        """See `Store`."""
        # Decoded in pieces, so that batches that wait for their turn fit shared memory.
        pieces = [list(rows.split(PIECE)) for rows in numbers]
        loader = iter(
            torch.utils.data.DataLoader(
                self.files,
                batch_sampler=[piece.tolist() for batch in pieces for piece in batch],
                num_workers=self.workers if len(numbers) > 1 else 0,
                pin_memory=self.device.type == "cuda",
            )
        )
        for batch in pieces:
            loaded = [next(loader).to(self.device, non_blocking=True) for _ in batch]
            yield torch.cat(loaded) if len(loaded) != 1 else loaded[0]


class ImageSet:
    """A prepared data set.

    Attributes:
        name: label in the config.
        classes: names of its classes.
        flip: whether images may be mirrored.
        size: side of a network's input; stored images may be larger.
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        tensors, metadata = read_tensors(path)
        self._tensors, self._metadata = tensors, metadata
        self.name: str = metadata["name"]
        self.classes: list[str] = metadata["classes"]
        self.flip: bool = metadata["flip"]
        self.size: int = metadata["size"]
        self._parts: dict[str, Store] = {}

    def part(self, name: str) -> Store:
        """`train` or `test`, put on the device once."""
        if name not in self._parts:
            labels = self._tensors[f"{name}_labels"].to(self.device)
            if self._metadata["form"] == "pixels":
                pixels = self._tensors.pop(name).to(self.device)
                self._parts[name] = InMemory(pixels, labels)
            else:
                paths = bytes(self._tensors[f"{name}_paths"].numpy()).decode().split("\n")
                boxes = self._tensors.get(f"{name}_boxes")
                files = _Decoded(
                    paths, None if boxes is None else boxes.tolist(), self._metadata["side"]
                )
                self._parts[name] = OnDisk(files, labels, self.device)
        return self._parts[name]

    @property
    def train(self) -> Store:
        """Training images."""
        return self.part("train")

    @property
    def test(self) -> Store:
        """Held-out images."""
        return self.part("test")


def write_images(
    path: Path | str, found: Images | Listing, *, name: str, size: int, flip: bool, record: Any
) -> None:
    """Write a data set for `ImageSet`.

    Raises:
        UserError: where a class has no image in one of the parts.
    """
    metadata = {
        "name": name,
        "classes": found.classes,
        "size": size,
        "flip": flip,
        "side": found.train.shape[-1] if isinstance(found, Images) else found.side,
        "form": "pixels" if isinstance(found, Images) else "files",
        "provenance": record,
    }
    tensors: dict[str, Tensor] = {}
    for part in ("train", "test"):
        rows = getattr(found, part)
        if isinstance(found, Images):
            tensors[part], labels = rows, getattr(found, f"{part}_labels")
        else:
            labels = torch.tensor([label for _, label in rows], dtype=torch.int64)
            text = "\n".join(str(Path(path).absolute()) for path, _ in rows).encode()
            tensors[f"{part}_paths"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            if found.boxes:
                tensors[f"{part}_boxes"] = torch.tensor(
                    [found.boxes.get(path, (0, 0, 0, 0)) for path, _ in rows], dtype=torch.int32
                )
        counts = torch.bincount(labels, minlength=len(found.classes))
        if not len(labels) or bool((counts == 0).any()):
            empty = [c for c, n in zip(found.classes, counts.tolist(), strict=False) if n == 0]
            raise UserError(
                f"data set '{name}', part {part}: no image of class {', '.join(empty[:5])}. Every "
                "class needs some in both parts."
            )
        tensors[f"{part}_labels"] = labels
    write_tensors(path, tensors, metadata)


def in_order(count: int, device: torch.device, batch: int = BATCH) -> list[Tensor]:
    """Numbers 0 … count−1 in batches."""
    return list(torch.arange(count, device=device).split(batch))
