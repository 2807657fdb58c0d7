"""One Snakemake a study: who holds it, and what to do when the holder was killed.

Snakemake locks the files of a run, and a killed one leaves its locks behind for someone to remove
by hand. Here the Snakefile notes who runs the study, on which machine and since when, and holds a
lock of the operating system on that note, which ends with the process. So a second run is told who
is at work, and the run after a kill removes what the dead one left, and goes on.

Needs no torch: the Snakefile imports it.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import fcntl
import getpass
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

from immunization.errors import UserError

IDLE_FLAGS = (
    "-n", "--dry-run", "--dryrun", "--unlock", "--lint", "--report", "--dag", "--rulegraph",
    "--filegraph", "--d3dag", "--list-rules", "--list", "-l", "--list-target-rules", "--lt",
    "--list-changes", "--lc", "--list-input-changes", "--li", "--list-params-changes", "--lp",
    "--list-untracked", "--lu", "--summary", "-S", "--detailed-summary", "-D", "--archive",
    "--print-compilation", "--generate-unit-tests", "--list-conda-envs", "--conda-cleanup-envs",
    "--conda-create-envs-only",
)  # fmt: skip
"""Options with which Snakemake runs no job and removes no result."""
TAKE_OVER = "IMMUNIZATION_TAKE_OVER"
"""Environment variable with the name of another machine whose Snakemake is known to be gone."""
SQUEUE_TRIES = 30
"""Times that a controller which does not answer is asked, five seconds apart."""


def idle(arguments: Sequence[str]) -> bool:
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


class Holder:
    """The note of who runs a study.

    Args:
        study: its name.
        results: its folder, relative to the working directory as Snakemake has it.
        state: Snakemake's folder, ``.snakemake``.
        tell: how to say what is done.
        remote: whether jobs go to a cluster, where they outlive a killed Snakemake.
    """

    def __init__(
        self,
        study: str,
        results: str,
        state: Path,
        tell: Callable[[str], None],
        *,
        remote: bool = False,
    ) -> None:
        self.results, self.state, self.tell, self.remote = results, state, tell, remote
        self.note = state / "immunization" / f"{study}.holder"
        self._handle: int | None = None

    def take(self) -> None:
        """Hold the study until this process ends.

        Raises:
            UserError: when another process holds it, or one on another machine may.
        """
        while self._handle is None:
            handle = self._open()
            try:
                if self._settle(handle):
                    self._handle = handle  # never closed: the lock ends with the process
            finally:
                if self._handle is None:
                    os.close(handle)
        atexit.register(self._leave, os.getpid())

    def _open(self) -> int:
        try:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.note, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if self._held_by_another_user():
                raise UserError(self._held(self._read())) from error
            raise UserError(
                f"{self.note.parent}: cannot be written ({error.strerror}). Snakemake keeps its "
                "notes there; work in a folder of your own that is writable and has space."
            ) from error

    def _settle(self, handle: int) -> bool:
        """Lock the note, clean up behind the one before, and sign; False where the note was removed
        since it was opened."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(self._held(self._read())) from None
        except OSError:  # a file system without locks: the note alone has to do
            before = self._read()
            if before and before.get("host") == platform.node() and _runs(before):
                raise UserError(self._held(before)) from None
        if not self._is_note(handle):
            return False
        before = self._read()
        if before:
            # The same machine, rebooted or not, or a container on it.
            here = before.get("host") == platform.node() or before.get("boot") == _boot()
            if not here and before.get("host") != os.environ.get(TAKE_OVER):
                raise UserError(
                    f"{self._held(before)} That machine cannot be asked from here. If you know "
                    "that this Snakemake is gone, run the same command again with "
                    f"{TAKE_OVER}={before.get('host')} in front."
                )
            self._recover(before)
        mine = {
            "user": user(),
            "host": platform.node(),
            "boot": _boot(),
            "remote": self.remote,
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(mine).encode(), 0)
        return True

    def _is_note(self, handle: int) -> bool:
        """Whether an open file is the note that lies there now."""
        try:
            return os.path.samestat(os.fstat(handle), self.note.stat())
        except OSError:
            return False

    def _held_by_another_user(self) -> bool:
        """Whether a note that may be read alone is locked."""
        try:
            handle = os.open(self.note, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
        return False

    def _leave(self, owner: int) -> None:
        # Not in a fork, and only one's own.
        if os.getpid() == owner and self._handle is not None and self._is_note(self._handle):
            with contextlib.suppress(OSError):
                self.note.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.note.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def _held(self, who: dict[str, Any]) -> str:
        return (
            f"{self.results}: is being made by another Snakemake, started by "
            f"{who.get('user', 'someone')} on {who.get('host', 'some machine')} (process "
            f"{who.get('pid', 'unknown')}) at {who.get('since', 'an unknown time')}. Two of them "
            "would write the same files. Wait for it or stop it, or work in another folder, or "
            "under another `study:` name."
        )

    def _recover(self, who: dict[str, Any]) -> None:
        """Clean up after a killed Snakemake."""
        self.tell(
            f"{self.results}: the Snakemake that {who.get('user')} started at {who.get('since')} "
            "was killed; going on where it stopped."
        )
        if who.get("remote"):
            _wait_for_jobs(self.tell)
        locks = self.state / "locks"
        for output in sorted(locks.glob("*.output.lock")):
            with contextlib.suppress(OSError):
                names = output.read_text(encoding="utf-8").splitlines()
                if any(f"{self.results}/" in name for name in names):
                    output.with_name(output.name.replace(".output.", ".input.")).unlink(
                        missing_ok=True
                    )
                    output.unlink(missing_ok=True)


def user() -> str:
    """The name of who runs this, or the number where that has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _boot() -> str:
    """What tells this start of this machine from others; containers on it have the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def _started(pid: int) -> int:
    """When a process was started, in ticks since the machine was; 0 where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def _runs(who: dict[str, Any]) -> bool:
    return bool(who.get("started")) and _started(int(who.get("pid", 0))) == who["started"]


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
    found = []
    for line in asked.stdout.splitlines():
        number, state, name, folder = line.strip().split("|", 3)
        waiting = state in ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING")
        if waiting and name.startswith("immunization") and os.path.realpath(folder) == here:
            found.append(number)
    return found


def _wait_for_jobs(tell: Callable[[str], None], pause: float = 5.0) -> None:
    told: list[str] = []
    while jobs := leftover_jobs():
        if jobs != told:
            tell(
                f"waiting for SLURM jobs that work in this folder, whose results are used: "
                f"{', '.join(jobs)}. If they are of the killed run, scancel gives them up."
            )
            told = jobs
        time.sleep(pause)
