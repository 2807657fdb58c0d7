"""Spectral density by stochastic Lanczos quadrature, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hessian_spectrum.lanczos import Progress, lanczos, start_vectors
from hessian_spectrum.operators import SymmetricOperator
from hessian_spectrum.quadrature import jacobi_matrix, radau_rule, rule_of


@dataclass(frozen=True)
class Estimate:
    """A stochastic estimate.

    Attributes:
        value: the mean over samples.
        standard_error: of that mean; NaN for a single sample, whose error is unknown.
            A bounded error of the quadrature is counted in; where it is unknown,
            the standard error is infinite.
        samples: how many.
    """

    value: float
    standard_error: float
    samples: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval by Student's t, which few samples need.

        >>> import torch
        >>> low, high = Estimate.of(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).interval()
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)

        Args:
            level: of confidence.

        Returns:
            Its ends; infinite where the standard error is not known.
        """
        from scipy import stats

        if self.samples < 2 or not math.isfinite(self.standard_error):
            return -math.inf, math.inf
        reach = float(stats.t.ppf((1 + level) / 2, self.samples - 1)) * self.standard_error
        return self.value - reach, self.value + reach

    @classmethod
    def of(cls, samples: Tensor) -> Estimate:
        """From independent samples, shape (s,)."""
        count = len(samples)
        error = float(samples.std() / count**0.5) if count > 1 else math.nan
        return cls(float(samples.mean()), error, count)


@dataclass(frozen=True)
class SpectralDensity:
    """Gauss quadrature of the eigenvalue distribution, one rule for each start vector.

    The rule of j nodes from start v integrates polynomials up to degree 2j − 1 exactly against
    the weights (vᵀu_i)²; random v make that n⁻¹Σδ(λ − λ_i) on average. Source: Golub and Meurant
    (1994); Ubaru, Chen and Saad (2017).

    Attributes:
        nodes: shape (s, j), ascending, float64.
        weights: shape (s, j), rows sum to 1.
        dimension: n.
        largest: the largest Ritz value over all starts; a lower bound of λ_max, and usually λ_max
            itself long before the density is done.
        smallest: likewise an upper bound of λ_min.
        largest_residual: ‖Hx − λx‖ of ``largest``: an eigenvalue lies that close to it.
        smallest_residual: likewise.
        steps: Lanczos steps that were asked for. A rule of fewer nodes has found all of its
            eigenvalues and is exact.
    """

    nodes: Tensor
    weights: Tensor
    dimension: int
    largest: float
    smallest: float
    largest_residual: float
    smallest_residual: float
    steps: int = 0

    def moment(self, power: int) -> Estimate:
        """tr(H^power), exact in expectation for power < 2j."""
        return Estimate.of(self.dimension * (self.weights * self.nodes**power).sum(dim=1))

    def trace(self) -> Estimate:
        """tr(H): a Hutchinson estimate from the same products."""
        return self.moment(1)

    def count_above(self, threshold: float) -> Estimate:
        """How many eigenvalues lie above a threshold.

        A threshold inside a cluster of eigenvalues makes the rule's own error large, which the
        standard error over starts shows only in part.
        """
        inside = (self.nodes > threshold).to(self.weights.dtype)
        return Estimate.of(self.dimension * (self.weights * inside).sum(dim=1))

    def log_determinant(
        self, *, damping: float = 0.0, threshold: float = 0.0, lowest: float | None = None
    ) -> Estimate:
        """log det(H + δI), or log pseudo-determinant: Σ log(λ + δ) over eigenvalues above a cut.

        A Gauss rule integrates the logarithm to too much, the more the larger κ is for its steps.
        With ``lowest`` a Gauss–Radau rule bounds it from below, the value is the middle of both,
        and half of what lies between them is in the standard error. Without, the rule is compared
        with one of half its nodes: where twice the difference is more than the standard error
        over starts, the error is unknown, and the standard error is infinite. Take more steps, or
        give ``lowest``.

        Args:
            damping: δ.
            threshold: eigenvalues of at most this magnitude count as zero and are left out; on a
                singular matrix put it at the rank tolerance, such as D·eps·λ_max. Default: none
                are.
            lowest: a number that no eigenvalue of H lies below, such as 0 for a positive
                semi-definite H with damping. Not with a threshold.

        Raises:
            ValueError: where an eigenvalue that counts is not positive after damping, or
                ``lowest`` is above a node, or not positive after damping.
        """
        kept = self.weights > 0
        if threshold > 0:
            kept &= self.nodes.abs() > threshold
        if bool((kept & (self.nodes + damping <= 0)).any()):
            raise ValueError(
                f"The smallest node is {float(self.nodes.min()):.3g}: log det needs a positive "
                "definite matrix. Raise the damping, or give a threshold."
            )
        if lowest is not None:
            seen = float(self.nodes[self.weights > 0].min())
            if threshold > 0 or not -damping < lowest <= seen:
                raise ValueError(
                    f"`lowest` lies between −damping and the smallest node, {seen:.3g}, and goes "
                    f"with no threshold. Got {lowest}."
                )

        def integral(nodes: Tensor, weights: Tensor) -> Tensor:
            counts = (weights > 0) & (nodes + damping > 0)
            if threshold > 0:
                counts &= nodes.abs() > threshold
            logs = torch.where(counts, nodes + damping, 1.0).log()
            return self.dimension * (weights * logs).sum()

        upper, other, every_rule_has_a_half = [], [], True
        for nodes, weights in zip(self.nodes.cpu(), self.weights.cpu(), strict=True):
            real = weights > 0
            nodes, weights = nodes[real], weights[real]
            upper.append(integral(nodes, weights))
            if len(nodes) < self.steps or len(nodes) >= self.dimension:
                other.append(upper[-1])  # exact
                continue
            matrix = jacobi_matrix(nodes, weights)
            half = max(1, len(matrix) // 2)
            if lowest is None and half == len(matrix):
                every_rule_has_a_half = False  # one node has no half
            rule = rule_of(matrix[:half, :half]) if lowest is None else radau_rule(matrix, lowest)
            other.append(integral(*rule))
        estimate = Estimate.of(torch.stack(upper))
        apart = float((torch.stack(upper) - torch.stack(other)).mean().abs())
        if lowest is not None:
            error = estimate.standard_error + apart / 2
            return Estimate(estimate.value - apart / 2, error, estimate.samples)
        if (apart == 0 and every_rule_has_a_half) or math.isnan(estimate.standard_error):
            return estimate
        every_rule_has_a_half &= 2 * apart <= estimate.standard_error
        error = estimate.standard_error + 2 * apart if every_rule_has_a_half else math.inf
        return Estimate(estimate.value, error, estimate.samples)

    def evaluate(self, grid: Tensor, *, width: float | None = None) -> Tensor:
        """Density at the points of a grid, each node a normal curve; integrates to 1.

        Args:
            grid: shape (g,).
            width: standard deviation; default 1 % of the spectrum's extent, a matter of looks.

        Returns:
            Shape (g,).
        """
        extent = self.largest - self.smallest
        if width is None:
            width = 0.01 * extent if extent > 0 else max(abs(self.largest), 1.0) * 0.01
        scaled = (grid[:, None, None] - self.nodes.to(grid)) / width
        curves = torch.exp(-0.5 * scaled.square()) / (width * (2 * math.pi) ** 0.5)
        return (curves * self.weights.to(grid)).sum(dim=-1).mean(dim=-1)


def spectral_density(
    operator: SymmetricOperator,
    *,
    generator: torch.Generator,
    vectors: int = 1,
    steps: int = 60,
    progress: Progress | None = None,
) -> SpectralDensity:
    """Estimate the density of the eigenvalues of H.

    >>> import torch
    >>> from hessian_spectrum import dense_operator
    >>> h = dense_operator(torch.diag(torch.linspace(1, 2, 100, dtype=torch.float64)))
    >>> density = spectral_density(h, generator=torch.Generator().manual_seed(0), vectors=10)
    >>> round(density.largest, 6), round(density.smallest, 6)
    (2.0, 1.0)
    >>> estimate = density.trace()
    >>> abs(estimate.value - 150) < 4 * estimate.standard_error
    True

    Args:
        operator: H.
        generator: every draw comes from it.
        vectors: start vectors s. For operators of a large n one is enough for a picture; take
            several where a standard error is wanted.
        steps: Lanczos steps j; 60 resolve the extremes and a smooth bulk. Memory: s·j vectors.
        progress: called after each product.

    Returns:
        The density; its extremes cost nothing more.
    """
    if vectors < 1 or steps < 1:
        raise ValueError(
            f"A density needs at least one vector and one step. Got {vectors} and {steps}."
        )
    start = start_vectors(operator, vectors, generator)
    krylov = lanczos(operator, start, steps, progress=progress)
    nodes, inner = krylov.ritz()
    weights = inner[:, 0, :].square()
    # Nodes past a breakdown have no weight; they must not pass for extremes.
    real = weights > 0
    place = torch.arange(len(nodes), device=nodes.device)
    last = krylov.off[place, krylov.lengths.clamp(max=nodes.shape[1]) - 1]
    tail = inner[place, krylov.lengths.clamp(max=nodes.shape[1]) - 1, :].abs() * last[:, None]

    def extreme(sign: float) -> tuple[float, float]:
        value = torch.where(real, sign * nodes, -torch.inf).flatten()
        best = int(value.argmax())
        return float(sign * value[best]), float(tail.flatten()[best])

    (largest, above), (smallest, below) = extreme(1.0), extreme(-1.0)
    return SpectralDensity(
        nodes=nodes,
        weights=weights,
        dimension=operator.dimension,
        largest=largest,
        smallest=smallest,
        largest_residual=above,
        smallest_residual=below,
        steps=steps,
    )


def trace_estimate(
    operator: SymmetricOperator,
    *,
    generator: torch.Generator,
    samples: int = 30,
    block: int = 10,
    progress: Progress | None = None,
) -> Estimate:
    """tr(H) by Hutchinson's estimator with ±1 vectors, and its standard error.

    On flat spectra nothing stochastic is better; where the operator knows its ``trace`` use that.
    There is no stopping rule: one on the last change stops far too early.

    Args:
        operator: H.
        generator: every draw comes from it.
        samples: vectors; the error falls like their square root.
        block: vectors a product.
        progress: called after each product.
    """
    if samples < 1 or block < 1:
        raise ValueError(
            f"A trace estimate needs at least one sample, and one a block. Got {samples} and "
            f"{block}."
        )
    estimates = []
    for begin in range(0, samples, block):
        start = start_vectors(operator, min(block, samples - begin), generator, signs=True)
        estimates.append((start * (operator @ start)).sum(dim=0).to(torch.float64))
        if progress is not None:
            progress(min(begin + block, samples), samples)
    return Estimate.of(torch.cat(estimates).cpu())
