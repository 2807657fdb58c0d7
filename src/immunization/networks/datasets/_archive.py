"""Small images read directly from a .tar or .zip archive of their folder."""

from __future__ import annotations

import posixpath
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immunization.networks.datasets._images import decode
from immunization.networks.datasets._tree import Parts, has_parts, tree_of_names
from immunization.runtime.errors import UserError

Pixels = NDArray[np.uint8]


class Archive:
    """An archive of images, opened; names are read at once and images when they are asked for.

    Attributes:
        tree: its names, below the folder that holds the classes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        self._members: dict[Parts, Any] = {}  # in the order of the archive
        files, folders = self._names()
        self.tree, self._prefix = tree_of_names(str(path), files, folders)
        if not self.tree.images:
            self.close()
            raise UserError(f"{path}: holds no images in folders. One folder a class is expected.")

    def close(self) -> None:
        """Let go of the file."""
        for opened in (self._zip, self._tar):
            if opened is not None:
                opened.close()

    def _names(self) -> tuple[list[Parts], list[Parts]]:
        folders: list[Parts] = []
        entries: list[tuple[Any, str, bool, bool]]
        try:
            # A tar may end in a stored zip, which passes for one.
            if not tarfile.is_tarfile(self.path) and zipfile.is_zipfile(self.path):
                self._zip = zipfile.ZipFile(self.path)
                entries = [
                    (i, slashes(i.filename), i.is_dir(), not i.is_dir())
                    for i in self._zip.infolist()
                ]
            else:
                self._tar = tarfile.open(self.path)  # noqa: SIM115
                # A link within the archive is the file that it leads to.
                entries = []
                for m in self._tar:
                    if m.size < 0:  # from which tarfile would go backwards, for ever
                        raise ValueError(f"{m.name!a} has {m.size} bytes")
                    file = m.isfile() or m.islnk() or m.issym()
                    entries.append((m, m.name, m.isdir(), file))
                check_end(self._tar)
        except Exception as error:  # of whatever library reads this kind of file
            self.close()
            raise _broken(self.path, error) from error
        for member, name, folder, file in entries:
            parts = tuple(part for part in PurePosixPath(name).parts if part not in (".", "/"))
            if not parts:
                continue
            if ".." in parts:
                self.close()
                raise UserError(f"{self.path}: {name} leads out of the archive. Pack it anew.")
            if folder:
                folders.append(parts)
            elif file:
                # What stands twice is what stands last, as when it is unpacked.
                self._members.pop(parts, None)
                self._members[parts] = member
        files = list(self._members)
        inside = {parts[:depth] for parts in files for depth in range(1, len(parts))}
        for parts, member in self._members.items():
            if self._tar is not None and member.issym():
                base = "/".join(parts[:-1])
                target = posixpath.normpath(posixpath.join(base, member.linkname))
                if tuple(target.split("/")) in inside | set(folders):
                    self.close()
                    raise UserError(
                        f"{self.path}: {'/'.join(parts)} is a link to a folder. Pack the files "
                        "themselves (tar --dereference)."
                    )
        return files, folders

    def read(self, names: list[Parts], side: int) -> Pixels:
        """Images by their names in the tree, decoded and stacked.

        They are read in the order of the archive: going back in a compressed one starts anew.

        Raises:
            UserError: where one is no readable image, or a link that leads out of the archive.
        """
        wanted = {(*self._prefix, *name): place for place, name in enumerate(names)}
        decoded: dict[int, Pixels] = {}
        for parts, member in self._members.items():
            if parts in wanted:
                where = f"{self.path}: {'/'.join(parts)}"
                decoded[wanted[parts]] = decode(self._bytes(member, where), side, name=where)
        return np.stack([decoded[place] for place in range(len(names))])

    def _bytes(self, member: Any, where: str) -> bytes:
        try:
            if self._zip is not None:
                return self._zip.read(member)
            assert self._tar is not None
            file = self._tar.extractfile(member)
        except KeyError:
            raise UserError(
                f"{where}: a link that leads out of the archive. Pack the files themselves "
                "(tar --dereference)."
            ) from None
        except Exception as error:
            raise _broken(self.path, error) from error
        if file is None:
            raise UserError(f"{where}: leads to no file.")
        try:
            return file.read()
        except Exception as error:
            raise _broken(self.path, error) from error


def slashes(name: str) -> str:
    """A name in a zip that Windows programs wrote with backslashes."""
    return name if "/" in name else name.replace("\\", "/")


def check_end(archive: tarfile.TarFile) -> None:
    """Refuse a .tar that was read up to a damaged header, or is cut off: `tarfile` says nothing.

    Raises:
        ValueError: where no block of zeros ends it.
    """
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError("its end is missing, or a header within is damaged")
    while file.read(2**20):  # to the check sum of a compressed one
        pass


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a whole archive ({error}). Fetch it again; it may be truncated.")


def read_archive(path: Path, side: int) -> list[tuple[Pixels, NDArray[np.int64], list[str]]]:
    """Pixels (N, 3, side, side), labels and class names: of all, or of its train and test parts.

    Raises:
        UserError: when it is truncated or holds no images.
    """
    with closing(Archive(path)) as archive:
        trees = [archive.tree]
        if has_parts(archive.tree.top(), str(path)):
            trees = [archive.tree.below(part) for part in ("train", "test")]
        parts: list[tuple[Pixels, NDArray[np.int64], list[str]]] = []
        for part, tree in zip(("train", "test"), trees, strict=False):
            names, labels, classes = tree.labelled(parts[0][2] if parts else None)
            base: Parts = (part,) if len(trees) > 1 else ()
            pixels = archive.read([(*base, *name) for name in names], side)
            parts.append((pixels, np.array(labels, dtype=np.int64), classes))
        return parts
