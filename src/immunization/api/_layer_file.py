"""Files of layers: safetensors for torch, .npz for numpy alone; nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from immunization.runtime.errors import UserError
from immunization.runtime.files.atomic import atomic

FORMAT = "immunization-extractor-1"


def write_layer(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and JSON to a .safetensors or .npz file, atomically and without a seal."""
    text = json.dumps(about, sort_keys=True)
    if path.suffix == ".safetensors":
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with atomic(path, sealed=False) as draft:
            save_file(contiguous, draft, {"json": text})
    elif path.suffix == ".npz":
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        with atomic(path, sealed=False) as draft, draft.open("wb") as file:
            np.savez(file, allow_pickle=False, about=np.array(text), **arrays)
    else:
        raise UserError(f"{path}: the suffix is .safetensors or .npz.")


def read_layer(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_layer` wrote.

    Raises:
        UserError: for a file that is missing, damaged, or none of ours.
    """
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(f"{path}: the suffix of a layer is .safetensors or .npz.")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file (from {Path.cwd()}).")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                names = [name for name in file.files if name != "about"]
                tensors = {name: torch.from_numpy(file[name]) for name in names}
        else:
            with safe_open(path, framework="pt") as opened:
                about = json.loads((opened.metadata() or {}).get("json", "{}"))
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, SafetensorError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as a layer ({error}).") from error
    if about.get("format") != FORMAT or "theta" not in tensors:
        raise UserError(
            f"{path}: is no layer that this package wrote. Results of a study are read with "
            'im.load_study("results/NAME").extractor(method, data set).'
        )
    theta = tensors["theta"]
    if not bool(torch.isfinite(theta).all()):
        raise UserError(f"{path}: θ holds values that are not finite.")
    return tensors, about
