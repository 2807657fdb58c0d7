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

from immunization.errors import UserError

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
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not a readable CSV file ({error}). It is damaged or cut off; fetch it again."
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
        found: bytes = file.read(BYTES + 1)
        return found


def read_cells(path: Path, separator: str) -> pd.DataFrame:
    """Every cell as text, stripped; the index counts rows of the file, the header being row 1.

    A last column without a name and without a value, as commas at row ends make it, is dropped.

    Raises:
        UserError: for what is no table: rows of different lengths, names that stand twice or are
            missing.
    """
    text = read_text(path)
    width = _width(path, text, separator)
    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, names=list(range(width + 1)), dtype=str,
            index_col=False, keep_default_na=False, skip_blank_lines=False,
        )  # fmt: skip
    except pd.errors.ParserError as error:
        raise UserError(f"{path}: not a readable CSV file ({str(error).strip()}).") from error
    frame.index = frame.index + 1
    frame = frame.iloc[:, :width].fillna("").apply(lambda column: column.str.strip())
    header, body = frame.iloc[0].tolist(), frame.iloc[1:]
    body = body[(body != "").any(axis=1)]
    if not header[-1] and bool((body[width - 1] == "").all()):
        header, body = header[:-1], body.iloc[:, :-1]
    body.columns = pd.Index(header)
    _check_names(path, header)
    return body


def _width(path: Path, text: str, separator: str) -> int:
    """Cells of the header; every row has as many, or one more that is empty."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    width = 0
    for number, row in enumerate(rows, start=1):
        if number == 1:
            width = len(row)
            continue
        blank = not "".join(row).strip()
        trailing = len(row) == width + 1 and not row[-1].strip()
        if not (blank or trailing or len(row) == width):
            raise UserError(
                f"{path}, row {number}: has {len(row)} cells, and the header {width}. "
                + (
                    "Quote cells that hold the separator."
                    if len(row) > width
                    else "The row is cut off, or a separator is missing."
                )
            )
    return width


def _check_names(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise UserError(
            f"{path}: the column {twice[0]!r} stands twice. Rename one of the two in the file."
        )
    if "" in header:
        raise UserError(
            f"{path}: column {header.index('') + 1} has no name, as row numbers have that a "
            "program wrote beside the data. Remove it, or name it in the file."
        )
