"""What the command line of every stage shares."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from immunization.runtime.errors import UserError
from immunization.runtime.jobs.shutdown import install_handlers
from immunization.runtime.record.stale import refuse_other_code


def run_command(main: Callable[[list[str] | None], None]) -> None:
    """Run a stage: log to standard error, and turn a user's mistake into one message.

    Exit code 2 for a `UserError` and for want of memory, 143 where it was asked to end (see
    `immunization.runtime.jobs.shutdown`); anything else is a fault of ours and shows its traceback.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    install_handlers()
    try:
        refuse_other_code()
        main(None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        _too_little_memory("")
    except RuntimeError as error:  # torch's allocator on a CPU has no class of its own
        if type(error).__name__ == "OutOfMemoryError":
            _too_little_gpu_memory(error)
        if "can't allocate memory" not in str(error):
            raise
        _too_little_memory(f" ({error})")


def _too_little_memory(what: str) -> NoReturn:
    if "SLURM_JOB_ID" in os.environ:  # on its command line it would replace all of the profile's
        how = "`mem_mb` of the rule under `set-resources` of your profile"
    else:
        how = "`snakemake --set-resources RULE:mem_mb=N`"
    print(
        f"error: out of memory{what}. Completed work is saved. Run fewer jobs or threads "
        f"at a time, or give the rule more memory: {how}; with `--retries 2` it grows by "
        "itself.",
        file=sys.stderr,
    )
    sys.exit(2)


def _too_little_gpu_memory(error: RuntimeError) -> NoReturn:
    print(
        f"error: out of GPU memory ({str(error).splitlines()[0]}). Completed "
        "work is saved. Lower the config key `jobs_per_gpu`, end what else is on the "
        "GPU, take a larger one, or a smaller `batch` where the component has it.",
        file=sys.stderr,
    )
    sys.exit(2)
