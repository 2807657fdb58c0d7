"""The device that a stage computes on."""

from __future__ import annotations

import warnings

import torch

from immunization.runtime.errors import UserError
from immunization.runtime.gpus.claims import claim
from immunization.runtime.gpus.memory import limit_memory


def acquire_device(wanted: str) -> str:
    """The torch device for ``auto``, ``cpu`` or ``cuda``; claims a GPU where there is one.

    Args:
        wanted: one of these.

    Raises:
        UserError: for ``cuda`` on a machine without a usable GPU.
    """
    if wanted != "cpu" and not torch.cuda.is_initialized():
        claim()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    elif wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "config key 'device': cuda was asked for and torch sees no GPU here (torch "
            f"{torch.__version__}, CUDA build: {torch.version.cuda or 'none'}). Set `device: cpu` "
            "or `auto`, install a CUDA build of torch, or run on a GPU node."
        )
    if wanted == "cuda":
        # A matrix that Jacobi rotations do not finish is decomposed another way; nothing to do.
        warnings.filterwarnings("ignore", message="torch.linalg.svd: During SVD computation")
        limit_memory()
    return wanted
