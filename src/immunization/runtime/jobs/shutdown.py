"""Leaving in good order: on SIGTERM (pre-emption, scancel, a time limit), on Ctrl-C, when the
terminal goes, and when the Snakemake that started a job is gone.

What is finished is saved, and the process ends with `EXIT`. A training loop that polls is left the
time to reach its next step and write its checkpoint; any other work in progress is given up.

In a SLURM job the process then waits to be killed: SLURM knows why it sent the signal, and a
job that is pre-empted is put back into the queue only if it has not ended by itself before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from immunization.runtime import environment

EXIT = 143
"""What a shell reports for a process that SIGTERM ended."""
RECENT_SECONDS = 10.0
"""A loop that has polled within this time is trusted to poll again soon."""
GRACE_SECONDS = 20.0
"""What it gets for that; schedulers mostly wait 30 seconds or more before they kill."""
LINGER_SECONDS = 120.0
"""For how long a saved SLURM job waits for its end; grace times are mostly shorter."""
AGAIN_SECONDS = 1.0
"""Signals closer together are one event: a terminal that goes tells every process of its own."""
PAUSE_SECONDS = 0.5
"""Between two looks at the Snakemake that started a job."""

_requested = threading.Event()
_since = float("-inf")
_saves: list[Callable[[], None]] = []
_polled = float("-inf")
_orphaned = False
_terminated = False
_left = False


def shutdown_requested() -> bool:
    """Whether this process has been asked to end; a loop that asks promises to ask again."""
    global _polled
    _polled = time.monotonic()
    return _requested.is_set()


def exit_if_requested() -> None:
    """End the process if it has been asked to; for loops, when their state is saved."""
    global _left
    if _requested.is_set():
        _left = True
        _linger()
        raise SystemExit(EXIT)


def _linger() -> None:
    # Ctrl-C is a person's, and in an allocation of theirs SLURM ends nothing.
    if "SLURM_JOB_ID" in os.environ and _terminated and not _orphaned:
        _tell("saved; waiting for SLURM to end or requeue this job")
        time.sleep(LINGER_SECONDS)


@contextlib.contextmanager
def on_shutdown(save: Callable[[], None]) -> Iterator[None]:
    """While the block runs, have something saved before the process ends.

    Args:
        save: called from the main thread, at any moment; must not wait for other threads.
    """
    _saves.append(save)
    try:
        yield
    finally:
        _saves.remove(save)


def _tell(text: str) -> None:
    # Not through a buffered stream, which the signal may have caught amid a write.
    os.write(2, f"{text}\n".encode())


def _give_up() -> None:
    """The loop has not polled again: leave without its last steps."""
    if not _left:
        _tell("no step came to its end in time; leaving with the last checkpoint")
        _end()


def _end() -> None:
    for save in reversed(_saves):
        save()
    _linger()
    os._exit(EXIT)


def _handle(number: int, frame: FrameType | None) -> None:
    global _since, _terminated
    now = time.monotonic()
    if _requested.is_set():
        if now - _since > AGAIN_SECONDS:  # a second time
            os._exit(EXIT)
        return
    _since = now
    _requested.set()
    _terminated = number == signal.SIGTERM
    if now - _polled < RECENT_SECONDS:
        _tell(f"{signal.Signals(number).name}: saving at the next step, then leaving")
        timer = threading.Timer(GRACE_SECONDS, _give_up)
        timer.daemon = True
        timer.start()
        return
    _tell(f"{signal.Signals(number).name}: saving completed work, then leaving")
    _end()


def _follow(owner: int) -> None:
    """Ask this process to end when another one does."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(owner)
        # One that is dead stays listed until its parent takes note.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(PAUSE_SECONDS)
    if _requested.is_set():  # both have been asked to end, and the owner was quicker
        return
    global _orphaned
    _orphaned = True
    _tell("the Snakemake that started this job is gone")
    os.kill(os.getpid(), signal.SIGTERM)


def install_handlers() -> None:
    """Install the handlers, and follow the owner that the environment names, if any."""
    signal.signal(signal.SIGTERM, _handle)
    signal.signal(signal.SIGINT, _handle)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _handle)
    owner = os.environ.get(environment.OWNER, "")
    if owner.isdigit():
        threading.Thread(target=_follow, args=(int(owner),), daemon=True).start()
