"""Pieces of a long job that are kept as they are finished, so that an interrupted one goes on.

Each piece is a pair of Parquet files named by a hash of all that it depends on; a killed job leaves
whole files or none. Pieces that a finished job did not use are removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from immunization import stage
from immunization.engines._job import Frames, Unit
from immunization.errors import UserError
from immunization.files import read_table, write_table

KINDS = ("steps", "curves")


def identity_of(path: str | Path) -> list[Any]:
    """A file's size and time of change, which a rewritten one does not keep."""
    found = Path(path).stat()
    return [str(path), found.st_size, found.st_mtime_ns]


def run_units(
    units: Sequence[Unit],
    folder: Path,
    base: Any,
    threads: int,
    kinds: tuple[str, str] = KINDS,
) -> list[Frames]:
    """Run what is not there yet.

    Args:
        units: pieces of work.
        folder: where they are kept.
        base: what all pieces depend on, as JSON: code, files, settings.
        threads: pieces at a time.
        kinds: what the two tables of a piece are called.

    Returns:
        The rows of every piece, in order.
    """

    def name(unit: Unit) -> str:
        text = json.dumps([base, unit.key], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    names = [name(unit) for unit in units]
    kept = 0

    def one(number: int) -> Frames:
        nonlocal kept
        paths = [folder / f"{names[number]}.{kind}.parquet" for kind in kinds]
        if all(path.is_file() for path in paths):
            try:
                found = [read_table(path) for path in paths]
                kept += 1
                return found[0], found[1]
            except UserError:  # damaged on disk: do it again
                pass
        frames = units[number].run()
        for path, frame in zip(paths, frames, strict=True):
            write_table(path, frame.reset_index(drop=True))
        stage.LOG.info("piece %d of %d done", number + 1, len(units))
        # As read back, so that a resumed job gives the same bytes.
        return read_table(paths[0]), read_table(paths[1])

    found = stage.map_threads(one, list(range(len(units))), threads)
    stage.LOG.info("%d pieces, %d of them kept from before", len(units), kept)
    wanted = {f"{n}.{kind}.parquet" for n in names for kind in kinds}
    for path in folder.glob("*"):
        if path.name not in wanted:  # also what a kill left half written
            path.unlink()
    return found
