"""The edges: atomic and sealed writes, and reads that explain what is wrong with a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immunization.runtime.errors import UserError
from immunization.runtime.files.atomic import atomic
from immunization.runtime.files.checksums import verify_or_quarantine

if TYPE_CHECKING:  # tables and figures run without torch, methods without pandas
    import pandas as pd
    from torch import Tensor


def files_below(path: str | Path) -> list[Path]:
    """A file itself, or all that lie in a folder, in order; links are followed, hidden ones left
    out."""
    if not Path(path).is_dir():
        return [Path(path)]
    files, seen = [], set()
    for base, below, names in os.walk(path, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link to a folder that it lies in
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        files += [Path(base, name) for name in sorted(names) if not name.startswith(".")]
    return files


def write_text(path: Path | str, text: str, record: Any = None) -> None:
    """Write UTF-8 text atomically; ``record`` as in `atomic`."""
    with atomic(path, record) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a Parquet file atomically, without the index."""
    with atomic(path, frame.attrs.get("provenance")) as temporary:
        frame.to_parquet(temporary, index=False)


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Check the seal of a file, and explain what keeps the block from reading it.

    Raises:
        UserError: when it is missing, damaged, cut short or of another kind.
    """
    verify_or_quarantine(path)
    try:
        yield
    except Exception as error:
        # The errors of pyarrow derive from these; safetensors has one of its own.
        ours = OSError, ValueError, KeyError, RecursionError
        if not isinstance(error, ours) and type(error).__name__ != "SafetensorError":
            raise
        raise _unreadable(path, error) from error


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a Parquet file.

    Raises:
        UserError: as `reading`.
    """
    import pandas as pd

    with reading(path):
        return pd.read_parquet(path)


def read_tables(paths: Iterable[Path | str]) -> pd.DataFrame:
    """Parquet files one below the other, those without rows left out.

    Raises:
        UserError: as `reading`.
    """
    import pandas as pd

    frames = [frame for frame in map(read_table, paths) if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read_text(path: Path | str) -> str:
    """Read a text file in UTF-8.

    Raises:
        UserError: as `reading`.
    """
    with reading(path):
        return Path(path).read_text(encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: as `reading`.
    """
    with reading(path):
        return json.loads(read_text(path))


TEXT = (
    "dataset",
    "method",
    "attack",
    "quantity",
    "published_in",
    "verdict",
    "network",
    "harmful",
    "task",
)
"""Columns of our tables that hold text."""


def read_csv(path: Path | str) -> pd.DataFrame:
    """Read a CSV table of ours; labels stay text, also one that reads ``NA`` or ``007``.

    Raises:
        UserError: as `reading`.
    """
    import pandas as pd

    with reading(path):
        return pd.read_csv(
            path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""]
        )


def write_tensors(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    record: Any = None,
) -> None:
    """Write tensors with their JSON metadata to a safetensors file atomically.

    ``record`` as in `atomic`; by default what the metadata have as ``provenance``.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic(path, record or metadata.get("provenance")) as temporary:
        save_file(contiguous, temporary, {"json": json.dumps(metadata, sort_keys=True)})


def read_tensors(path: Path | str, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file and its metadata; the counterpart of `write_tensors`.

    Raises:
        UserError: as `reading`.
    """
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt", device=device) as file:
        metadata = json.loads((file.metadata() or {})["json"])
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The metadata of a safetensors file of ours.

    Raises:
        UserError: as `reading`.
    """
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        metadata: dict[str, Any] = json.loads((file.metadata() or {})["json"])
        return metadata


def read_tensor(
    path: Path | str, name: str, device: str = "cpu", rows: Sequence[int] | None = None
) -> Tensor:
    """One tensor of a safetensors file, the others left on disk.

    Args:
        path: the file.
        name: of the tensor.
        device: where to.
        rows: places along the first axis, in any order and repeatedly; all by default.

    Raises:
        UserError: as `reading`, and where it holds no such tensor.
    """
    import torch
    from safetensors import safe_open

    with reading(path), safe_open(path, "pt", device=device if rows is None else "cpu") as file:
        if rows is None:
            tensor: Tensor = file.get_tensor(name)
            return tensor
        part = file.get_slice(name)
        known = {row: part[row : row + 1].to(device) for row in set(rows)}
        return torch.cat([known[row] for row in rows])


def refuse_nan(path: Path | str, name: str, tensor: Tensor) -> Tensor:
    """A tensor of a file, unless some of it is not finite.

    Raises:
        UserError: naming the file and the tensor.
    """
    import torch

    if not bool(torch.isfinite(tensor).all()):
        raise UserError(
            f"{path}: '{name}' holds values that are not finite. Delete the file and run the same "
            "command again; only what depends on it is recomputed."
        )
    return tensor


def _unreadable(path: Path | str, error: Exception) -> UserError:
    path = Path(path)
    aside = path.with_name(f"{path.name}.damaged")
    if not path.exists() and aside.exists():  # another attempt of the same job said so in full
        return UserError(
            f"{path}: is damaged and was renamed to {aside.name}. Run the same command again to "
            "recompute it and what depends on it."
        )
    if not path.exists():
        return UserError(
            f"{path}: cannot be read, since it does not exist. If it is a result of a study, run "
            "the stage that makes it first; snakemake runs all of them in order."
        )
    return UserError(
        f"{path}: cannot be read ({error}). It may be left over from an interrupted run or "
        "damaged on disk. Delete it and run the same command again; only what depends on it "
        "is recomputed."
    )
