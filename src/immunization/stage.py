"""What the command line of every stage shares."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from immunization.errors import UserError

LOG = logging.getLogger("immunization")


def parse_json(text: str) -> Any:
    """JSON of a command line argument."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from error


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run a stage: log to standard error, and turn a user's mistake into one message.

    Exit code 2 for a `UserError`; anything else is a fault of ours and shows its traceback.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    try:
        main(None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
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
    """The torch device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: for ``cuda`` on a machine without a usable GPU.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "config key 'device': cuda was asked for and torch sees no GPU here (torch "
            f"{torch.__version__}, CUDA build: {torch.version.cuda or 'none'}). Set `device: cpu` "
            "or `auto`, install a CUDA build of torch, or run on a GPU node."
        )
    return wanted
