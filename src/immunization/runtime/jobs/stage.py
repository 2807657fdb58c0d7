"""What a stage is asked to do, and what every stage needs to do it.

A stage of either kind of study is a function ``run(stage)`` beside the science that it calls. Here
is the rest: the device, threads, units of work that are kept, and where the results come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immunization.runtime.files.io import write_table
from immunization.runtime.record.provenance import provenance
from immunization.runtime.threads import limit_torch_to_one_thread

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Stage:
    """One job.

    Attributes:
        name: of the stage, such as ``"immunize"``.
        study: what study.json holds: ``config`` and ``order``.
        labels: what the job is for, such as the label of a method.
        paths: where files of the study lie.
        wanted: device, ``"auto"``, ``"cpu"`` or ``"cuda"``.
        threads: that the job may use.
        checkpoint_seconds: the most work, in seconds, that a killed job loses.
        mirror, cache: folders with public files, and for downloads.
    """

    name: str
    study: dict[str, Any]
    labels: tuple[str, ...]
    paths: Any
    wanted: str = "auto"
    threads: int = 1
    checkpoint_seconds: float = 60.0
    mirror: str = ""
    cache: str = ".cache/data"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        config: dict[str, Any] = self.study["config"]
        return config

    @property
    def order(self) -> dict[str, Any]:
        """Labels in the order of the config, and their components."""
        order: dict[str, Any] = self.study["order"]
        return order

    @property
    def label(self) -> str:
        """The first of `labels`."""
        return self.labels[0]

    @property
    def progress(self) -> Path:
        """Folder with finished units of this job."""
        return Path(self.paths.progress(self.name, *self.labels))

    def device(self) -> str:
        """Claim the device that the job computes on: ``"cpu"`` or ``"cuda"``."""
        from immunization.runtime.gpus.device import acquire_device  # needs torch; tables do not

        return acquire_device(self.wanted)

    def batched_device(self) -> tuple[str, int]:
        """The same for work that is spread over batches: an operation of torch gets one thread.

        Returns:
            The device, and the batches to compute at a time: one on a GPU.
        """
        limit_torch_to_one_thread()
        device = self.device()
        return device, self.threads if device == "cpu" else 1

    def record(
        self,
        parameters: dict[str, Any],
        *modules: str,
        device: str = "cpu",
        components: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Where results of this job come from.

        Args:
            parameters: what the stage was asked to do.
            modules: what ran, from the wing's package on, such as ``"methods.alg1"``.
            device: where it was done.
            components: modules of components that ran, whole names or paths.
        """
        wing = f"immunization.{self.paths.wing}"
        names = [*(f"{wing}.{module}" for module in modules), *components]
        return provenance(names, parameters, device)


def write_tables(
    paths: Sequence[Path | str], frames: Sequence[pd.DataFrame], record: dict[str, Any]
) -> None:
    """Write Parquet files that share where they come from."""
    for path, frame in zip(paths, frames, strict=True):
        frame.attrs["provenance"] = record
        write_table(path, frame)
