"""CIFAR-10: 60,000 colour images of 32×32 pixels in ten classes, with its own test split."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immunization.data.download import File, Place
from immunization.networks.datasets._images import Images, of_arrays
from immunization.runtime.errors import UserError

EXTENDS = "_images"
PARAMETERS: dict[str, dict[str, Any]] = {}
# The binary version; the Python version is a pickle.
ARCHIVE = File(
    path="cifar10/cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
# SHA-256 of each file of the archive: 10,000 records of a label byte and 3,072 pixel bytes.
BATCHES = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip
ROWS = 10_000


def unpacked(data: bytes) -> bytes:
    """Records from the recompressed form that a mirror may hold in place of the archive.

    An xz stream: residuals of the JPEG-LS predictor of the planes G, R − G, B − G, zigzag coded and
    each of shape (N, 32, 32); then the labels; then names, which are not needed.
    """
    raw = lzma.decompress(data)
    count = 3 * ROWS * 1024
    coded = np.frombuffer(raw, np.uint8, count).reshape(3, ROWS, 32, 32).astype(np.int16)
    residual = np.where(coded & 1, -((coded + 1) >> 1), coded >> 1).transpose(0, 2, 3, 1)
    planes = np.zeros((3, 33, 33, ROWS), np.int16)
    channels = np.zeros((3, 32, 32, ROWS), np.int16)
    for c in range(3):
        for i in range(32):
            for j in range(32):
                west, north, corner = planes[c, i + 1, j], planes[c, i, j + 1], planes[c, i, j]
                low, high = np.minimum(west, north), np.maximum(west, north)
                guess = np.clip(west + north - corner, low, high)
                green = channels[0, i, j] if c else 0
                channels[c, i, j] = (green + guess + residual[c, i, j]) & 255
                planes[c, i + 1, j + 1] = channels[c, i, j] - green
    pixels = channels[[1, 0, 2]].astype(np.uint8).transpose(3, 0, 1, 2).reshape(ROWS, -1)
    labels = np.frombuffer(raw, np.uint8, ROWS, count)[:, None]
    return np.concatenate([labels, pixels], axis=1).tobytes()


def read_batches(place: Place) -> dict[str, NDArray[np.uint8]]:
    """Each batch as (10000, 3073) bytes, checked.

    Raises:
        UserError: when a file is truncated or altered, or nothing could be fetched.
    """
    folder = place.mirror / "cifar10" if place.mirror else None
    files: dict[str, bytes] = {}
    if folder and all((folder / f"{name}.med.xz").is_file() for name in BATCHES):
        for name in BATCHES:
            path = folder / f"{name}.med.xz"
            try:
                files[name] = unpacked(path.read_bytes())
            except (lzma.LZMAError, EOFError, ValueError) as error:
                raise UserError(f"{path}: not a whole file ({error}). Replace it.") from error
            _check(name, files[name], path)
    else:
        path = place.fetch(ARCHIVE)
        with tarfile.open(path, "r:gz") as archive:
            for name in BATCHES:
                member = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
                assert member is not None
                files[name] = member.read()
                _check(name, files[name], path)
    return {n: np.frombuffer(data, np.uint8).reshape(ROWS, 3073) for n, data in files.items()}


def _check(name: str, data: bytes, path: Path) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != BATCHES[name]:
        raise UserError(
            f"{path}: the records of {name} have SHA-256 {digest}, expected {BATCHES[name]}. "
            "Replace the file by the original, or delete it to fetch it anew."
        )


def load(parameters: dict[str, Any], place: Place, size: int) -> Images:
    """Images of the five training batches, and of the test batch."""
    batches = read_batches(place)
    train, test = (
        np.concatenate([batches[name] for name in BATCHES if name.startswith(start)])
        for start in ("data", "test")
    )
    return of_arrays(
        train[:, 1:].reshape(-1, 3, 32, 32), train[:, 0].astype(np.int64),
        test[:, 1:].reshape(-1, 3, 32, 32), test[:, 0].astype(np.int64),
        CLASSES, parameters, size,
    )  # fmt: skip
