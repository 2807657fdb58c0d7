"""Snakemake's events as one progress line: `snakemake --logger immunization`.

Snakemake finds loggers by the name of their package. `immunization run` asks for this one.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

OURS = (f"{os.sep}immunization{os.sep}", ".smk")
"""In the path of code whose messages are for people; Snakemake's own say how it goes about it."""
REPEATED = ("Exiting because a job execution failed", "At least one job did not complete")
"""In messages that say again that a job failed."""


class LogHandler(LogHandlerBase):
    """Hands events to `Progress`."""

    def __post_init__(self) -> None:
        # Here, since Snakemake imports all loggers that it finds, asked for or not, and the
        # Snakefile of another checkout then wants its own package.
        from immunization.tools.progress import Progress

        asked = self.common_settings.quiet or ()
        quiet = {str(getattr(each, "name", each)).lower() for each in asked}
        self.progress = Progress(
            sys.stderr,
            tty=sys.stderr.isatty() and "progress" not in quiet,
            dry=bool(getattr(self.common_settings, "dryrun", False)),
        )

    def emit(self, record: logging.LogRecord) -> None:
        """One event."""
        try:
            self._emit(record)
        except Exception:
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        self.progress.clock = record.created  # events wait in a queue
        event, about = getattr(record, "event", None), record.__dict__
        if event == LogEvent.RUN_INFO:
            self.progress.plan(about["stats"])
        elif event == LogEvent.JOB_INFO:
            wildcards = about.get("wildcards") or {}
            values = wildcards.values() if hasattr(wildcards, "values") else wildcards
            benchmark = about.get("benchmark")
            if benchmark and not self.progress.done and not self.progress.jobs:
                folder = Path(str(benchmark))
                while folder.name != "benchmark" and folder != folder.parent:
                    folder = folder.parent
                if folder.name == "benchmark" and folder.is_dir():
                    self.progress.known(folder)
            logs = [str(log) for log in about.get("log") or []]
            self.progress.job(
                about["jobid"], about["rule_name"], map(str, values), logs[0] if logs else "",
                str(about.get("reason") or ""),
            )  # fmt: skip
        elif event == LogEvent.JOB_FINISHED:
            for number in _numbers(about.get("job_id")):
                self.progress.finish(number)
        elif event == LogEvent.JOB_ERROR:
            logs = [str(log) for log in about.get("log") or []]
            self.progress.error(about["jobid"], about["rule_name"], logs)
        elif event in (LogEvent.ERROR, None):
            text = str(record.getMessage() or "")
            ours = any(part in record.pathname for part in OURS)
            repeated = about.get("exception") == "RuleException" or any(w in text for w in REPEATED)
            if text and text != "None" and not repeated and (
                record.levelno >= logging.WARNING or ours
            ):  # fmt: skip
                self.progress.message(text)

    def close(self) -> None:
        """The end of the run."""
        report = os.environ.get("IMMUNIZATION_REPORT", "")
        self.progress.end(report if Path(report).is_file() else "")
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """To standard error."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """No."""
        return False

    @property
    def has_filter(self) -> bool:
        """It picks what it shows."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Likewise."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """No."""
        return False


def _numbers(value: Any) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
