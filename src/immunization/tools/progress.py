"""What people see while a study runs: one line, an error where there is one, and where to look.

`snakemake_logger_plugin_immunization` hands it Snakemake's events; it knows nothing else of it.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

SECONDS = {
    "prepare": 4.0, "pretrain": 20.0, "immunize": 8.0, "spectrum": 6.0, "attack": 15.0,
    "tables": 6.0, "figure": 3.0, "report_page": 3.0, "manifest": 1.0, "study": 1.0, "all": 0.0,
}  # fmt: skip
"""What a job of a rule takes until one has been seen; only their ratios matter much."""
LAST_LINES = 15
"""Of the log of a job that failed."""
SHOWN_JOBS = 3
"""Running jobs that the line names."""


def rule_kind(rule: str) -> str:
    """``figure`` for the rule of any figure, else the rule itself.

    >>> rule_kind("figure_slowdown"), rule_kind("immunize")
    ('figure', 'immunize')
    """
    return "figure" if rule.startswith("figure_") else rule


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(42), duration(130), duration(7500)
    ('42 s', '2 min', '2 h 5 min')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Job:
    """A job that runs.

    Attributes:
        rule: that it is of.
        label: what people call it, such as ``immunize alg1``.
        log: its log file, if it has one.
        started: time, or None while it waits.
    """

    rule: str
    label: str
    log: str = ""
    started: float | None = None


@dataclass
class Progress:
    """Counts jobs and writes.

    Args:
        out: where to.
        tty: whether a line may be written over; otherwise each finished job has a line.
        dry: whether jobs are only listed.
        clock: seconds.
    """

    out: TextIO
    tty: bool = False
    dry: bool = False
    clock: float | None = None
    jobs: dict[int, Job] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    done: int = 0
    failed: list[str] = field(default_factory=list)
    _took: dict[str, list[float]] = field(default_factory=dict)
    _spent: float = 0.0
    _shown: bool = False
    _planned: bool = False
    _ended: bool = False

    def now(self) -> float:
        """Seconds, by the clock of the machine unless one is set."""
        return time.monotonic() if self.clock is None else self.clock

    def plan(self, stats: Mapping[str, int]) -> None:
        """How many jobs of each rule there are."""
        self.left = Counter({rule: n for rule, n in stats.items() if rule not in ("total", "all")})
        if self.dry and self.left and not self._planned:
            counts = Counter({rule_kind(rule): 0 for rule in self.left})
            for rule, number in self.left.items():
                counts[rule_kind(rule)] += number
            parts = ", ".join(f"{number} {kind}" for kind, number in counts.items())
            self.write(f"{sum(self.left.values())} jobs would run: {parts}.")
        self._planned = True

    def known(self, folder: Path) -> None:
        """Take what jobs took in an earlier run, from Snakemake's benchmark files."""
        for path in folder.rglob("*.jsonl"):
            try:
                seconds = float(json.loads(path.read_text().splitlines()[-1])["s"])
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                continue
            rule = path.relative_to(folder).parts[0].removesuffix(".jsonl")
            self._took.setdefault(rule_kind(rule), []).append(seconds)

    def job(self, number: int, rule: str, wildcards: Iterable[str], log: str, reason: str) -> None:
        """A job that is about to start, or would."""
        label = " ".join([rule.replace("_", " ", 1) if rule.startswith("figure_") else rule,
                          *wildcards])  # fmt: skip
        # Snakemake tells of a job when it hands it over, which is when it starts.
        self.jobs[number] = Job(rule, label, log, None if self.dry else self.now())
        if self.dry and rule != "all":
            self.write(f"  {label}: {short_reason(reason)}")
        self.line()

    def finish(self, number: int) -> None:
        """A job that is done."""
        job = self.jobs.pop(number, None)
        if job is None or job.rule == "all":
            return
        self.done += 1
        self.left[job.rule] -= 1
        seconds = self.now() - (self.now() if job.started is None else job.started)
        self._took.setdefault(rule_kind(job.rule), []).append(seconds)
        self._spent += seconds
        if self.tty:
            self.line()
        else:
            self.write(f"{job.label}: done in {duration(seconds)} ({self.state()})")

    def error(self, number: int, rule: str, logs: Iterable[str]) -> None:
        """A job that failed: the last lines of its own log, and nothing else."""
        job = self.jobs.pop(number, None) or Job(rule, rule)
        self.failed.append(job.label)
        paths = list(logs) or ([job.log] if job.log else [])
        text = [line for path in paths for line in last_lines(Path(path))]
        self.write("\n".join([f"{job.label} failed:", *(f"  {line}" for line in text)]))
        for path in paths:
            self.write(f"  (all of it: {path})")

    def message(self, text: str) -> None:
        """Something that people should read."""
        self.write(text.rstrip())

    def end(self, report: str = "") -> None:
        """The line goes; a failed run says what to do, and one that is done where to look."""
        if self._ended:
            return
        self._ended = True
        self.clear()
        failed = self.failed
        if failed:
            self.write(
                f"{len(failed)} job{'s' * (len(failed) > 1)} failed: "
                f"{', '.join(failed)}. What was done is saved; mend the cause and run the "
                "same command again."
            )
        elif report and not self.dry and not sum(self.left.values()):
            self.write(
                f"Done. The report: {report}    In the terminal: immunization report "
                f"{Path(report).parent}"
            )

    def seconds_of(self, rule: str) -> float:
        """What a job of a rule takes, as far as is known."""
        kind = rule_kind(rule)
        took = self._took.get(kind)
        return sum(took) / len(took) if took else SECONDS.get(kind, 10.0)

    def remaining(self) -> tuple[float, float]:
        """Share of the work that is done, and seconds left; NaN before anything is known."""
        now = self.now()
        ahead = sum(self.seconds_of(rule) * number for rule, number in self.left.items())
        running = sum(
            min(now - job.started, self.seconds_of(job.rule))
            for job in self.jobs.values()
            if job.started is not None
        )
        ahead = max(0.0, ahead - running)
        behind = self._spent + running
        share = max(0.0, behind / (behind + ahead)) if behind + ahead > 0 else 1.0
        at_a_time = max(1, sum(job.started is not None for job in self.jobs.values()))
        left = ahead / at_a_time if self.done or running > 0 else float("nan")
        return share, left

    def state(self) -> str:
        """Jobs, share of the work, time left."""
        total = self.done + sum(self.left.values())
        share, left = self.remaining()
        words = f"{self.done} of {total} jobs, {100 * share:.0f} % of the work"
        return words if left != left or not left else f"{words}, about {duration(left)} left"

    def line(self) -> None:
        """Write the line over itself."""
        if not self.tty or self.dry:
            return
        running = [job.label for job in self.jobs.values() if job.started is not None]
        more = f" and {len(running) - SHOWN_JOBS} more" if len(running) > SHOWN_JOBS else ""
        text = f"{self.state()} │ {', '.join(running[:SHOWN_JOBS])}{more}"
        self.out.write(f"\r\x1b[2K{text[:160]}")
        self.out.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self.out.write("\r\x1b[2K")
            self.out.flush()
            self._shown = False

    def write(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        self.out.write(f"{text}\n")
        self.out.flush()
        self.line()


def last_lines(path: Path) -> list[str]:
    """The end of a log: from its message for people on, if it has one."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [f"{path}: no log was written"]
    for place in range(len(lines) - 1, -1, -1):
        if lines[place].startswith("error: "):
            return lines[place:][:LAST_LINES]
    return lines[-LAST_LINES:] or ["its log is empty"]


def short_reason(reason: str) -> str:
    """Why a job runs, in a line.

    >>> short_reason("Missing output files: results/a, results/b")
    'its results are missing'
    >>> short_reason("Updated input files: results/a; Params have changed since last execution")
    'its inputs changed; params have changed since last execution'
    """
    parts = []
    for part in re.split(r"; ", reason):
        if part.startswith("Missing output files"):
            parts.append("its results are missing")
        elif part.startswith(("Updated input files", "Input files updated by another job")):
            parts.append("its inputs changed")
        elif part:
            words = part.split(":")[0]
            parts.append(words[0].lower() + words[1:])
    if "its results are missing" in parts:
        return "its results are missing"
    return "; ".join(dict.fromkeys(parts)) or "asked for"
