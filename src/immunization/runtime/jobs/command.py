"""What the command line of every stage shares."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from immunization import interrupt
from immunization.errors import UserError
from immunization.stale import refuse_other_code

LOG = logging.getLogger("immunization")


def parse_json(text: str) -> Any:
    """JSON of a command line argument, or of the file that it names behind an @.

    A system takes some 128 kB for an argument; large studies have more to say.
    """
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from error


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run a stage: log to standard error, and turn a user's mistake into one message.

    Exit code 2 for a `UserError` and for want of memory, 143 where it was asked to end (see
    `immunization.interrupt`); anything else is a fault of ours and shows its traceback.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    interrupt.watch()
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
        f"error: the machine's memory did not suffice{what}. What is finished is kept. Run fewer "
        f"jobs or threads at a time, or give the rule more memory: {how}; with `--retries 2` it "
        "grows by itself.",
        file=sys.stderr,
    )
    sys.exit(2)


def _too_little_gpu_memory(error: RuntimeError) -> NoReturn:
    print(
        f"error: the GPU's memory did not suffice ({str(error).splitlines()[0]}). What is "
        "finished is kept. Lower the config key `jobs_per_gpu`, end what else is on the "
        "GPU, take a larger one, or a smaller `batch` where the component has it.",
        file=sys.stderr,
    )
    sys.exit(2)


def one_thread_each() -> None:
    """Let torch use one thread an operation, in the thread that calls this.

    Work is spread over whole batches instead (see `map_threads`), which is as fast, and makes
    results the same to the last bit for any number of threads.
    """
    import torch

    torch.set_num_threads(1)


def map_threads(function: Callable[[Any], Any], items: list[Any], threads: int) -> list[Any]:
    """Apply a function to items on some threads, results in order."""
    if threads <= 1 or len(items) <= 1:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(threads, len(items)), initializer=one_thread_each) as pool:
        return list(pool.map(function, items))


def choose_device(wanted: str) -> str:
    """The torch device for ``auto``, ``cpu`` or ``cuda``; claims a GPU where there is one.

    Args:
        wanted: one of these.

    Raises:
        UserError: for ``cuda`` on a machine without a usable GPU.
    """
    import torch

    from immunization import devices

    if wanted != "cpu" and not torch.cuda.is_initialized():
        devices.claim()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    elif wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "config key 'device': cuda was asked for and torch sees no GPU here (torch "
            f"{torch.__version__}, CUDA build: {torch.version.cuda or 'none'}). Set `device: cpu` "
            "or `auto`, install a CUDA build of torch, or run on a GPU node."
        )
    if wanted == "cuda":
        devices.limit_memory()
    return wanted
