"""A checkpoint of a long loop: tensors and JSON in one file, valid for one key."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from immunization.runtime.errors import UserError
from immunization.runtime.files.checksums import sidecar_path
from immunization.runtime.files.io import read_tensors, write_tensors
from immunization.runtime.jobs.shutdown import exit_if_requested, shutdown_requested


class Checkpoint:
    """A file that a long run writes every few minutes, and resumes from.

    Args:
        path: a .safetensors file; None for a run without checkpoints.
        key: what the run depends on, as JSON; a file with another key is not used.
        every: seconds between two writes.
    """

    def __init__(self, path: Path | None, key: Any, every: float = 120.0) -> None:
        self.path, self.key, self.every = path, key, every
        self._last = time.monotonic()

    def read(self, device: torch.device | str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and metadata of an unfinished run like this one, if there is one."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            tensors, metadata = read_tensors(self.path, str(device))
        except UserError:  # damaged on disk: begin anew
            return None
        return (tensors, metadata["state"]) if metadata.get("key") == self.key else None

    def due(self) -> bool:
        """Whether it is time to write, or the process has been asked to end."""
        if self.path is None:
            return False
        return shutdown_requested() or time.monotonic() - self._last >= self.every

    def write(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write now, atomically; ends the process if it has been asked to."""
        if self.path is not None:
            write_tensors(self.path, tensors, {"key": self.key, "state": state})
            self._last = time.monotonic()
            exit_if_requested()

    def remove(self) -> None:
        """The run is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            sidecar_path(self.path).unlink(missing_ok=True)


def empty_folder(folder: Path) -> None:
    """Empty a job's own folder of unfinished work: also of what a kill left amid a write."""
    for path in folder.glob("*"):
        path.unlink(missing_ok=True)
