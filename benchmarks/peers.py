"""Adapters that run three peer libraries of Hessian spectra on the same stated work.

Peers: curvlinops-for-pytorch 3.0.1, PyHessian 0.1 and hessian-eigenthings 1.0.0a5.

Every function takes ``model``, ``loss`` (a module with ``reduction="mean"``, called as
``loss(model(X), y)``) and ``batches``, a list of ``(X, y)`` pairs; a full batch is a list of one.
The matrix is the Hessian of the mean loss over all rows, with respect to the parameters that
require a gradient, in the order of ``model.parameters()``. Nothing is converted: the products run
in the dtype and on the device of the parameters. Pass the model in evaluation mode: PyHessian sets
it, the others do not. ``PEERS`` holds the functions by peer's name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import numpy
import torch
from curvlinops import HessianLinearOperator, hutchinson_trace
from curvlinops.papyan2020traces.spectrum import fast_lanczos
from hessian_eigenthings import (
    HessianOperator,
    hutchinson,
    lanczos,
    spectral_density,
    supervised_loss,
)
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from torch import Tensor, nn

# `import pyhessian.hessian as m` would bind the class of that name, not the module.
_pyhessian = importlib.import_module("pyhessian.hessian")

Batches = Sequence[tuple[Tensor, Tensor]]
Product = Callable[[Tensor], Tensor]


class Top(NamedTuple):
    """An eigenvalue, the Hessian-vector products it took, and the library's own verdict."""

    value: float
    products: int
    converged: bool


class Quadrature(NamedTuple):
    """Nodes and weights of a Lanczos quadrature; a NamedTuple, so it unpacks as a pair."""

    nodes: Tensor
    weights: Tensor


class Peer(NamedTuple):
    """One library's adapters, with the same signatures for each library."""

    operator: Callable[..., Product]
    top: Callable[..., Top]
    trace: Callable[..., float]
    density: Callable[..., Quadrature | None]


@contextlib.contextmanager
def _quiet(seed: int | None = None) -> Iterator[None]:
    """Mute prints and warnings; with a seed, also seed torch's generators and restore them."""
    sink = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sink))
        stack.enter_context(contextlib.redirect_stderr(sink))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if seed is not None:
            stack.enter_context(torch.random.fork_rng())
            torch.manual_seed(seed)
        yield


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that require a gradient."""
    return [p for p in model.parameters() if p.requires_grad]


def _split(vector: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """Cut a flat vector into pieces shaped as the parameters."""
    pieces = vector.split([p.numel() for p in params])
    return [piece.view_as(p) for piece, p in zip(pieces, params, strict=True)]


# curvlinops ---------------------------------------------------------------------------------------


class _CountingHessian(HessianLinearOperator):
    """curvlinops' Hessian that counts the columns it is applied to."""

    products = 0

    def _matmat(self, M: list[Tensor]) -> list[Tensor]:
        self.products += M[0].shape[-1]
        return super()._matmat(M)


def _curvlinops_hessian(model: nn.Module, loss: nn.Module, batches: Batches) -> _CountingHessian:
    """Build the operator without the library's determinism check (2 gradients, 2 products)."""
    return _CountingHessian(model, loss, _parameters(model), batches, check_deterministic=False)


def curvlinops_operator(model: nn.Module, loss: nn.Module, batches: Batches) -> Product:
    """Return a callable that multiplies a flat vector by the Hessian."""
    return _curvlinops_hessian(model, loss, batches).__matmul__


def curvlinops_top(
    model: nn.Module,
    loss: nn.Module,
    batches: Batches,
    tol: float = 1e-3,
    seed: int = 0,
    max_products: int = 1000,
) -> Top:
    """Largest eigenvalue by ARPACK (``eigsh``, LA) over ``to_scipy()``, the documented route.

    ARPACK holds its vectors in float64 whatever the model's dtype. ``max_products`` is a rough
    cap: ARPACK counts restarts, of 10 products each here. Without convergence the value is NaN.
    """
    with _quiet(seed):
        hessian = _curvlinops_hessian(model, loss, batches)
        start = numpy.random.default_rng(seed).standard_normal(hessian.shape[1])
        restarts = max(1, max_products // 10)
        options = {"v0": start, "tol": tol, "maxiter": restarts, "return_eigenvectors": False}
        try:
            (value,) = eigsh(hessian.to_scipy(), k=1, which="LA", **options)
        except ArpackNoConvergence:
            return Top(math.nan, hessian.products, False)
    return Top(float(value), hessian.products, True)


def curvlinops_trace(
    model: nn.Module,
    loss: nn.Module,
    batches: Batches,
    samples: int = 30,
    seed: int = 0,
    chunk: int | None = None,
) -> float:
    """Hutchinson's estimate with Rademacher vectors.

    The library multiplies all vectors at once, and its memory grows with them; ``chunk`` calls it
    on that many at a time and averages, which is the same estimate.
    """
    chunk = chunk or samples
    if samples % chunk:
        raise ValueError(f"chunk {chunk} does not divide samples {samples}")
    with _quiet(seed):
        hessian = _curvlinops_hessian(model, loss, batches)
        parts = [hutchinson_trace(hessian, chunk).item() for _ in range(samples // chunk)]
    return sum(parts) / len(parts)


def curvlinops_density(
    model: nn.Module, loss: nn.Module, batches: Batches, steps: int = 60, seed: int = 0
) -> Quadrature:
    """Nodes and weights of one Lanczos run (Gaussian start, no reorthogonalisation).

    This is the run inside ``lanczos_approximate_spectrum``, which returns a smoothed curve alone
    and first spends further products on the spectrum's two ends.
    """
    with _quiet(seed):
        nodes, vectors = fast_lanczos(_curvlinops_hessian(model, loss, batches), steps)
    return Quadrature(nodes, vectors[0] ** 2)


# PyHessian ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _pyhessian_hessian(model: nn.Module, loss: nn.Module, batches: Batches) -> Iterator[Any]:
    """PyHessian's object, leaving the model's mode and gradients as they were.

    Gradients left in ``.grad`` would be added to the library's own, so they are set aside.
    """
    params = _parameters(model)
    modes = {module: module.training for module in model.modules()}
    grads = [p.grad for p in params]
    model.zero_grad(set_to_none=True)
    source = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
    try:
        yield _pyhessian.hessian(model, loss, **source, cuda=params[0].is_cuda)
    finally:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        for module, mode in modes.items():
            module.training = mode


def _pyhessian_multiply(hessian: Any, v: Tensor) -> Tensor:
    """One product by PyHessian's object: one batch reuses the gradient's graph, several do not."""
    pieces = _split(v, hessian.params)
    if hessian.full_dataset:
        _, result = hessian.dataloader_hv_product(pieces)
    else:
        result = _pyhessian.hessian_vector_product(hessian.gradsH, hessian.params, pieces)
    return torch.cat([piece.reshape(-1) for piece in result])


def pyhessian_operator(model: nn.Module, loss: nn.Module, batches: Batches) -> Product:
    """Return a callable that multiplies a flat vector by the Hessian.

    For one batch the gradient and its graph are computed here, once, and kept by the callable.
    """
    with _quiet(), _pyhessian_hessian(model, loss, batches) as hessian:
        pass
    return functools.partial(_pyhessian_multiply, hessian)


def pyhessian_top(
    model: nn.Module,
    loss: nn.Module,
    batches: Batches,
    tol: float = 1e-3,
    seed: int = 0,
    max_products: int = 1000,
) -> Top:
    """Eigenvalue of largest magnitude, with its sign, by power iteration.

    ``tol`` bounds the relative change between two iterations, not the error.
    """
    counter = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        """Count the calls of a product."""

        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            nonlocal counter
            counter += 1
            return function(*args)

        return wrapper

    single = counted(_pyhessian.hessian_vector_product)
    several = counted(_pyhessian.hessian.dataloader_hv_product)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet(seed))
        stack.enter_context(mock.patch.object(_pyhessian, "hessian_vector_product", single))
        stack.enter_context(mock.patch.object(_pyhessian.hessian, "dataloader_hv_product", several))
        hessian = stack.enter_context(_pyhessian_hessian(model, loss, batches))
        (value,), _ = hessian.eigenvalues(maxIter=max_products, tol=tol)
    return Top(float(value), counter, counter < max_products)


def pyhessian_trace(
    model: nn.Module, loss: nn.Module, batches: Batches, samples: int = 30, seed: int = 0
) -> float:
    """Hutchinson's estimate with Rademacher vectors, the library's early stop turned off."""
    with _quiet(seed), _pyhessian_hessian(model, loss, batches) as hessian:
        # Its quotient is negative where the running trace is, so zero would not turn it off.
        estimates = hessian.trace(maxIter=samples, tol=-math.inf)
    return float(numpy.mean(estimates))


def pyhessian_density(
    model: nn.Module, loss: nn.Module, batches: Batches, steps: int = 60, seed: int = 0
) -> None:
    """None: version 0.1 ends in ``torch.eig``, which current torch no longer has."""


# hessian-eigenthings ------------------------------------------------------------------------------


class _Counting(HessianOperator):
    """The library's Hessian that counts its products."""

    products = 0

    def matvec(self, v: Tensor) -> Tensor:
        self.products += 1
        return super().matvec(v)


def _eigenthings_hessian(model: nn.Module, loss: nn.Module, batches: Batches) -> _Counting:
    """Build the operator; it averages batches equally, so each loss is weighted by its rows."""
    mean_rows = sum(len(y) for _, y in batches) / len(batches)
    plain = supervised_loss(loss)

    def weighted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the batch's mean loss times its rows over the mean rows."""
        return plain(model, batch) * (len(batch[1]) / mean_rows)

    equal = all(len(y) == mean_rows for _, y in batches)
    return _Counting(model, batches, plain if equal else weighted)


def eigenthings_operator(model: nn.Module, loss: nn.Module, batches: Batches) -> Product:
    """Return a callable that multiplies a flat vector by the Hessian."""
    return _eigenthings_hessian(model, loss, batches).matvec


def eigenthings_top(
    model: nn.Module,
    loss: nn.Module,
    batches: Batches,
    tol: float = 1e-3,
    seed: int = 0,
    max_products: int = 1000,
    steps: int = 20,
) -> Top:
    """Largest eigenvalue by the library's Lanczos (LA).

    Its Lanczos makes a given number of steps and only reports whether ``tol`` was met, with no way
    to go on. So ``steps`` is doubled, each run from the start, until it was or ``max_products``
    would be passed; the products of all runs are counted.
    """
    with _quiet(seed):
        hessian = _eigenthings_hessian(model, loss, batches)
        while True:
            steps = min(steps, hessian.size)
            result = lanczos(hessian, k=1, max_iter=steps, tol=tol, which="LA", seed=seed)
            converged = bool(result.converged[0])
            spent = hessian.products + 2 * steps > max_products
            if converged or spent or steps == hessian.size:
                return Top(result.eigenvalues[0].item(), hessian.products, converged)
            steps *= 2


def eigenthings_trace(
    model: nn.Module, loss: nn.Module, batches: Batches, samples: int = 30, seed: int = 0
) -> float:
    """Hutchinson's estimate with Rademacher vectors (the library's default is Hutch++)."""
    with _quiet(seed):
        hessian = _eigenthings_hessian(model, loss, batches)
        return hutchinson(hessian, num_samples=samples, seed=seed).estimate


def eigenthings_density(
    model: nn.Module, loss: nn.Module, batches: Batches, steps: int = 60, seed: int = 0
) -> Quadrature:
    """Nodes and weights of one Lanczos run (Rademacher start, full reorthogonalisation).

    The smoothed curve that the library also returns is asked for on two points alone. The run may
    end before ``steps``, where the library sees a breakdown.
    """
    with _quiet(seed):
        hessian = _eigenthings_hessian(model, loss, batches)
        result = spectral_density(
            hessian, num_runs=1, lanczos_steps=steps, num_grid_points=2, seed=seed
        )
    return Quadrature(result.raw_eigenvalues[0], result.raw_weights[0])


PEERS = {
    "curvlinops": Peer(
        curvlinops_operator,
        curvlinops_top,
        curvlinops_trace,
        curvlinops_density,
    ),
    "pyhessian": Peer(pyhessian_operator, pyhessian_top, pyhessian_trace, pyhessian_density),
    "eigenthings": Peer(
        eigenthings_operator,
        eigenthings_top,
        eigenthings_trace,
        eigenthings_density,
    ),
}
