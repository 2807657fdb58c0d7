"""Spectra and densities to and from Parquet, and feature matrices from files.

What is not a column (rank, tolerance, dimension, name) is kept as JSON in the file's metadata.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hessian_spectrum.density import SpectralDensity
from hessian_spectrum.spectrum import Spectrum

KEY = b"hessian_spectrum"


def write_spectrum(path: Path | str, spectrum: Spectrum) -> None:
    """Write a spectrum: one row an eigenvalue, ascending."""
    _write(
        path,
        {"eigenvalue": spectrum.eigenvalues.detach().cpu().numpy()},
        {
            "kind": "spectrum",
            "dimension": spectrum.dimension,
            "tolerance": spectrum.tolerance,
            "name": spectrum.name,
        },
    )


def read_spectrum(path: Path | str) -> Spectrum:
    """Read what `write_spectrum` wrote.

    Raises:
        ValueError: for a file that is not Parquet, or holds something else.
    """
    columns, about = _read(path, "spectrum")
    return Spectrum(
        torch.tensor(columns["eigenvalue"].to_numpy(), dtype=torch.float64),
        about["dimension"],
        about["tolerance"],
        about["name"],
    )


def write_density(path: Path | str, density: SpectralDensity) -> None:
    """Write a density: one row a node, numbered by its start vector."""
    starts, steps = density.nodes.shape
    _write(
        path,
        {
            "start": torch.arange(starts).repeat_interleave(steps).numpy(),
            "node": density.nodes.flatten().cpu().numpy(),
            "weight": density.weights.flatten().cpu().numpy(),
        },
        {
            "kind": "density",
            "shape": [starts, steps],
            "dimension": density.dimension,
            "largest": density.largest,
            "smallest": density.smallest,
            "largest_residual": density.largest_residual,
            "smallest_residual": density.smallest_residual,
            "steps": density.steps,
        },
    )


def read_density(path: Path | str) -> SpectralDensity:
    """Read what `write_density` wrote.

    Raises:
        ValueError: for a file that is not Parquet, or holds something else.
    """
    columns, about = _read(path, "density")
    shape = about.pop("shape")
    about.pop("kind")
    return SpectralDensity(
        nodes=torch.tensor(columns["node"].to_numpy()).reshape(shape),
        weights=torch.tensor(columns["weight"].to_numpy()).reshape(shape),
        **about,
    )


def read_matrix(path: Path | str, key: str | None = None) -> Tensor:
    """A matrix from a ``.npy``, ``.npz`` or ``.safetensors`` file; nothing is ever unpickled.

    Args:
        path: the file.
        key: which array of several.

    Returns:
        Shape (N, D): an array of more dimensions is flattened past the first.

    Raises:
        ValueError: for another kind of file, a missing or ambiguous key, or what is no matrix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    if suffix not in (".npy", ".npz", ".safetensors"):
        raise ValueError(f"{path}: expected a .npy, .npz or .safetensors file.")
    try:
        arrays = _arrays(path, suffix, key)
    except Exception as error:
        raise ValueError(f"{path}: not a readable {suffix} file ({error}).") from error
    if key is None and len(arrays) == 1:
        key = next(iter(arrays))
    if key is None or key not in arrays:
        asked = "Name one of its arrays" if key is None else f"It has no array {key!r}; it has"
        raise ValueError(f"{path}: {asked}: {', '.join(sorted(arrays))}.")
    matrix = arrays[key]
    assert matrix is not None
    if matrix.ndim < 2:
        raise ValueError(f"{path}: a feature matrix has two dimensions. Got {tuple(matrix.shape)}.")
    return matrix.flatten(1)


def _arrays(path: Path, suffix: str, key: str | None) -> dict[str, Tensor | None]:
    """Arrays of a file by name; of several only the one that is asked for, others may be text."""
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded: dict[str, Tensor | None] = load_file(path)
        return loaded
    import numpy as np

    def tensor(array: Any) -> Tensor:
        if array.dtype.kind not in "biufc":
            raise ValueError(f"it holds {array.dtype}, and features are numbers")
        wide = array.dtype.itemsize > 8 and array.dtype.kind == "f"  # long double
        native = np.float64 if wide else array.dtype.newbyteorder("=")
        return torch.from_numpy(np.ascontiguousarray(array, dtype=native))

    with path.open("rb") as file:  # a zip of arrays may be called .npy, and one array .npz
        kind = file.read(4)
    arrays: Any = np.load(path, allow_pickle=False)
    if kind[:2] != b"PK":
        return {"array": tensor(arrays)}
    with arrays as archive:
        names = archive.files
        only = names[0] if len(names) == 1 else key
        return {name: tensor(archive[name]) if name == only else None for name in names}


def _write(path: Path | str, columns: dict[str, Any], about: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(about)})
    # Whole or not at all: a reader never sees half a file.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path | str, kind: str) -> tuple[Any, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a readable Parquet file ({error}).") from error
    about = json.loads((table.schema.metadata or {}).get(KEY, b"{}"))
    if not isinstance(about, dict) or about.get("kind") != kind:
        raise ValueError(f"{path}: holds no {kind} of hessian_spectrum.")
    return table, about
