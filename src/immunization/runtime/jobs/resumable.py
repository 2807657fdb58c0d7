"""Units of a long job that are saved when they are finished, so that a killed job resumes.

A unit is one or more files, named by a hash of all that it depends on. A killed job leaves whole
files or none.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import pandas as pd

from immunization.runtime.errors import UserError
from immunization.runtime.files.checksums import sidecar_path
from immunization.runtime.files.io import read_table, write_table
from immunization.runtime.jobs.shutdown import on_shutdown
from immunization.runtime.log import LOG
from immunization.runtime.threads import map_threads

DEFAULT_TABLES = ("steps", "curves")
Result = TypeVar("Result")


class ResultStore(Protocol[Result]):
    """How the result of a unit is stored in files."""

    def paths(self, stem: Path) -> list[Path]:
        """Its files, for a path without suffix."""

    def write(self, stem: Path, result: Result) -> None:
        """Write them atomically."""

    def read(self, stem: Path) -> Result:
        """The same to the last bit.

        Raises:
            UserError: when they are damaged.
        """


class ResumableUnits(Generic[Result]):
    """The units of one job.

    Args:
        folder: where they are stored.
        store: how.
        base: what all units depend on, as JSON: code, contents of files, settings.
        every: seconds between writes, and so the work that a kill may cost. A job that is quicker
            writes nothing. 0 writes each unit when it is finished, and uses what is read back.
    """

    def __init__(
        self, folder: Path, store: ResultStore[Result], base: Any, every: float = 0.0
    ) -> None:
        self.folder, self.store, self.base = folder, store, base
        self.every = every
        self._unsaved: dict[Path, Result] = {}
        self._saved = time.monotonic()

    def unit_path(self, key: Any) -> Path:
        """Path of a unit, without suffix."""
        text = json.dumps([self.base, key], sort_keys=True)
        return self.folder / hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def _there(self, stem: Path) -> bool:
        return all(path.is_file() for path in self.store.paths(stem))

    def _kept(self, stem: Path) -> Result | None:
        if self._there(stem):
            try:
                return self.store.read(stem)
            except UserError as error:  # damaged on disk: compute it again
                LOG.info("%s", error)
        return None

    def flush(self) -> None:
        """Write all finished units."""
        for stem, result in list(self._unsaved.items()):
            self.store.write(stem, result)
            self._unsaved.pop(stem, None)
        self._saved = time.monotonic()

    def run(
        self, keys: Sequence[Any], work: Callable[[int], Result], threads: int = 1
    ) -> list[Result]:
        """Run the units that are not stored yet.

        Args:
            keys: what each unit depends on besides the base, as JSON.
            work: computes a unit, given by number.
            threads: units at a time.

        Returns:
            The result of every unit, in order.
        """
        stems = [self.unit_path(key) for key in keys]
        kept = 0

        def one(number: int) -> Result:
            nonlocal kept
            result = self._kept(stems[number])
            if result is not None:
                kept += 1
                return result
            result = work(number)
            self._unsaved[stems[number]] = result
            if time.monotonic() - self._saved >= self.every:
                self.flush()
            LOG.info("unit %d of %d done", number + 1, len(stems))
            # As read back, so that a resumed job gives the same bytes.
            return result if self.every else self.store.read(stems[number])

        with on_shutdown(self.flush):
            results = map_threads(one, list(range(len(stems))), threads)
        LOG.info("%d units, %d of them saved before", len(stems), kept)
        self._unsaved.clear()
        return results

    def delete_others(self, keys: Sequence[Any] = ()) -> None:
        """Remove all units but some, and what a kill left half written."""
        wanted = {path for key in keys for path in self.store.paths(self.unit_path(key))}
        wanted |= {sidecar_path(path) for path in wanted}
        for path in self.folder.glob("*"):
            if path not in wanted:
                path.unlink(missing_ok=True)


class TablePairStore:
    """Stores a pair of tables.

    Args:
        kinds: what the two are called.
    """

    def __init__(self, kinds: tuple[str, str] = DEFAULT_TABLES) -> None:
        self.kinds = kinds

    def paths(self, stem: Path) -> list[Path]:
        """See `ResultStore`."""
        return [stem.with_name(f"{stem.name}.{kind}.parquet") for kind in self.kinds]

    def write(self, stem: Path, result: Frames) -> None:
        """See `ResultStore`."""
        for path, frame in zip(self.paths(stem), result, strict=True):
            write_table(path, frame.reset_index(drop=True))

    def read(self, stem: Path) -> Frames:
        """See `ResultStore`."""
        first, second = map(read_table, self.paths(stem))
        return first, second


def run_units(
    units: Sequence[WorkUnit],
    folder: Path,
    base: Any,
    threads: int,
    kinds: tuple[str, str] = DEFAULT_TABLES,
) -> list[Frames]:
    """Run the units that are not stored yet, and delete those of other keys.

    Args:
        units: of work.
        folder: where they are stored.
        base: what all units depend on, as JSON: code, contents of files, settings.
        threads: units at a time.
        kinds: what the two tables of a unit are called.

    Returns:
        The rows of every unit, in order.
    """
    saved = ResumableUnits(folder, TablePairStore(kinds), base)
    keys = [unit.key for unit in units]
    results = saved.run(keys, lambda number: units[number].run(), threads)
    saved.delete_others(keys)
    return results


Frames = tuple[pd.DataFrame, pd.DataFrame]


class WorkUnit(NamedTuple):
    """A unit of work.

    Attributes:
        key: what it depends on besides files and code, as JSON.
        run: gives the rows of both tables.
    """

    key: dict[str, Any]
    run: Callable[[], Frames]
