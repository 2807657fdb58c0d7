"""The Hessian of a softmax probe, from its structure.

Cross-entropy of logits XWᵀ with W of shape (C, D) row-major and p_i the class probabilities has

    H = (1/N) Σ_i (diag p_i − p_ip_iᵀ) ⊗ x_ix_iᵀ,    (CD×CD), without the 1/N for a sum.

The labels do not enter. D eigenvalues are structurally zero (adding one vector to all classes
changes no probability), and so is what the features do not span: the non-zero spectrum lives on
(C − 1)·rank(X) dimensions, and that is where condition numbers are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessian_spectrum.lanczos import Progress
from hessian_spectrum.operator_eigenpairs import operator_eigenpairs
from hessian_spectrum.operators import DENSE, Reduction, SymmetricOperator, check_reduction
from hessian_spectrum.range_factor import range_factor
from hessian_spectrum.rank import eigenvalue_tolerance, numerical_rank

ROWS = 2**22
"""Bytes of features that one slice of rows takes: they stay in a processor's cache between the
two products that use them. A GPU takes 64 times as many."""


@dataclass(frozen=True)
class SoftmaxProbeSpectrum:
    """The ends of the non-zero spectrum of a softmax probe's Hessian.

    Attributes:
        largest: σ_1.
        smallest: σ_k, the smallest non-zero eigenvalue.
        rank: k.
        dimension: CD, the size of H.
        trace: tr(H), exact.
        tolerance: on eigenvalues relative to σ_1, at which k was decided.
        residual: the larger of ‖Hv − σv‖/σ of the two ends; 0 where H was decomposed.
        eigenvalues: all k non-zero ones, ascending, where H was small enough to decompose.
    """

    largest: float
    smallest: float
    rank: int
    dimension: int
    trace: float
    tolerance: float
    residual: float
    eigenvalues: Tensor | None = None

    @property
    def condition(self) -> float:
        """κ over the non-zero spectrum."""
        return self.largest / self.smallest


def softmax_probe_operator(
    features: Tensor, probabilities: Tensor, *, reduction: Reduction = "mean"
) -> SymmetricOperator:
    """H as an operator on vectors of length CD; a product costs 4NCD operations a vector.

    >>> import torch
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> p = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
    >>> h = softmax_probe_operator(x, p)
    >>> h.dimension, round(h.trace, 6)
    (4, 0.34)
    >>> spectrum = softmax_probe_spectrum(x, p, generator=torch.Generator().manual_seed(0))
    >>> spectrum.rank, round(spectrum.condition, 6)
    (2, 2.777778)

    Args:
        features: X, shape (N, D).
        probabilities: p, shape (N, C), rows sum to 1.
        reduction: of the loss over samples.

    Returns:
        The operator, which also knows its trace.

    Raises:
        ValueError: for shapes that do not fit, or rows that are no probabilities.
    """
    _check(features, probabilities)
    check_reduction(reduction)
    rows, width = features.shape
    classes = probabilities.shape[1]
    scale = 1 / rows if reduction == "mean" else 1.0
    room = 64 * ROWS if features.is_cuda else ROWS
    step = max(16, room // (width * features.element_size()))
    flipped = probabilities.to(features.dtype).mT.contiguous()
    likeliest = flipped.argmax(dim=0, keepdim=True)
    slices = list(
        zip(
            features.split(step),
            flipped.split(step, dim=1),
            likeliest.split(step, dim=1),
            strict=True,
        )
    )

    def apply(vectors: Tensor) -> Tensor:
        count = vectors.shape[1]
        # Classes in front, so that both products run along rows of X in memory.
        weights = vectors.mT.reshape(count * classes, width)
        total = torch.zeros_like(weights)
        for x, p, sure in slices:
            pulled = (weights @ x.mT).reshape(count, classes, len(x))
            # From the likeliest class, so that a sure probe's small terms do not cancel.
            pulled = p * (pulled - pulled.gather(1, sure.expand(count, 1, -1)))
            pulled -= p * pulled.sum(dim=1, keepdim=True)
            total.addmm_(pulled.reshape(count * classes, len(x)), x)
        total *= scale
        return total.reshape(count, -1).mT

    return SymmetricOperator(
        dimension=classes * width,
        apply=apply,
        dtype=features.dtype,
        device=features.device,
        name="softmax-probe Hessian",
        trace=softmax_probe_trace(features, probabilities, reduction=reduction),
    )


def softmax_probe_trace(
    features: Tensor, probabilities: Tensor, *, reduction: Reduction = "mean"
) -> float:
    """tr(H) = Σ_i (1 − ‖p_i‖²)‖x_i‖², over N for the mean; exact."""
    _check(features, probabilities)
    check_reduction(reduction)
    x = features.to(torch.float64).square().sum(dim=1)
    p = probabilities.to(torch.float64)
    # 1 − ‖p‖² as (1 − p_max)(1 + p_max) − the other squares, which a sure probe needs.
    top, place = p.max(dim=1, keepdim=True)
    others = p.scatter(1, place, 0.0)
    spread = others.sum(dim=1) * (1 + top[:, 0]) - others.square().sum(dim=1)
    total = float(x @ spread)
    return total / len(features) if reduction == "mean" else total


def softmax_probe_spectrum(
    features: Tensor,
    probabilities: Tensor,
    *,
    generator: torch.Generator,
    reduction: Reduction = "mean",
    tolerance: float = 1e-6,
    dense: int = DENSE,
    max_products: int = 5000,
    progress: Progress | None = None,
) -> SoftmaxProbeSpectrum:
    """Rank and extreme non-zero eigenvalues, without assembling H where it is large.

    The features are compressed to their range first, and the direction of equal classes is taken
    out, so that what is left is positive definite; its smallest eigenpair then comes from block
    Davidson iterations preconditioned by Σ̄ ⊗ XᵀX/N, with Σ̄ the mean of diag p − ppᵀ.

    Args:
        features: X, shape (N, D); work is in float64 whatever their dtype.
        probabilities: p, shape (N, C).
        generator: draws start blocks.
        reduction: of the loss over samples.
        tolerance: on ‖Hv − σv‖/σ at either end; 1e-6 leaves eigenvalues at about 1e-12.
        dense: up to this many dimensions of the non-zero part it is formed and decomposed, which
            gives the whole spectrum and counts the rank.
        max_products: see `operator_eigenpairs`.
        progress: likewise.

    Returns:
        The spectrum.

    Raises:
        NotConvergedError: when the budget of products runs out.
        ValueError: where H is numerically singular on the range of the features, as when the
            probe is so sure that classes vanish, and too large to decompose.
    """
    _check(features, probabilities)
    rows = len(features)
    factor = range_factor(features)
    assert factor.left is not None
    scale = 1 / rows if reduction == "mean" else 1.0
    compressed = factor.left * factor.singular_values
    p = probabilities.to(torch.float64)
    p = p / p.sum(dim=1, keepdim=True)  # rows of a narrow dtype sum to 1 in that dtype only
    weights, rotation = _class_axes(p, scale)
    if not float(weights[-1]) > 0:
        raise ValueError("The Hessian is zero: the probe is certain of every sample.")
    classes, width = len(weights), factor.rank
    whole = softmax_probe_operator(compressed, p, reduction=reduction)

    def apply(vectors: Tensor) -> Tensor:
        count = vectors.shape[1]
        lifted = rotation @ vectors.reshape(classes, -1)
        image = whole.apply(lifted.reshape(-1, count))
        return (rotation.mT @ image.reshape(len(rotation), -1)).reshape(-1, count)

    operator = SymmetricOperator(
        dimension=classes * width,
        apply=apply,
        device=features.device,
        name="softmax-probe Hessian on its range",
    )
    cut = eigenvalue_tolerance(operator.dimension, torch.float64)
    trace = softmax_probe_trace(features, probabilities, reduction=reduction)
    size = features.shape[1] * p.shape[1]
    if operator.dimension <= dense:
        values = torch.linalg.eigvalsh(operator.dense(limit=dense))
        rank = int(numerical_rank(values, cut))
        kept = values[len(values) - rank :]
        if rank == 0:
            raise ValueError("The Hessian is zero: the probe is certain of every sample.")
        return SoftmaxProbeSpectrum(
            float(kept[-1]), float(kept[0]), rank, size, trace, cut, 0.0, kept
        )

    guess = (weights[:, None] * factor.singular_values.square()).reshape(-1, 1)
    largest, smallest, residual = _extremes(
        operator, guess, cut, generator, tolerance, max_products, progress
    )
    return SoftmaxProbeSpectrum(largest, smallest, operator.dimension, size, trace, cut, residual)


def _class_axes(probabilities: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues (C − 1,) and eigenvectors (C, C − 1) of the mean of diag p − ppᵀ across the
    direction of equal classes, which contrasts take out exactly.

    Sums of p_c·p_k keep their digits for a sure probe, where p − p² has none.
    """
    together = probabilities.mT @ probabilities
    together = together - torch.diag(together.diagonal())
    across = contrasts(probabilities.shape[1]).to(probabilities)
    spread = across.mT @ (torch.diag(together.sum(dim=1)) - together) @ across
    weights, turn = torch.linalg.eigh(spread * scale)
    return weights, across @ turn


def _extremes(
    operator: SymmetricOperator, guess: Tensor, cut: float, generator: torch.Generator,
    tolerance: float, max_products: int, progress: Progress | None,
) -> tuple[float, float, float]:  # fmt: skip
    """Largest and smallest eigenvalue of a positive definite operator, and their relative residual.

    Args:
        operator: on the range of the features.
        guess: of its diagonal in these axes, shape (dimension, 1), which preconditions.
        cut: eigenvalues below this share of the largest are round-off.
        generator, tolerance, max_products, progress: as `softmax_probe_spectrum`.

    Raises:
        ValueError: where the operator is numerically singular.
    """
    guess = guess.clamp_min(float(guess.max()) * torch.finfo(torch.float64).eps)
    top = operator_eigenpairs(
        operator, generator=generator, tolerance=tolerance, max_products=max_products
    )
    low = operator_eigenpairs(
        operator,
        generator=generator,
        end="smallest",
        block=4,
        tolerance=tolerance,
        precondition=lambda residual: residual / guess,
        max_products=max_products,
        progress=progress,
    )
    largest, smallest = float(top.values[0]), float(low.values[0])
    if smallest <= cut * largest:
        raise ValueError(
            f"The Hessian is numerically singular on the range of the features: an eigenvalue of "
            f"{smallest:.3g} beside a largest of {largest:.3g}. Its rank is less than "
            f"{operator.dimension}; raise `dense` to that many dimensions to count it."
        )
    residual = max(float(top.residuals[0]) / largest, float(low.residuals[0]) / smallest)
    return largest, smallest, residual


def contrasts(classes: int) -> Tensor:
    """Orthonormal columns that sum to zero (Helmert's), shape (C, C − 1)."""
    numbers = torch.arange(1, classes)
    basis = torch.ones(classes, classes - 1, dtype=torch.float64).triu()
    basis[numbers, numbers - 1] = -numbers.double()
    return basis / (numbers * (numbers + 1)).double().sqrt()


def _check(features: Tensor, probabilities: Tensor) -> None:
    if features.ndim != 2 or probabilities.ndim != 2 or len(features) != len(probabilities):
        raise ValueError(
            "A softmax probe needs features (N, D) and probabilities (N, C). Got "
            f"{tuple(features.shape)} and {tuple(probabilities.shape)}."
        )
    if len(features) == 0 or probabilities.shape[1] < 2:
        raise ValueError(
            f"A softmax probe needs at least one sample and two classes. Got {len(features)} and "
            f"{probabilities.shape[1]}."
        )
    if not (features.dtype.is_floating_point and probabilities.dtype.is_floating_point):
        raise ValueError(
            f"Features and probabilities are floats. Got {features.dtype} and "
            f"{probabilities.dtype}."
        )
    sums = probabilities.sum(dim=1)
    eps = torch.finfo(probabilities.dtype).eps
    # Softmax in a narrow dtype is off by some eps; NaN fails the comparison too.
    fits = (sums - 1).abs() <= 64 * eps * probabilities.shape[1]
    fits &= (probabilities >= 0).all(dim=1)
    if not bool(fits.all()):
        row = int((~fits).int().argmax())
        raise ValueError(
            f"Rows of probabilities are non-negative and sum to 1. Row {row} sums to "
            f"{float(sums[row]):.6g}, and its smallest entry is "
            f"{float(probabilities[row].min()):.3g}."
        )
