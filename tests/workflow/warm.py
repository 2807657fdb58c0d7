"""Snakemake's own command line in a process that has it imported already.

A miniature study calls Snakemake many times, mostly to see what it would run; over half of such a
call is the import of Snakemake. The processes are forked from one that has imported nothing else.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["snakemake.cli"])


def _main(arguments: list[str], folder: str, environment: dict[str, str], out: str) -> None:
    """What ``python -m snakemake`` does, in ``folder``."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.argv = ["snakemake", *arguments]
    sys.path[0] = folder
    from snakemake.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


def snakemake(
    arguments: list[str], folder: Path, environment: dict[str, str], out: Path, seconds: float
) -> tuple[int, str]:
    """Exit code and output.

    Raises:
        AssertionError: when it takes longer than ``seconds``.
    """
    process = _context.Process(target=_main, args=(arguments, str(folder), environment, str(out)))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"Snakemake hangs: {out.read_text()}")
    return process.exitcode, out.read_text()
