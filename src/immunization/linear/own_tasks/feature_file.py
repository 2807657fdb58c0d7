"""Features and labels in a user's files, each in the dtype that it has there; nothing unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from immunization.linear.own_tasks.task import matrix
from immunization.runtime.errors import UserError

FEATURES = (".npy", ".npz", ".safetensors", ".parquet")
LABELS = (*FEATURES, ".csv")


def read_features(
    path: Path | str, array: str | None = None, *, without: Sequence[str] = ()
) -> Tensor:
    """Features of a file, shape (N, D), in their own dtype.

    Args:
        path: .npy; .npz and .safetensors, of whose arrays `array` names one; .parquet, whose
            columns are features, or one column of lists.
        array: see above; where a file holds a single matrix it needs no name.
        without: columns of a .parquet file that are no features.

    Raises:
        UserError: for a file that is missing, damaged, of another kind, or no finite matrix.
    """
    path = Path(path)
    _check(path, FEATURES)
    if path.suffix == ".parquet":
        return matrix(_columns(path, _parquet(path), without), str(path))
    return matrix(_array(path, array, 2), str(path))


def read_labels(path: Path | str, column: str | None = None) -> np.ndarray:
    """Labels of a file, shape (N,).

    Args:
        path: as for features, or a .csv with a header line.
        column: of a .csv or .parquet, or the name of an array, where there are several.

    Raises:
        UserError: as `read_features`, and where there are several columns and none is named.
    """
    path = Path(path)
    _check(path, LABELS)
    if path.suffix == ".csv":
        return _csv(path, column)
    if path.suffix == ".parquet":
        frame = _parquet(path)
        name = _one(path, [str(name) for name in frame.columns], column, "column")
        return np.asarray(frame[name].to_numpy())
    values = _array(path, column, 1)
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check(path: Path, suffixes: Sequence[str]) -> None:
    if path.suffix not in suffixes:
        hint = ""
        if path.suffix in (".pt", ".pth", ".pkl", ".bin"):
            hint = (
                " Such files are pickles, which can run code when they are loaded. Convert it "
                "where it may: numpy.save(path, array), or save_file of safetensors.torch."
            )
        raise UserError(f"{path}: the suffix is none of {', '.join(suffixes)}.{hint}")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file (from {Path.cwd()}).")


def _one(path: Path, names: list[str], wanted: str | None, what: str) -> str:
    """The name that is wanted, or the only one."""
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    if wanted is not None:
        if wanted not in names:
            raise UserError(f"{path}: has no {what} {wanted!r}; it has {shown}.")
        return wanted
    if len(names) != 1:
        raise UserError(f"{path}: has several {what}s; name one of {shown}.")
    return names[0]


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read as {path.suffix} ({error}).")


def _array(path: Path, wanted: str | None, dimensions: int) -> Any:
    """An array or tensor of a file; of several that with the right number of dimensions."""
    try:
        if path.suffix == ".npy":
            if wanted is not None:
                raise UserError(
                    f"{path}: an .npy file holds one array and no names, such as {wanted!r}. Name "
                    "a file of its own for the labels."
                )
            loaded = np.load(path, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                raise ValueError("it is an .npz archive")
            return loaded
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                shapes = {name: file[name].ndim for name in file.files}
                return file[_named(path, shapes, wanted, dimensions)]
        from safetensors import safe_open

        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            ranks = {name: len(opened.get_slice(name).get_shape()) for name in names}
            return opened.get_tensor(_named(path, ranks, wanted, dimensions))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # safetensors has one of its own
        if type(error).__name__ != "SafetensorError":
            raise
        raise _unreadable(path, error) from error


def _named(path: Path, ranks: dict[str, int], wanted: str | None, dimensions: int) -> str:
    fitting = [name for name, rank in ranks.items() if rank == dimensions]
    if wanted is None and not fitting:
        shapes = ", ".join(f"{name} ({rank}-dimensional)" for name, rank in ranks.items())
        raise UserError(f"{path}: holds no {dimensions}-dimensional array; it has {shapes}.")
    return _one(path, list(ranks) if wanted is not None else fitting, wanted, "array")


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except Exception as error:  # pyarrow's derive from several classes
        raise _unreadable(path, error) from error


def _columns(path: Path, frame: pd.DataFrame, without: Sequence[str]) -> np.ndarray:
    for name in without:
        if name not in frame.columns:
            _one(path, [str(column) for column in frame.columns], name, "column")
    left = frame.drop(columns=list(without))
    # Lists, as embeddings are stored.
    if left.shape[1] == 1 and pd.api.types.is_object_dtype(left.dtypes.iloc[0]):
        rows = [np.asarray(row) for row in left.iloc[:, 0]]
        if len({row.shape for row in rows}) != 1:
            raise UserError(f"{path}: the lists of column {left.columns[0]!r} differ in length.")
        return np.stack(rows)
    text = [str(n) for n, dtype in left.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    if text:
        raise UserError(
            f"{path}: the column {text[0]!r} holds no numbers. If it is the label, name it; "
            "otherwise leave it out of the file."
        )
    return np.asarray(left.to_numpy())


def _csv(path: Path, column: str | None) -> np.ndarray:
    """Cells of one column: whole numbers, floats or text, as all of them are."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    names = [str(name) for name in frame.columns]
    name = _one(path, names, column, "column")
    if column is None and name.replace(".", "", 1).lstrip("-").isdigit():
        raise UserError(
            f"{path}: its first line is {name!r}, where the name of the column should stand. Put "
            "a line with a name, such as label, before the labels."
        )
    cells = frame[name]
    empty = cells.str.strip() == ""
    if empty.any():
        raise UserError(f"{path}, column {name!r}: row {int(empty.idxmax())} is empty.")
    if cells.str.fullmatch(r"-?(0|[1-9][0-9]{0,17})").all():
        return cells.astype(np.int64).to_numpy()
    try:
        return cells.astype(np.float64).to_numpy()
    except ValueError:
        return cells.to_numpy(dtype=str)
