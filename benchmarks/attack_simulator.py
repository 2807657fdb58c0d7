"""The spectral simulator against the straightforward loop: one attacker, one pair, on the data.

    python benchmarks/attack_simulator.py digits
    python benchmarks/attack_simulator.py mnist --data FOLDER
    python benchmarks/attack_simulator.py mnist --data FOLDER --device cuda

Every family attacks D_H of all 90 one-vs-rest pairs with a grid of hyperparameters, all in one call
to the simulator, to the budget of the default study. The loop runs a few of the same attackers for
fewer steps, because all of them would take days; its steps cost the same each, so its time is that
of a step times the steps that all attackers took together. Losses of both are compared where both
are known. The simulator's time counts with the SVDs that it needs once, and without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timing import keep_freed_memory, record, seconds
from torch import Tensor

from hessian_spectrum import probe_spectrum
from immunization.data.download import Place
from immunization.linear.attacks import (
    chebyshev,
    conjugate_gradients,
    gradient_descent,
    heavy_ball,
    nesterov,
)
from immunization.linear.attacks._objective import Attack, AttackPlan
from immunization.linear.attacks._quadratic import Quadratic
from immunization.linear.tasks import TaskSet
from immunization.study.components import components, import_component

BUDGET, THRESHOLD = 2000, 1e-3
EARLY = 8
"""Steps up to which losses are compared apart: conjugate directions are lost to round-off
later, and float64 runs that order their operations differently part."""
GRID = 112
"""Attackers a pair where a family has a grid: 90 pairs make 10,080."""


def descend(x: Tensor, y: Tensor, factor: float) -> Iterator[Tensor]:
    """Gradient descent."""
    length = factor / torch.linalg.matrix_norm(x, 2).square()
    probe = torch.zeros_like(x[0])
    while True:
        yield probe
        probe = probe - length * (x.mT @ (x @ probe - y))


def search(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Gradient descent with exact line search."""
    probe = torch.zeros_like(x[0])
    while True:
        yield probe
        gradient = x.mT @ (x @ probe - y)
        probe = probe - gradient * (gradient @ gradient / (x @ gradient).square().sum())


def roll(x: Tensor, y: Tensor, momentum: float) -> Iterator[Tensor]:
    """Heavy ball."""
    length = 1 / torch.linalg.matrix_norm(x, 2).square()
    probe = old = torch.zeros_like(x[0])
    while True:
        yield probe
        probe, old = probe - length * (x.mT @ (x @ probe - y)) + momentum * (probe - old), probe


def accelerate(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Nesterov's gradient, momentum t/(t + 3)."""
    length = 1 / torch.linalg.matrix_norm(x, 2).square()
    point = ahead = torch.zeros_like(x[0])
    step = 0
    while True:
        yield ahead
        new = ahead - length * (x.mT @ (x @ ahead - y))
        ahead, point = new + step / (step + 3) * (new - point), new
        step += 1


def iterate_chebyshev(x: Tensor, y: Tensor, lowest: float) -> Iterator[Tensor]:
    """Chebyshev's method for eigenvalues from a share of the largest up to it."""
    high = torch.linalg.matrix_norm(x, 2).square()
    centre, radius = high * (1 + lowest) / 2, high * (1 - lowest) / 2
    probe, move, rho = torch.zeros_like(x[0]), torch.zeros_like(x[0]), radius / centre
    first = True
    while True:
        yield probe
        gradient = x.mT @ (x @ probe - y)
        if first:
            move, first = -gradient / centre, False
        else:
            new = 1 / (2 * centre / radius - rho)
            move, rho = new * rho * move - 2 * new / radius * gradient, new
        probe = probe + move


def conjugate(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Conjugate gradients on the normal equations."""
    probe = torch.zeros_like(x[0])
    gradient = x.mT @ (x @ probe - y)
    direction = -gradient
    while True:
        yield probe
        image = x @ direction
        probe = probe - direction * (gradient @ direction / image.square().sum())
        new = x.mT @ (x @ probe - y)
        direction = direction * (new @ new / (gradient @ gradient)) - new
        gradient = new


FAMILIES: dict[str, tuple[Any, dict[str, Any], str | None, Callable[..., Iterator[Tensor]]]] = {
    "gradient_descent": (gradient_descent, {"step": "inverse_l"}, "factor", descend),
    "line_search": (gradient_descent, {"step": "line_search", "factor": 1.0}, None, search),
    "heavy_ball": (heavy_ball, {}, "momentum", roll),
    "nesterov": (nesterov, {"momentum": "schedule"}, None, accelerate),
    "chebyshev": (chebyshev, {}, "lowest", iterate_chebyshev),
    "conjugate_gradients": (conjugate_gradients, {}, None, conjugate),
}
RANGES = {"factor": (0.05, 1.95), "momentum": (0.0, 0.99), "lowest": (1e-4, 0.1)}


def projected(x: Tensor, y: Tensor) -> Tensor:
    """Uᵀy for the left singular vectors U of x above round-off, by QR and an SVD of R."""
    q, r = torch.linalg.qr(x)
    left, values, _ = torch.linalg.svd(r)
    seen = values > max(x.shape) * torch.finfo(x.dtype).eps * values[0]
    return left[:, seen].mT @ (q.mT @ y)


def decompose(tasks: TaskSet, device: str) -> Quadratic:
    """D_H of all pairs on the features as they are."""
    problem = tasks.problem(0, device)
    task = problem.harmful
    spectrum = probe_spectrum(task.factor, task.targets, task.ranks, problem.identity())
    return Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)


class Straightforward:
    """A loop over so many steps, with the loss at each, to know when it is done."""

    def __init__(
        self, loop: Iterator[Tensor], x: Tensor, y: Tensor, record_at: list[int], steps: int
    ) -> None:
        self._loop, self._x, self._y = loop, x, y
        self._record_at, self._steps = record_at, steps
        self.probes: list[Tensor] = []

    def __call__(self) -> None:
        for step, probe in enumerate(self._loop):
            done = float((self._x @ probe - self._y).square().sum()) <= 0
            if step in self._record_at:
                self.probes.append(probe)
            if step == self._steps or done:
                break


def compare(
    tasks: TaskSet,
    objective: Quadratic,
    name: str,
    *,
    device: str,
    samples: int,
    steps: int,
) -> dict[str, Any]:
    """One family, both ways."""
    family, fixed, swept, loop = FAMILIES[name]
    grid: dict[str, Any] = dict(fixed)
    values: Tensor | None = None
    if swept:
        low, high = RANGES[swept]
        values = torch.linspace(low, high, GRID, dtype=torch.float64, device=device)[:, None]
        grid[swept] = values
    attackers = GRID if swept else 1
    record_at = sorted({0, 1, 4, EARLY, steps, BUDGET})
    plan = AttackPlan(BUDGET, THRESHOLD, record_at, attackers, keep=False)
    found: list[Attack] = []
    times: list[float] = []
    while len(times) < 3 and sum(times) < 10:
        times.append(seconds(lambda: found.append(family.attack(objective, grid, plan)), device))
    took = min(times)
    outcome = found[-1]
    # The loop stops at the threshold, as its author would have it.
    work = float(outcome.steps.clamp(max=BUDGET).sum())
    problem = tasks.problem(0, device)
    spent, done, worst = 0.0, 0, [0.0, 0.0]
    pairs = torch.linspace(0, len(problem.harmful.tasks) - 1, samples).long().tolist()
    for place, pair in enumerate(pairs):
        rows = tasks.tasks[problem.harmful.tasks[pair]]
        x = tasks.features(rows.train_rows).to(device)
        y = rows.train_labels.to(device)
        cell = (place * attackers) // samples
        given = [float(values[cell])] if values is not None else []
        run = Straightforward(loop(x, y, *given), x, y, record_at, steps)
        spent += seconds(run, device)
        done += steps
        # Against the best probe of the same data, from another route than the simulator's.
        start = y.square().sum()
        least = start - projected(x, y).square().sum()
        for number, probe in enumerate(run.probes):
            gap = ((x @ probe - y).square().sum() - least) / (start - least)
            late = record_at[number] > EARLY
            difference = abs(float(gap - outcome.gaps[pair, cell, number]))
            worst[late] = max(worst[late], difference)
    whole = spent / done * work
    return {
        "attackers": attackers * len(outcome.steps),
        "steps_together": work,
        "seconds": took,
        "loop_seconds_a_step": spent / done,
        "loop_seconds": whole,
        "ratio": whole / took,
        "largest_difference_early": worst[0],
        "largest_difference_late": worst[1],
        "loops_run": samples,
        "loop_steps_run": steps,
    }


def main() -> None:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", choices=["digits", "mnist"])
    parser.add_argument("--data", type=Path, help="mirror with mnist/")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=3, help="attackers of the loop a family")
    parser.add_argument("--steps", type=int, default=200, help="steps of each of them")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    module = import_component("linear/datasets", options.source)
    schema = components("linear/datasets")[options.source].parameters
    parameters = {name: rule["default"] for name, rule in schema.items() if "default" in rule}
    parameters["task"] = "one_vs_rest"
    source = module.load(parameters, Place(options.data, Path(".cache/data")))
    tasks = source.build(options.source, parameters, [0])
    objectives: list[Quadratic] = []
    setup = min(
        seconds(lambda: objectives.append(decompose(tasks, options.device)), options.device)
        for _ in range(2)
    )
    objective = objectives[-1]
    rows: dict[str, Any] = {}
    for name in FAMILIES:
        found = compare(
            tasks, objective, name,
            device=options.device, samples=options.samples, steps=options.steps,
        )  # fmt: skip
        rows[name] = found
        print(
            f"{name}: {found['attackers']} attackers, {found['seconds']:.3f} s; loop "
            f"{1e6 * found['loop_seconds_a_step']:.0f} µs a step, {found['loop_seconds']:.0f} s: "
            f"{found['ratio']:.0f} ×; losses within "
            f"{found['largest_difference_early']:.0e} to step {EARLY}, "
            f"{found['largest_difference_late']:.0e} at {options.steps}",
            flush=True,
        )
    ours = sum(row["seconds"] for row in rows.values())
    loops = sum(row["loop_seconds"] for row in rows.values())
    count = sum(row["attackers"] for row in rows.values())
    print(
        f"all: {count} attackers, {ours:.2f} s and {setup:.2f} s for the SVDs; loop {loops:.0f} s: "
        f"{loops / ours:.0f} ×, with the SVDs {loops / (ours + setup):.0f} ×"
    )
    record(
        f"attack_simulator.{options.source}.{options.device}",
        {
            "budget": BUDGET, "threshold": THRESHOLD, "threads": options.threads,
            "svd_seconds": setup, "families": rows, "ratio": loops / ours,
            "ratio_with_svd": loops / (ours + setup),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
