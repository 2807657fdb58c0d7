"""Public files from a mirror, the cache or the web, never used before their SHA-256 fits."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from immunization.errors import UserError
from immunization.files import atomic

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class File:
    """A public file.

    Attributes:
        path: relative to the mirror and to the cache, such as ``mnist/labels.gz``.
        sha256: of its bytes.
        urls: where to get it, tried in turn.
    """

    path: str
    sha256: str
    urls: tuple[str, ...]


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Place:
    """Where files come from.

    Attributes:
        mirror: a folder laid out like the cache (`data.mirror`), or None.
        cache: folder for downloads (`data.cache`).
    """

    mirror: Path | None
    cache: Path

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
            found = sha256(path)
            if found != file.sha256:
                raise UserError(
                    f"{path}: wrong checksum, the file is truncated or altered. Its SHA-256 is "
                    f"{found}, expected {file.sha256}. {remedy}"
                )
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
        tried = []
        for url in file.urls:
            try:
                with atomic(target) as temporary:
                    request = urllib.request.Request(url, headers={"User-Agent": "immunization"})
                    with (
                        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response,
                        temporary.open("wb") as out,
                    ):
                        shutil.copyfileobj(response, out)
                    found = sha256(temporary)
                    if found != file.sha256:
                        raise ValueError(f"wrong SHA-256 {found}, a truncated or altered download")
                return target
            except (OSError, ValueError, http.client.HTTPException) as error:
                tried.append(f"  {url}: {error}")
        raise UserError(
            f"{file.path}: no source had it with SHA-256 {file.sha256}.\n"
            + "\n".join(tried)
            + "\nCheck the network, or put the file into a folder under that path and name the "
            "folder in the config: `data: {mirror: FOLDER}`."
        )
