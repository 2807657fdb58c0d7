"""One Snakemake a study: who holds it, and what to do when the holder was killed.

A run holds a lock of the operating system on ``results/STUDY/.run.lock``, which ends with the
process, and notes in ``.run.json`` who it is. So a second run can say who is at work, from whatever
folder or link it comes, and the run after a kill removes what the dead one left half written, and
goes on. Snakemake's own lock, which outlives a kill, is switched off (`profiles/default`).

Needs no torch: the Snakefile imports it.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.files.atomic import new_file_mode, remove_drafts
from immunization.runtime.user import user

IDLE_FLAGS = (
    "-n", "--dry-run", "--dryrun", "--unlock", "--lint", "--report", "--dag", "--rulegraph",
    "--filegraph", "--d3dag", "--list-rules", "--list", "-l", "--list-target-rules", "--lt",
    "--list-changes", "--lc", "--list-input-changes", "--li", "--list-params-changes", "--lp",
    "--list-untracked", "--lu", "--summary", "-S", "--detailed-summary", "-D", "--archive",
    "--print-compilation", "--generate-unit-tests", "--list-conda-envs", "--conda-cleanup-envs",
    "--conda-create-envs-only",
)  # fmt: skip
"""Options with which Snakemake runs no job and removes no result."""
SQUEUE_TRIES = 30
"""Times that a controller which does not answer is asked, five seconds apart."""


def is_dry_run(arguments: Sequence[str]) -> bool:
    """Whether a command line of Snakemake runs no job.

    Args:
        arguments: without the program.
    """
    if "--report-after-run" in arguments:
        return False
    short = re.compile(r"-[npqkFf]*n[npqkFf]*$")  # -n among others without a value, such as -np
    return any(
        a.split("=")[0] in IDLE_FLAGS or (short.match(a) and not a.startswith("--"))
        for a in arguments
    )


class RunLock:
    """Who runs a study.

    Args:
        folder: of its results.
        tell: how to say what is done.
        remote: whether jobs go to a cluster, where they outlive a killed Snakemake.
    """

    def __init__(
        self, folder: Path, tell: Callable[[str], None] = print, *, remote: bool = False
    ) -> None:
        self.folder, self.tell, self.remote = folder, tell, remote
        self.note = folder / ".run.json"
        self.lock = FileLock(folder / ".run.lock", mode=new_file_mode())

    def acquire(self) -> None:
        """Hold the study until this process ends.

        Raises:
            UserError: when another process holds it, or one on another machine may.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(self._held(self._read())) from None
        except OSError as error:
            raise self._unwritable(error) from error
        before = self._read()
        if before:
            # The same machine, rebooted or not, or a container on it.
            here = before.get("host") == platform.node() or before.get("boot") == _boot()
            if not here and before.get("host") != os.environ.get(environment.TAKE_OVER):
                self.lock.release()
                raise UserError(
                    f"{self._held(before)} That machine cannot be asked from here. If you know "
                    "that this Snakemake is gone, run the same command again with "
                    f"{environment.TAKE_OVER}={before.get('host')} in front."
                )
            self.tell(
                f"{self.folder}: the Snakemake that {before.get('user')} started at "
                f"{before.get('since')} was killed; going on where it stopped."
            )
            if before.get("remote"):
                _wait_for_jobs(self.tell)
        remove_drafts(self.folder)
        mine = {
            "user": user(),
            "host": platform.node(),
            "boot": _boot(),
            "remote": self.remote,
            "pid": os.getpid(),
            "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        try:
            self.note.unlink(missing_ok=True)  # another user of the group may not write ours
            self.note.write_text(json.dumps(mine), encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        atexit.register(self.leave, os.getpid())

    def refuse_while_running(self) -> None:
        """Refuse to touch results that a Snakemake is making.

        Raises:
            UserError: naming it.
        """
        if not Path(self.lock.lock_file).exists():
            return
        try:
            with self.lock.acquire(timeout=0):
                return
        except Timeout:
            raise UserError(self._held(self._read())) from None

    def leave(self, owner: int) -> None:
        """Let go of the study; not in a fork."""
        if os.getpid() == owner and self.lock.is_locked:
            with contextlib.suppress(OSError):
                self.note.unlink(missing_ok=True)
            self.lock.release()

    def _read(self) -> dict[str, Any]:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return note if isinstance(note, dict) else {}
        except (OSError, ValueError):
            return {}

    def _unwritable(self, error: OSError) -> UserError:
        who = self._read()
        return UserError(
            (f"{self._held(who)} And it " if who else f"{self.folder}: ")
            + f"cannot be written ({error.strerror}). Work in a folder of your own that is "
            "writable and has space."
        )

    def _held(self, who: dict[str, Any]) -> str:
        return (
            f"{self.folder}: is being made by another Snakemake, started by "
            f"{who.get('user', 'someone')} on {who.get('host', 'some machine')} (process "
            f"{who.get('pid', 'unknown')}) at {who.get('since', 'an unknown time')}. Two of them "
            "would write the same files. Wait for it or stop it, or work in another folder, or "
            "under another `study:` name."
        )


def _boot() -> str:
    """What tells this start of this machine from others; containers on it have the same. Where the
    system has no such thing, its name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def leftover_jobs() -> list[str]:
    """Numbers of SLURM jobs of this user that work in this folder; none without SLURM.

    A killed Snakemake leaves its jobs running.

    Raises:
        UserError: when SLURM does not answer for minutes.
    """
    if shutil.which("squeue") is None:
        return []
    for last in [False] * (SQUEUE_TRIES - 1) + [True]:
        try:
            asked = subprocess.run(
                ["squeue", "--noheader", "--me", "--states=all", "--format=%A|%T|%j|%Z"],
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            break
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            if last:
                raise UserError(
                    "SLURM does not answer, and jobs of an earlier, killed run may still be at "
                    f"work: {error}. Run the same command again when squeue works."
                ) from error
            time.sleep(5)
    here = os.path.realpath(".")
    numbers = []
    for line in asked.stdout.splitlines():
        number, state, name, folder = line.strip().split("|", 3)
        waiting = state in ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING")
        if waiting and name.startswith("immunization") and os.path.realpath(folder) == here:
            numbers.append(number)
    return numbers


def _wait_for_jobs(tell: Callable[[str], None], pause: float = 5.0) -> None:
    logged_jobs: list[str] = []
    while jobs := leftover_jobs():
        if jobs != logged_jobs:
            tell(
                f"waiting for SLURM jobs that work in this folder, whose results are used: "
                f"{', '.join(jobs)}. If they are of the killed run, scancel gives them up."
            )
            logged_jobs = jobs
        time.sleep(pause)
