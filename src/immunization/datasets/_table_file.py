"""A CSV file as a frame of text cells, refused where it is not a clean table."""

from __future__ import annotations

import bz2
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
    options = {
        "sep": separator, "header": None, "dtype": str, "keep_default_na": False,
        "skip_blank_lines": False, "engine": "c",
    }  # fmt: skip
    head = pd.read_csv(io.StringIO(text), nrows=1, **options)
    width = head.shape[1]
    try:
        frame = pd.read_csv(
            io.StringIO(text), names=list(range(width + 1)), index_col=False, **options
        )
    except pd.errors.ParserError as error:
        raise UserError(
            f"{path}: not a readable CSV file ({str(error).strip()}). The header has {width} "
            f"columns, separated by {separator!r}; see `separator`."
        ) from error
    header = [str(name).strip() for name in frame.iloc[0, :width]]
    body = frame.iloc[1:]
    body.index = body.index + 1
    blank = (body.isna() | body.map(lambda cell: not str(cell).strip())).all(axis=1)
    body = body[~blank]
    extra = body[width].fillna("").str.strip()
    if bool((long := extra != "").any()):
        raise UserError(
            f"{path}, row {long.idxmax()}: has more cells than the header's {width}. Quote cells "
            "that hold the separator."
        )
    body = body.iloc[:, :width]
    if bool((short := body.isna().any(axis=1)).any()):
        raise UserError(
            f"{path}, row {short.idxmax()}: has {int(body.loc[short.idxmax()].notna().sum())} "
            f"cells, and the header {width}. The row is cut off, or a separator is missing."
        )
    body = body.apply(lambda column: column.str.strip())
    if not header[-1] and bool((body[width - 1] == "").all()):
        header, body = header[:-1], body.iloc[:, :-1]
    body.columns = pd.Index(header)
    _check_names(path, header)
    return body


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
