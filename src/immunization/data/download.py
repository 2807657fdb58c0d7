"""Public files from a mirror, the cache or the web, never used before their SHA-256 fits.

Nothing is asked for but over HTTPS, also where a server redirects, and no more is read than a
file may have.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from immunization.runtime.errors import UserError
from immunization.runtime.files.atomic import atomic, remove_drafts
from immunization.runtime.files.checksums import sha256
from immunization.runtime.files.io import files_below

TIMEOUT_SECONDS = 30
MOST_SECONDS = 3600
"""For one file from one address: a server that sends a byte now and then never times out."""
MOST_BYTES = 4 * 2**30
"""More than any public file has: what is longer is not what was asked for."""


class _Secure(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTPS alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not newurl.startswith("https://"):
            raise ValueError(f"redirected to {newurl}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a stream, up to `MOST_BYTES` and for `MOST_SECONDS`."""
    left, end = MOST_BYTES, time.monotonic() + MOST_SECONDS
    while block := source.read1(2**20):  # type: ignore[attr-defined]  # what is there, at once
        left -= len(block)
        if time.monotonic() > end:
            raise ValueError(f"not here after {MOST_SECONDS} seconds")
        if left < 0:
            raise ValueError(f"longer than {MOST_BYTES} bytes, not the file that was asked for")
        target.write(block)


@dataclass(frozen=True)
class File:
    """A public file.

    Attributes:
        path: relative to the mirror and to the cache, such as ``mnist/labels.gz``.
        sha256: of its bytes.
        urls: where to get it, tried in turn; HTTPS alone.

    Raises:
        ValueError: for an address of another kind, or a path that leads out of the folder.
    """

    path: str
    sha256: str
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        for url in self.urls:
            if not url.startswith("https://"):
                raise ValueError(f"Public files come over HTTPS. Got {url!r}.")
        if Path(self.path).is_absolute() or ".." in Path(self.path).parts:
            raise ValueError(f"Paths lead into the mirror and the cache. Got {self.path!r}.")


@dataclass(frozen=True)
class Place:
    """Where files come from.

    Attributes:
        mirror: a folder laid out like the cache (`data.mirror`), or None.
        cache: folder for downloads (`data.cache`).
        used: SHA-256 of the files that were asked for and found, by path.
    """

    mirror: Path | None
    cache: Path
    used: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, mirror: str, cache: str) -> Place:
        """From the words of a command line.

        Raises:
            UserError: where the mirror is no folder.
        """
        folder = Path(mirror).expanduser() if mirror else None
        if folder is not None and not folder.is_dir():
            raise UserError(
                f"config key 'data.mirror': {folder} is not a folder. Correct it, or leave it out "
                "to download the public files."
            )
        return cls(folder, Path(cache).expanduser())

    def find(self, file: File) -> Path | None:
        """The file on this machine, checked, or None if it is not here.

        Raises:
            UserError: when it is here with other contents.
        """
        for folder, remedy in (
            (self.mirror, "Replace it by the original, or leave out data.mirror to download it."),
            (self.cache, "Delete it and run again to download it anew."),
        ):
            if folder is None or not (path := folder / file.path).is_file():
                continue
            digest = sha256(path)
            if digest != file.sha256:
                raise UserError(
                    f"{path}: wrong checksum, the file is truncated or altered. Its SHA-256 is "
                    f"{digest}, expected {file.sha256}. {remedy}"
                )
            self.used[file.path] = digest
            return path
        return None

    def fetch(self, file: File) -> Path:
        """The file on this machine, downloaded if need be.

        Raises:
            UserError: when no source yields the right bytes; lists what each one said.
        """
        if (path := self.find(file)) is not None:
            return path
        target = self.cache / file.path
        remove_drafts(target.parent, seconds=24 * MOST_SECONDS)  # of downloads that were killed
        tried = []
        opener = urllib.request.build_opener(_Secure)
        for url in file.urls:
            try:
                request = urllib.request.Request(url, headers={"User-Agent": "immunization"})
                with (
                    opener.open(request, timeout=TIMEOUT_SECONDS) as response,
                    atomic(target, sealed=False) as temporary,
                ):
                    with temporary.open("wb") as out:
                        _copy(response, out)
                    digest = sha256(temporary)
                    if digest != file.sha256:
                        raise ValueError(f"wrong SHA-256 {digest}, a truncated or altered download")
                self.used[file.path] = file.sha256
                return target
            except (OSError, ValueError, http.client.HTTPException) as error:
                tried.append(f"  {url}: {error}")
        raise UserError(
            f"{file.path}: no source had it with SHA-256 {file.sha256}.\n"
            + "\n".join(tried)
            + "\nCheck the network, or put the file into a folder under that path and name the "
            "folder in the config: `data: {mirror: FOLDER}`."
        )


def files_behind(place: Place, own: str | None) -> dict[str, dict[str, str]]:
    """SHA-256 of the files that a data set was read from, for its provenance.

    Args:
        place: which has found the public ones.
        own: path of a user's own file or folder, if there is one.
    """
    files = {"public": dict(sorted(place.used.items()))}
    if own and Path(own).exists():
        files["own"] = {own: content(own)}
    return files


def content(path: str | Path) -> str:
    """SHA-256 of a file; of a folder, that of the names and sums of all files in it."""
    if Path(path).is_file():
        return sha256(path)
    files = [file for file in files_below(path) if file.is_file()]
    with ThreadPoolExecutor(8) as pool:  # most of the time goes to the disk
        sums = list(pool.map(sha256, files))
    digest = hashlib.sha256()
    for file, digest_of_file in zip(files, sums, strict=True):
        name = file.relative_to(path).as_posix()
        digest.update(f"{digest_of_file}  {name}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
