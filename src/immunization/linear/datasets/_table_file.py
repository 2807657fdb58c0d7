"""A CSV file as a frame of text cells, refused where it is not a clean table."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from immunization.runtime.errors import UserError

BYTES = 4 * 2**30
"""Most bytes that a compressed table may hold."""
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}


def read_text(path: Path) -> str:
    """The text of a file, compressed or not.

    Raises:
        UserError: when it is missing, empty, broken, or no text in UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Correct the path in the config.")
    try:
        raw = _unpacked(path)
    except (
        OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
        RuntimeError, NotImplementedError,  # encrypted, or packed in a way that is not known here
    ) as error:  # fmt: skip
        raise UserError(
            f"{path}: not a readable CSV file ({error}). It is damaged, cut off or encrypted; "
            "fetch it again, or unpack it."
        ) from error
    if len(raw) > BYTES:
        raise UserError(f"{path}: holds more than {BYTES / 2**30:.0f} GiB. Use a part of the rows.")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: not a readable CSV file: it is in UTF-16. Save it as UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not a readable CSV file: byte {error.start} is not UTF-8. Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise UserError(f"{path}: not a readable CSV file: it holds zero bytes, as no text does.")
    if not text.strip():
        raise UserError(f"{path}: not a readable CSV file: it is empty.")
    return text


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(6)
    kind = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        with path.open("rb") as file:
            return file.read(BYTES + 1)
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            names = [name for name in names if not name.startswith("__MACOSX")]
            if len(names) != 1:
                raise UserError(f"{path}: a zip of one CSV file is read; this holds {len(names)}.")
            with archive.open(names[0]) as member:
                return member.read(BYTES + 1)
    openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    with openers[kind](path, "rb") as file:
        content: bytes = file.read(BYTES + 1)
        return content


def read_cells(path: Path, separator: str) -> pd.DataFrame:
    """Every cell as text, stripped; the index counts rows of the file, the header being row 1.

    Last columns without a name and without a value, as commas at row ends make them, are dropped.

    Raises:
        UserError: for what is no table: rows of different lengths, names that stand twice or are
            missing.
    """
    if separator in '\r\n"':
        raise UserError(
            f"{path}: `separator` is {separator!r}, which ends or quotes cells. Give what stands "
            "between them."
        )
    text = read_text(path)
    width, longest = _width(path, text, separator)
    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, names=list(range(longest)), dtype=str,
            index_col=False, keep_default_na=False, skip_blank_lines=False,
        )  # fmt: skip
    except pd.errors.ParserError as error:
        raise UserError(f"{path}: not a readable CSV file ({str(error).strip()}).") from error
    frame.index = frame.index + 1
    frame = frame.iloc[:, :width].fillna("").apply(lambda column: column.str.strip())
    header, body = frame.iloc[0].tolist(), frame.iloc[1:]
    body = body[(body != "").any(axis=1)]
    body.columns = pd.Index(header)
    _check_names(path, header)
    return body


def _width(path: Path, text: str, separator: str) -> tuple[int, int]:
    """Cells of the header up to the last that has a name, and of the longest row; every row has as
    many, and what follows is empty."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    width = named = longest = 0
    for number, row in enumerate(rows, start=1):
        longest = max(longest, len(row))
        if number == 1:
            width = len(row)
            named = max(
                (place for place, cell in enumerate(row, start=1) if cell.strip()), default=0
            )
            if not named:
                raise UserError(f"{path}: row 1 is empty, where the names of the columns stand.")
            continue
        extra = "".join(row[named:]).strip()
        if not "".join(row).strip() or (len(row) >= named and not extra):
            continue
        if len(row) == width:
            raise UserError(_nameless(path, named + 1))
        raise UserError(
            f"{path}, row {number}: has {len(row)} cells, and the header {width}. "
            + (
                "Quote cells that hold the separator, or give the `separator` of this file."
                if len(row) > width
                else "The row is cut off, or a separator is missing."
            )
        )
    return named, longest


def _nameless(path: Path, column: int) -> str:
    return (
        f"{path}: column {column} has no name, as row numbers have that a program wrote beside the "
        "data. Remove it, or name it in the file."
    )


def _check_names(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise UserError(
            f"{path}: the column {twice[0]!r} stands twice. Rename one of the two in the file."
        )
    if "" in header:
        raise UserError(_nameless(path, header.index("") + 1))
