"""What every method that moves θ step by step shares: the loop, its end, and its trajectory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from hessian_spectrum import ExtremeTracker, NotFiniteError
from immunization.linear.sufficient_statistics import TaskBatch
from immunization.linear.tasks import Problem

PARAMETERS = {
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 100,
        "description": "largest number of full-batch steps; the paper's house price study takes "
        "100.",
    },
    "stop": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": 0.01,
        "description": "a pair has converged when half as many steps again, twice in a row and "
        "after 20 steps, change neither log κ(H_P) nor log κ(H_H) by more than this; null to take "
        "all steps.",
    },
    "start": {
        "enum": ["identity", "random"],
        "default": "identity",
        "description": "θ at the start: identity, or random with entries from N(0, 1/D). Ratios "
        "are against θ = I either way.",
    },
}
START_DRAW = 2
"""Purpose that seeds a random θ."""
ROUND_OFF_MULTIPLES = 64
"""Multiples of eps·σ_1 below which an eigenvalue of a formed matrix is not told from none."""
RECORD_GROWTH = 1.5
"""Records are taken at 0 and at steps that grow by this."""
MIN_STEPS_TO_CONVERGE = 20
"""Steps before which no pair counts as converged: a slow start looks the same."""


def start_of(problem: Problem, start: str) -> Tensor:
    """θ at step 0, shape (B, D, D)."""
    if start == "identity":
        return problem.identity()
    dimension = problem.dimension
    return problem.normal(START_DRAW, dimension, dimension) / dimension**0.5


def record_steps(last: int) -> list[int]:
    """0, then whole numbers that grow by `RECORD_GROWTH` (by one at first), then ``last``."""
    steps, step = [0], 1
    while step < last:
        steps.append(step)
        step = max(step + 1, round(step * RECORD_GROWTH))
    return [*steps, last]


class ExtremeEigenvalues(NamedTuple):
    """Both ends of one role's Hessian, and its size; each of shape (b,).

    Attributes:
        largest: σ_1.
        smallest: σ_k.
        square: ‖H‖_F².
    """

    largest: Tensor
    smallest: Tensor
    square: Tensor

    def log_condition(self) -> Tensor:
        """log κ; infinite where float64 does not resolve σ_k any more."""
        seen = (
            self.smallest > ROUND_OFF_MULTIPLES * torch.finfo(self.largest.dtype).eps * self.largest
        )
        ratio = self.largest / torch.where(seen, self.smallest, self.largest)
        return torch.where(seen, ratio.log(), torch.inf)


class ConditionTracker:
    """Both ends of both Hessians along a trajectory of θ, warm-started."""

    def __init__(self, problem: Problem) -> None:
        self._roles = [_Role(problem.primary), _Role(problem.harmful)]

    def __call__(self, theta: Tensor) -> tuple[ExtremeEigenvalues, ExtremeEigenvalues]:
        """Of D_P and D_H."""
        primary, harmful = (role(theta) for role in self._roles)
        return primary, harmful


class _Role:
    def __init__(self, task: TaskBatch) -> None:
        self._factor = task.factor
        index = torch.arange(task.factor.shape[-1], device=task.factor.device)
        self._seen = (index < task.ranks[:, None]).to(task.factor.dtype)
        self._top = ExtremeTracker("largest", scale=self._seen)
        self._low = ExtremeTracker("smallest", scale=self._seen)

    def __call__(self, theta: Tensor) -> ExtremeEigenvalues:
        image = self._factor.mT @ theta
        compressed = image @ image.mT
        square = compressed.square().sum((-2, -1))
        norms = square.sqrt()
        return ExtremeEigenvalues(
            self._top(compressed, norms=norms).values,
            self._low(compressed, norms=norms).values,
            square,
        )


class Iteration(ABC):
    """A method at work on some pairs of a problem.

    Attributes:
        pairs: places of the pairs in the problem, shape (b,).
    """

    pairs: Tensor

    @abstractmethod
    def step(self) -> None:
        """One iteration on all of its pairs."""

    @abstractmethod
    def extractor(self) -> Tensor:
        """θ, shape (b, D, D)."""

    @abstractmethod
    def ends(self) -> tuple[ExtremeEigenvalues, ExtremeEigenvalues]:
        """Both ends of H_P and H_H at θ."""

    def task_loss(self) -> Tensor | None:
        """L_P of the method's own probe, shape (b,), where it trains one."""
        return None

    def finished(self) -> Tensor | None:
        """Which pairs are finished, shape (b,); None where the method cannot know."""
        return None


class ThetaIteration(Iteration):
    """A method whose state is θ itself, on all pairs of a problem."""

    theta: Tensor

    def __init__(self, problem: Problem, start: str) -> None:
        self.pairs = torch.arange(problem.size)
        self.theta = start_of(problem, start)
        self._watch = ConditionTracker(problem)

    def extractor(self) -> Tensor:
        return self.theta

    def ends(self) -> tuple[ExtremeEigenvalues, ExtremeEigenvalues]:
        return self._watch(self.theta)


class Record(NamedTuple):
    """What was seen of some pairs after one number of steps; on the CPU.

    Attributes:
        step: number of steps taken.
        pairs: places of the pairs in the problem, shape (r,).
        columns: values by name, each of shape (r,): log_kappa_p, log_kappa_h, r_well, r_ill, and
            loss_p where the method trains a probe.
        converged: whether a pair has stopped here, shape (r,), boolean.
    """

    step: int
    pairs: Tensor
    columns: dict[str, Tensor]
    converged: Tensor


@dataclass(frozen=True)
class Immunized:
    """What a method that moves θ step by step returns.

    Attributes:
        theta: θ, shape (B, D, D).
        records: its trajectory; empty where none was asked for.
        singular: whether θ has lost directions on purpose, as by erasure. Its rank is then counted
            at round-off, and limits for invertible θ do not bind it.
    """

    theta: Tensor
    records: list[Record] = field(default_factory=list)
    singular: bool = False


def descend(
    problem: Problem,
    makers: Sequence[Callable[[], Iteration]],
    *,
    steps: int,
    stop: float | None,
) -> Immunized:
    """Run iterations, which share the pairs of a problem among them, each to its end.

    Both ends of both Hessians are looked at when a record is due, not at every step. A pair that
    has converged keeps the θ it had then, whatever the others of its batch still do.

    Args:
        problem: the pairs.
        makers: of iterations that together hold every pair once. Each is made when the one
            before has ended and its memory is free.
        steps: most steps.
        stop: see `PARAMETERS`.

    Returns:
        θ and the trajectory.

    Raises:
        NotFiniteError: with the place in the problem of a pair that diverged.
    """
    theta = torch.empty_like(problem.identity())
    records: list[Record] = []
    for make in makers:
        iteration = make()
        try:
            theta[iteration.pairs] = _run(problem, iteration, steps, stop, records)
        except NotFiniteError as error:
            # Its place in the group is not that in the problem.
            raise NotFiniteError(int(iteration.pairs[error.index])) from error
        del iteration
    return Immunized(theta, sorted(records, key=lambda record: record.step))


def _run(
    problem: Problem, iteration: Iteration, steps: int, stop: float | None, records: list[Record]
) -> Tensor:
    kept: Tensor | None = None
    going = torch.ones(len(iteration.pairs), dtype=torch.bool)
    before: tuple[Tensor, Tensor] | None = None
    calm = torch.zeros_like(going)
    taken = seen = 0
    for due in record_steps(steps):
        while taken < due:
            iteration.step()
            taken += 1
        columns = _columns(problem, iteration)
        now = columns["log_kappa_p"], columns["log_kappa_h"]
        done = iteration.finished()
        converged = torch.zeros_like(going) if done is None else done.cpu()
        # The last record may follow too soon on the one before to say anything.
        if stop is not None and before is not None and taken >= 0.95 * RECORD_GROWTH * seen:
            moved = torch.stack([(a - b).abs() for a, b in zip(now, before, strict=True)])
            still = (moved <= stop).all(dim=0)
            if taken > MIN_STEPS_TO_CONVERGE:
                converged |= still & calm
            calm = still
        before, seen = now, taken
        converged &= going
        records.append(
            Record(
                taken,
                iteration.pairs.cpu()[going],
                {name: values[going] for name, values in columns.items()},
                converged[going],
            )
        )
        if bool(converged.any()):
            current = iteration.extractor()
            if kept is None:
                kept = current.clone()
            else:
                kept[converged] = current[converged]
        going &= ~converged
        if not bool(going.any()):
            break
    final = iteration.extractor()
    if kept is None:
        return final
    kept[going] = final[going]
    return kept


def _columns(problem: Problem, iteration: Iteration) -> dict[str, Tensor]:
    """Values of a record, on the CPU; the definitions are the paper's (Sec. 4.1)."""
    primary, harmful = iteration.ends()
    ranks = problem.harmful.ranks[iteration.pairs.to(problem.harmful.ranks.device)]
    columns = {
        "log_kappa_p": primary.log_condition(),
        "log_kappa_h": harmful.log_condition(),
        "r_well": 0.5 * primary.largest.square() - primary.square / (2 * problem.dimension),
        "r_ill": 1 / (harmful.square / (2 * ranks) - 0.5 * harmful.smallest.square()),
    }
    loss = iteration.task_loss()
    if loss is not None:
        columns["loss_p"] = loss
    return {name: values.cpu() for name, values in columns.items()}
