"""The loop of every iterative attacker: check, record, step, and let go of who is done."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hessian_spectrum.kernels.cuda_graphs import capture
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective

State = dict[str, Tensor]
"""What an attacker remembers; every tensor has M in front, and ``weights`` is among them."""
Advance = Callable[[Objective, State, Tensor, int], State]
SWEEP = 10
"""Steps after which finished problems are dropped."""
STUCK = 1e-12
"""Excess loss at which nothing more is to be had: who is not done by then never will be."""
WORTHWHILE = 0.75
"""Share of the problems under which those that go on are captured anew on a GPU."""


def iterate(
    objective: Objective,
    state: State,
    advance: Advance,
    plan: AttackPlan,
    *,
    slow_steps: bool = False,
) -> Attack:
    """Run attackers until each is done or the budget is spent.

    The loss is measured where the gradient is taken. On a GPU, where a step is so short that
    launching its operations takes longer than they do, ten steps are one CUDA graph.

    Args:
        objective: the M problems.
        state: at step 0.
        advance: state of step t + 1 from the objective, the state, the gradient at its weights,
            and t. From t = `SWEEP` on it may be called once for many steps: what goes on changing
            with t belongs into the state, which it may change in place.
        plan: budget, threshold and recorded steps.
        slow_steps: whether a step takes so long that finished problems are dropped after each,
            and a graph would gain nothing.
    """
    weights = state["weights"]
    problems, attackers, width = weights.shape
    steps = torch.zeros(problems, attackers, dtype=torch.int64, device=weights.device)
    running = torch.arange(problems, device=weights.device)
    places = {step: place for place, step in enumerate(plan.record)}
    gaps = weights.new_zeros(problems, attackers, len(plan.record))
    distances = torch.full_like(gaps, torch.nan)
    kept = weights.new_zeros(*gaps.shape, width) if plan.keep else None
    last = plan.record[-1]
    now = RunState(objective, state, advance, plan.threshold)
    sweep = 1 if slow_steps else SWEEP
    replayed = weights.is_cuda and objective.replays and not slow_steps
    replay: SweepGraph | None = None
    fresh = SWEEP  # first step from which it may be captured: what is cached must be there
    step = 0
    while True:
        if step in places:
            place = places[step]
            gaps[running, :, place] = now.gap
            distances[running, :, place] = now.objective.distance(now.weights)
            if kept is not None:
                kept[running, :, place] = now.weights
        if step % sweep == 0:
            reachable = now.objective.reachable_gap(now.gap)
            lost = (reachable <= STUCK) | ~torch.isfinite(now.gap)
            lost |= now.objective.stationary(now.gradient)
            over = ~now.pending
            if step < last:
                over &= reachable <= plan.finished_gap
            going = ~(over | lost).all(dim=1)
            left = int(going.sum())
            if left <= (WORTHWHILE * len(going) if replayed else len(going) - 1):
                leaving = running[~going]
                steps[leaving] = torch.where(now.pending, plan.budget + 1, now.counted)[~going]
                for late in range(len(plan.record)):
                    if plan.record[late] > step:
                        gaps[leaving, :, late] = now.gap[~going]
                        distances[leaving, :, late] = now.objective.distance(now.weights)[~going]
                        if kept is not None:
                            kept[leaving, :, late] = now.weights[~going]
                if not left:
                    break
                index = going.nonzero().squeeze(1)
                running = running[index]
                now.select(index)
                replay, fresh = None, step + SWEEP
        if step == plan.budget:
            steps[running] = now.counted
            break
        after = step + SWEEP
        whole = step % SWEEP == 0 and after <= plan.budget
        whole = whole and not any(step < known < after for known in places)
        if replayed and whole and step >= fresh:
            replay = replay or SweepGraph(now, step)
            replay.run(now)
            step = after
        else:
            now.move(step)
            step += 1
    return Attack(steps, gaps, distances, kept)


class RunState:
    """Indices of the problems that are still running.

    Attributes:
        objective: those problems.
        state: of the attackers.
        gap: loss gap (M, G) at the weights of the state.
        gradient: (M, G, k), likewise.
        pending: who is not done, shape (M, G).
        counted: steps of each so far, shape (M, G).
    """

    def __init__(
        self, objective: Objective, state: State, advance: Advance, threshold: float
    ) -> None:
        self.objective, self.state = objective, state
        self.advance, self.threshold = advance, threshold
        self.gap, self.gradient = objective.evaluate(state["weights"])
        self.pending = ~(self.gap <= threshold)
        self.counted = self.pending.to(torch.int64)

    @property
    def weights(self) -> Tensor:
        """Of the state."""
        return self.state["weights"]

    def move(self, step: int) -> None:
        """One step of all."""
        self.state = self.advance(self.objective, self.state, self.gradient, step)
        self.gap, self.gradient = self.objective.evaluate(self.weights)
        self.pending &= ~(self.gap <= self.threshold)
        self.counted += self.pending

    def select(self, index: Tensor) -> None:
        """Keep some problems."""
        self.objective = self.objective.select(index)
        self.state = {name: value[index] for name, value in self.state.items()}
        self.gap, self.gradient = self.gap[index], self.gradient[index]
        self.pending, self.counted = self.pending[index], self.counted[index]


class SweepGraph:
    """`SWEEP` steps as one CUDA graph, which reads and writes tensors of its own."""

    def __init__(self, now: RunState, step: int) -> None:
        self._state = {name: value.clone() for name, value in now.state.items()}
        self._gap, self._gradient = now.gap.clone(), now.gradient.clone()
        self._give(now)

        def steps() -> None:
            for _ in range(SWEEP):
                now.move(step)
            self._take(now)

        self._graph, _ = capture(steps, self._gap.device)
        self._give(now)

    def run(self, now: RunState) -> None:
        """The next steps."""
        self._take(now)  # single steps may have come between
        self._graph.replay()
        self._give(now)

    def _take(self, now: RunState) -> None:
        for name, value in now.state.items():
            if value is not self._state[name]:
                self._state[name].copy_(value)
        if now.gradient is not self._gradient:
            self._gap.copy_(now.gap)
            self._gradient.copy_(now.gradient)

    def _give(self, now: RunState) -> None:
        now.state, now.gap, now.gradient = dict(self._state), self._gap, self._gradient
