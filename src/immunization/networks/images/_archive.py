"""Small images read straight from a .tar archive with one folder a class."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from immunization.errors import UserError
from immunization.networks.images._folders import SUFFIXES
from immunization.networks.images._images import decode


def read_archive(path: Path, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Pixels (N, 3, size, size), labels and class names, in alphabetical order of paths.

    Raises:
        UserError: when it is truncated or holds no images.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if member.isfile() and name.suffix.lower() in SUFFIXES and len(name.parts) > 1:
                    file = archive.extractfile(member)
                    assert file is not None
                    found[member.name] = decode(file.read(), size)
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise UserError(
            f"{path}: not a whole archive ({error}). Fetch it again; it may be truncated."
        ) from error
    if not found:
        raise UserError(f"{path}: holds no images in folders. One folder a class is expected.")
    names = sorted(found)
    folders = [PurePosixPath(name).parent.name for name in names]
    classes = sorted(set(folders))
    number = {name: place for place, name in enumerate(classes)}
    labels = np.array([number[folder] for folder in folders], dtype=np.int64)
    return np.stack([found[name] for name in names]), labels, classes
