"""What immunization did to one batch of pairs: κ by each definition, ratios, limit, Definition 3.1.

Pure functions on tensors; the stages in `spectra` and `attack` are their edges.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hessian_spectrum import (
    ProbeSpectrum,
    RangeFactor,
    condition_number,
    effective_rank,
    generalized_spectrum,
    immunizability_limit,
    limit_from_spread,
    probe_spectrum,
    released_condition,
    resolved_only,
    ridge_condition,
)
from hessian_spectrum.kernels.cuda_streams import map_streams
from immunization.linear.sufficient_statistics import TaskBatch, centred_factors
from immunization.linear.tasks import Problem, held_out
from immunization.linear.tolerances import UNCHANGED

NO_SCORE = 1e-10
"""Scores under this are round-off: labels and logits are of order one."""


class RoleReport(NamedTuple):
    """One role under one θ; each tensor has shape (B,) unless said otherwise.

    Attributes:
        spectrum: eigenvalues, label coefficients and eigenvectors.
        ranks: of H, integer.
        kappa: over the non-zero spectrum.
        label: label-weighted κ, see `label_condition`.
        released: κ of the released code.
        floored: whether that is only its floor.
        ridge: κ with a relative ridge.
        effective_rank: exp of the spectral entropy.
        loss: of the best probe on the training rows, ‖Xθω − y‖²/(2N).
        energy: ‖y‖²/(2N), the loss of the zero probe.
    """

    spectrum: ProbeSpectrum
    ranks: Tensor
    kappa: Tensor
    label: Tensor
    released: Tensor
    floored: Tensor
    ridge: Tensor
    effective_rank: Tensor
    loss: Tensor
    energy: Tensor

    def host(self) -> RoleReport:
        """The same on the CPU, but for the eigenvectors, which stay where they are."""
        spectrum = self.spectrum._replace(
            eigenvalues=self.spectrum.eigenvalues.cpu(),
            coefficients=self.spectrum.coefficients.cpu(),
            explained=self.spectrum.explained.cpu(),
            resolved=self.spectrum.resolved.cpu(),
        )
        return RoleReport(spectrum, *(value.cpu() for value in self[1:]))

    def without_vectors(self) -> RoleReport:
        """The same with its eigenvectors let go, which are most of its memory."""
        none = self.spectrum.vectors.new_empty(0)
        return self._replace(spectrum=self.spectrum._replace(vectors=none))


def label_condition(eigenvalues: Tensor, coefficients: Tensor, share: float) -> Tensor:
    """σ_1 over the eigenvalue below which only a share of the labels' energy lies, shape (B,).

    The loss of a probe above the best is Σσ²e², so a direction matters by what it explains of the
    labels, σ²w*². Directions that together explain less than the threshold of an attack need not
    be learnt: the spectrum that gradient descent meets ends here, and its steps are about
    ½·log(1/share) times this.

    Args:
        eigenvalues: σ², shape (B, k), ascending, zeros first.
        coefficients: of w*, shape (B, k).
        share: of the energy.
    """
    energy = (eigenvalues * coefficients.square()).cumsum(-1)
    needed = (energy > share * energy[:, -1:]) & (eigenvalues > 0)
    first = torch.where(needed.any(-1), needed.to(torch.int8).argmax(-1), energy.shape[-1] - 1)
    return eigenvalues[:, -1] / eigenvalues.gather(1, first[:, None]).squeeze(1)


def report_role(
    task: TaskBatch, theta: Tensor, *, ridge: float, label_share: float = 1e-3,
    singular: bool = False,
) -> RoleReport:  # fmt: skip
    """Evaluate one role.

    Args:
        task: D_P or D_H.
        theta: θ, shape (B, D, D).
        ridge: relative ridge of the ridge κ.
        label_share: share of the labels' energy that the label-weighted κ leaves out.
        singular: whether θ has lost directions on purpose; what round-off leaves of them is then
            no part of the spectrum.
    """
    spectrum = probe_spectrum(task.factor, task.targets, task.ranks, theta)
    ranks = task.ranks
    if singular:
        spectrum = resolved_only(spectrum)
        ranks = spectrum.resolved
    dimension = theta.shape[-1]
    # Padding zeros count as zero eigenvalues of H where the rank is short of D.
    values = spectrum.eigenvalues
    released = released_condition(values, dimension)
    return RoleReport(
        spectrum=spectrum,
        ranks=ranks,
        kappa=condition_number(values, ranks),
        label=label_condition(values, spectrum.coefficients, label_share),
        released=released.value,
        floored=released.floored,
        ridge=ridge_condition(values, ranks, ridge),
        effective_rank=effective_rank(values),
        loss=(task.target_energy - spectrum.explained).clamp_min(0) / (2 * task.rows),
        energy=task.target_energy / (2 * task.rows),
    )


class Limit(NamedTuple):
    """What any invertible θ can reach on each pair; shape (B,).

    Attributes:
        rir: RIR_max; infinite where D_H uses directions unseen by D_P.
        outside: share of the harmful energy in those directions.
        reach: where the limit is infinite, the RIR that the closed form reaches at κ(H_P) = 1
            when unseen directions count with a floor (no limit: other θ go beyond); the limit
            itself where that is finite.
        intercept: RIR_max for probes with an intercept, by κ of centred features. It binds other
            condition numbers than ``rir`` and may lie on either side of it.
    """

    rir: Tensor
    outside: Tensor
    reach: Tensor
    intercept: Tensor


def limits(problem: Problem, *, unseen_floor: float) -> Limit:
    """Immunizability limit of each pair (see `hessian_spectrum.immunizability`); on the
    CPU, wherever it was computed."""

    Pair = tuple[RangeFactor, RangeFactor]

    def one(both: tuple[Pair, Pair]) -> tuple[float, float, float, float]:
        pair, middle = both
        with_one = immunizability_limit(*middle)
        plain = generalized_spectrum(*pair)
        if plain.contained or pair[1].rank == 1:
            finite = limit_from_spread(plain.spread, *pair)
            return finite, 0.0, finite, with_one
        floored = generalized_spectrum(*pair, unseen_floor=unseen_floor)
        reach = limit_from_spread(floored.spread, *pair)
        return float("inf"), plain.outside, reach, with_one

    roles = problem.primary, problem.harmful
    pairs = zip(*(role.range_factors() for role in roles), strict=True)
    middles = zip(*(centred_factors(role) for role in roles), strict=True)
    rows = map_streams(one, list(zip(pairs, middles, strict=True)), problem.primary.factor.device)
    return Limit(*torch.tensor(rows, dtype=torch.float64).T)


def reference_condition(task: TaskBatch) -> Tensor:
    """κ(K) before immunization, from the data's own singular values, shape (B,); on the CPU."""
    last = task.singular_values.gather(1, task.ranks[:, None] - 1).squeeze(1)
    return (task.singular_values[:, 0] / last).square().cpu()


def optimality(rir: Tensor, limit: Tensor) -> Tensor:
    """log RIR / log RIR_max; NaN where the limit is infinite or leaves nothing to gain."""
    gain = limit.log()
    defined = torch.isfinite(gain) & (gain > UNCHANGED)
    share = rir.log() / torch.where(defined, gain, torch.ones_like(gain))
    return torch.where(defined, share, torch.nan)


class Definition(NamedTuple):
    """Definition 3.1, each part met or not, shape (B,), boolean."""

    a: Tensor
    b: Tensor
    c: Tensor


def definition(
    ratio_i: Tensor, ratio_ii: Tensor, after: RoleReport, before: RoleReport, *, much_larger: float
) -> Definition:
    """Definition 3.1 of Zheng et al., ICML 2025.

    (a) κ(H_H(θ)) ≫ κ(H_H(I)), read as (i) ≥ ``much_larger``; (b) κ(H_P(θ)) ≤ κ(H_P(I)); (c)
    the best loss on D_P is kept, up to `UNCHANGED` of ‖y‖²/(2N).

    Args:
        ratio_i: κ(H_H(θ))/κ(H_H(I)).
        ratio_ii: κ(H_P(θ))/κ(H_P(I)).
        after, before: reports on D_P.
        much_larger: the factor that ≫ stands for.
    """
    return Definition(
        a=ratio_i >= much_larger,
        b=ratio_ii <= 1 + UNCHANGED,
        c=after.loss <= before.loss + UNCHANGED * before.energy,
    )


def correct(scores: Tensor, labels: Tensor) -> Tensor:
    """Share of rows whose sign is right, shape (…).

    A score that is round-off, or not finite, is no prediction and counts half.

    Args:
        scores: shape (…, n).
        labels: of either sign, broadcast to the scores, NaN for padding.
    """
    valid = ~labels.isnan()
    decided = (scores.abs() > NO_SCORE) & torch.isfinite(scores)
    right = torch.where(decided, ((scores > 0) == (labels > 0)).to(scores), 0.5)
    return (right * valid).sum(-1) / valid.sum(-1)


def correct_class(scores: Tensor, labels: Tensor) -> Tensor:
    """Share of rows whose own class has the largest score, repeated for each class, shape (M, …).

    A row without a score that is more than round-off, or with one that is not finite, is no
    prediction and counts as a guess, 1/M.

    Args:
        scores: of M classes, each against the rest, shape (M, …, n).
        labels: of either sign, broadcast to the scores, NaN for padding.
    """
    labels = labels.expand_as(scores)
    valid = ~labels[0].isnan()
    decided = (scores.abs().amax(0) > NO_SCORE) & torch.isfinite(scores).all(0)
    best = scores.nan_to_num().argmax(0, keepdim=True)
    right = torch.where(decided, (labels.gather(0, best)[0] > 0).to(scores), 1 / len(scores))
    share = (right * valid).sum(-1) / valid.sum(-1)
    return share.expand(len(scores), *share.shape)


def accuracy(
    problem: Problem, task: TaskBatch, weights: Tensor, *, several: bool = False
) -> Tensor:
    """Held-out accuracy of sign(X_test·β), shape (B, m).

    Args:
        problem: for the source of the rows.
        task: the role.
        weights: β = θω, shape (B, D, m), m probes a pair.
        several: whether the B pairs are the classes of one task (see `TaskSet.class_roles`); the
            accuracy is then that of the class with the largest score.
    """
    tasks = [problem.source.tasks[number] for number in task.tasks]
    features, labels = held_out(problem.source, tasks, weights)
    scores = features @ weights
    if problem.source.intercept:
        constant = (task.target_sum / task.rows)[:, None, None]
        scores = scores + (constant - task.mean[:, None] @ weights)
    return (correct_class if several else correct)(scores.mT, labels[:, None])
