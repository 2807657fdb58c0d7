"""Unpack the archive of a study, which may come from a stranger, or damaged."""

from __future__ import annotations

import errno
import gzip
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from immunization.runtime.errors import UserError

MOST_BYTES = 200 * 2**30
"""What an archive may unpack to, unless more is allowed: a small file can hold endless zeros."""
MOST_HEADERS = 2**26
"""What the heads of all members may take, which are read into memory: more than 100,000 files."""
DEEPEST, LONGEST_PATH = 40, 1000
"""Folders and bytes of a member's path; systems refuse more, some of them late."""
PADDING = 2**20
"""More than any archive has behind its last member."""


class _Guarded(gzip.GzipFile):
    """Reads up to a given number of bytes; skipped ones do not count."""

    left = MOST_HEADERS

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise UserError(
                f"{self.name}: the heads of its members take more than {MOST_HEADERS // 2**20} "
                "MiB. Refused."
            )
        self.left -= size
        return super().read(size)


def extract(path: Path, into: Path, most: int = MOST_BYTES) -> int:
    """Unpack a .tar.gz; the number of files.

    Plain files and folders alone are unpacked, below ``into`` alone, no more than ``most`` bytes,
    and only when the checksum of the whole archive is right.

    Raises:
        UserError: for links, devices, paths that lead out, names that come twice, too much data or
            too many members, a damaged archive, a full disk, or a folder that is not empty. Nothing
            is left behind.
    """
    into = into.absolute()
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"{into}: is not an empty folder. Name a new folder: --into FOLDER.")
    if not path.is_file():
        raise UserError(f"{path}: no such archive.")
    try:
        with _Guarded(path) as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
            members = _checked(path, archive, most)
            _to_the_end(path, raw)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole archive ({error}). Fetch it again.") from error
    draft = None
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{into.name}.unpacking-", dir=into.parent))
        draft.chmod(0o755)
        with tarfile.open(path, "r:gz") as archive:
            for member in members:
                archive.extract(member, draft, filter="data")
        if into.exists():
            into.rmdir()
        draft.rename(into)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"cannot be written ({error.strerror or error})"
        raise UserError(f"{into}: {reason}. Nothing was unpacked.") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    return sum(member.isfile() for member in members)


def _to_the_end(path: Path, raw: gzip.GzipFile) -> None:
    """Read what is left, so that the checksum at the end is compared.

    A damaged header looks like the end of an archive, and what follows would be left out.
    """
    left = PADDING
    while block := raw.read(2**16):
        left -= len(block)
        if left < 0:
            raise UserError(f"{path}: holds more data after its last member. Refused.")


def _checked(path: Path, archive: tarfile.TarFile, most: int) -> list[tarfile.TarInfo]:
    total, names, members = 0, set(), []
    for member in archive:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or "\\" in member.name:
            raise UserError(f"{path}: member {member.name!r} leads out of the folder. Refused.")
        if not (member.isfile() or member.isdir()):
            raise UserError(
                f"{path}: member {member.name!r} is a link or a device; archives of studies hold "
                "plain files. Refused."
            )
        if member.isfile() and name in names:
            raise UserError(f"{path}: member {member.name!r} is listed twice. Refused.")
        if "\0" in member.name or len(member.name.encode(errors="replace")) > LONGEST_PATH:
            raise UserError(f"{path}: member {member.name[:60]!r} has no name for a file. Refused.")
        if len(name.parts) > DEEPEST:
            raise UserError(
                f"{path}: member {member.name[:60]!r}… lies more than {DEEPEST} folders deep. "
                "Refused."
            )
        if member.size < 0 or member.issparse():
            raise UserError(
                f"{path}: member {member.name!r} has {member.size} bytes, or holes. Refused."
            )
        names.add(name)
        total += member.size
        if total > most:
            raise UserError(
                f"{path}: unpacks to more than {most} bytes. Allow more with --most-gb, if you "
                "trust it."
            )
        members.append(member)
    return members
