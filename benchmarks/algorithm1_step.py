"""A whole step of Algorithm 1, against its straightforward form, on the same pairs in one run.

    python benchmarks/algorithm1_step.py digits
    python benchmarks/algorithm1_step.py mnist --data FOLDER --pairs 8
    python benchmarks/algorithm1_step.py mnist --data FOLDER --device cuda

A step holds both extreme eigenpairs, both regularizers' gradients, the task loss and the update.
The straightforward form does the same by autograd through ``eigvalsh``, one pair after another.
Both start at θ = I and are compared after some steps, so that a fast wrong answer would show. Each
round of ours is the study's 100 steps from θ = I; the straightforward form's cost does not change.
"""

from __future__ import annotations

import argparse
import statistics
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from timing import alternate, keep_freed_memory, ratio, record
from torch import Tensor

from hessian_spectrum import r_ill, r_well
from immunization.data.download import Place
from immunization.linear.methods._joint_step import JointAlgorithm, joint_of
from immunization.linear.methods._task_loss import TaskLoss, initial_probe
from immunization.linear.sufficient_statistics import TaskBatch
from immunization.linear.tasks import Problem
from immunization.study.components import components, import_component

ETA = 0.005


class Straightforward:
    """Algorithm 1 line by line: autograd, ``eigvalsh``, an explicit pseudo-inverse.

    With ``exact`` the extreme eigenpairs come from the singular values of Fᵀθ instead, and the
    preconditioned gradients from their closed forms: the way that loses no digits.
    """

    def __init__(self, problem: Problem, pair: int, *, exact: bool = False) -> None:
        self.factors = [task.range_factor(pair) for task in (problem.primary, problem.harmful)]
        self.exact = exact
        loss = TaskLoss.of(problem.primary)
        self.gram_p, self.gram_h = problem.primary.gram()[pair], problem.harmful.gram()[pair]
        self.inverse_p = pseudo_inverse(problem.primary, pair)
        self.inverse_h = pseudo_inverse(problem.harmful, pair)
        self.loss_gram, self.moment = loss.gram[pair], loss.moment[pair]
        self.rows, self.rank = float(loss.rows[pair]), int(problem.harmful.ranks[pair])
        self.theta = problem.identity()[pair]
        self.probe = initial_probe(problem)[pair]
        self.weights: tuple[Tensor, Tensor] | None = None

    def step(self) -> None:
        """One iteration."""
        theta, probe = self.theta.requires_grad_(), self.probe.requires_grad_()
        image = theta @ probe
        loss = (image @ (self.loss_gram @ image) - 2 * image @ self.moment) / (2 * self.rows)
        by_theta, by_probe = torch.autograd.grad(loss, (theta, probe))
        if self.exact:
            by_well, by_ill = self.by_singular_values(theta.detach())
        else:
            h_p, h_h = theta.mT @ self.gram_p @ theta, theta.mT @ self.gram_h @ theta
            well = r_well(h_p, torch.linalg.eigvalsh(h_p)[-1])
            ill = r_ill(h_h, torch.linalg.eigvalsh(h_h)[-self.rank], self.rank)
            (by_well,) = torch.autograd.grad(well, theta)
            (by_ill,) = torch.autograd.grad(ill, theta)
            by_well, by_ill = self.inverse_p @ by_well, self.inverse_h @ by_ill
        with torch.no_grad():
            if self.weights is None:
                self.weights = theta.norm() / by_well.norm(), theta.norm() / by_ill.norm()
            step = by_theta + self.weights[0] * by_well + self.weights[1] * by_ill
            self.theta = (theta - ETA * step).detach()
            self.probe = (probe - ETA * by_probe).detach()

    def by_singular_values(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """K_P⁺∇_θR_well and K_H⁺∇_θR_ill, where K⁺·2FG is 2VS⁻¹G: no solve that cancels."""
        found = []
        for role, factor in enumerate(self.factors):
            image = factor.matrix.mT @ theta
            left, values, right = torch.linalg.svd(image, full_matrices=False)
            place = 0 if role == 0 else self.rank - 1
            sigma, size = values[place].square(), len(theta) if role == 0 else self.rank
            pull = sigma * values[place] * torch.outer(left[:, place], right[place])
            inner = pull - (left * values.pow(3)) @ right / size
            gradient = 2 * (factor.basis / factor.singular_values) @ inner
            if role == 1:
                gap = values.pow(4).sum() / (2 * size) - sigma.square() / 2
                gradient = gradient / gap.square()
            found.append(gradient)
        return found[0], found[1]


def pseudo_inverse(task: TaskBatch, pair: int) -> Tensor:
    """K⁺ at the rank that was decided from the data."""
    factor = task.range_factor(pair)
    scaled = factor.basis / factor.singular_values
    return scaled @ scaled.mT


def problem_of(options: argparse.Namespace) -> Problem:
    """The pairs that are timed."""
    schema = components("linear/datasets")[options.dataset].parameters
    parameters: dict[str, Any] = {name: rule["default"] for name, rule in schema.items()}
    every = [[i, j] for i in range(10) for j in range(10) if i != j]
    # Spread over the digits rather than the first few of them.
    chosen = every if options.pairs >= 90 else every[:: 90 // options.pairs][: options.pairs]
    parameters["pairs"] = chosen
    place = Place(options.data, Path(".cache/data"))
    source = import_component("linear/datasets", options.dataset).load(parameters, place)
    return source.build(options.dataset, parameters, [0]).problem(0, options.device)


class Alone:
    """Ours in this process."""

    def __init__(self, problem: Problem, part: int = 0, parts: int = 1) -> None:
        self.problem, self.joint = problem, joint_of(problem)
        self.pairs = self.joint.groups(parts)[part]
        self.reset()

    def reset(self) -> None:
        """Back to θ = I."""
        self.states = [JointAlgorithm(self.problem, self.joint, self.pairs, eta=ETA)]

    def advance(self, steps: int) -> None:
        """Take some steps."""
        for state in self.states:
            for _ in range(steps):
                state.step()

    def close(self) -> None:
        """Nothing to let go."""

    def errors(self, problem: Problem) -> tuple[float, float]:
        """Largest relative errors of σ_1(H_P) and σ_k(H_H) in a step, against dense singular
        values of Fᵀθ, which keep more digits than any Gram matrix."""
        worst = [0.0, 0.0]
        for state in self.states:
            theta = state.extractor()
            state.step()
            for role, task in enumerate((problem.primary, problem.harmful)):
                for i, pair in enumerate(state.pairs.tolist()):
                    factor = task.range_factor(pair).matrix
                    values = torch.linalg.svdvals(factor.mT @ theta[i]).square()
                    exact = values[0] if role == 0 else values[factor.shape[1] - 1]
                    error = float((state.extremes[role][i] / exact - 1).abs())
                    worst[role] = max(worst[role], error)
        return worst[0], worst[1]

    def extractors(self, problem: Problem) -> Tensor:
        """θ of the pairs that it holds; the others stay I."""
        theta = problem.identity()
        for state in self.states:
            theta[state.pairs] = state.extractor()
        return theta


def work(link: Connection, options: argparse.Namespace, part: int, parts: int) -> None:
    """A worker: builds its share of the pairs, then takes steps on command."""
    keep_freed_memory()
    torch.set_num_threads(1)
    problem = problem_of(options)
    mine = Alone(problem, part, parts)
    link.send("ready")
    while (steps := link.recv()) is not None:
        if steps == 0:
            link.send(mine.extractors(problem).numpy())
            continue
        if steps == -1:
            link.send(mine.errors(problem))
            continue
        if steps == -2:
            mine.reset()
            link.send("done")
            continue
        mine.advance(steps)
        link.send("done")
    link.close()


class Team:
    """Ours in one process a core, as the pipeline runs its jobs: no interpreter lock is shared."""

    def __init__(self, options: argparse.Namespace, count: int) -> None:
        context = get_context("spawn")
        self.links = []
        for part in range(count):
            here, there = context.Pipe()
            context.Process(target=work, args=(there, options, part, count), daemon=True).start()
            self.links.append(here)
        self._all("ready")

    def _all(self, expected: str) -> None:
        for link in self.links:
            assert link.recv() == expected

    def advance(self, steps: int) -> None:
        """Take some steps in every worker."""
        for link in self.links:
            link.send(steps)
        self._all("done")

    def reset(self) -> None:
        """Back to θ = I in every worker."""
        self.advance(-2)

    def errors(self, problem: Problem) -> tuple[float, float]:
        """The worst of all workers."""
        for link in self.links:
            link.send(-1)
        found = [link.recv() for link in self.links]
        return max(e[0] for e in found), max(e[1] for e in found)

    def close(self) -> None:
        """Let the workers go."""
        for link in self.links:
            link.send(None)

    def extractors(self, problem: Problem) -> Tensor:
        """θ of all pairs."""
        theta = problem.identity()
        eye = theta.clone()
        for link in self.links:
            link.send(0)
            theta = theta + torch.from_numpy(link.recv()) - eye
        return theta


def floors(problem: Problem, size: int, device: str) -> dict[str, float]:
    """What the matrix products of a step cost by themselves, and eigendecompositions, in ms.

    Args:
        problem: for the number of pairs and features.
        size: m, of the joint range.
        device: where.
    """
    small = torch.rand(problem.size, size, size, dtype=torch.float64, device=device)
    large = torch.rand(problem.size, *[problem.dimension] * 2, dtype=torch.float64, device=device)
    gram = large @ large.mT
    out_small, out_large = torch.empty_like(small), torch.empty_like(large)
    found = alternate(
        {
            "two_products_of_the_joint_range_ms": lambda: [
                torch.bmm(small, small, out=out_small) for _ in range(2)
            ],
            "seven_products_of_all_features_ms": lambda: [
                torch.bmm(large, large, out=out_large) for _ in range(7)
            ],
            "two_batched_eigh_ms": lambda: [torch.linalg.eigh(gram) for _ in range(2)],
        },
        rounds=3,
        device=device,
    )
    return {name: 1e3 * statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=["digits", "mnist"])
    parser.add_argument("--data", type=Path, help="mirror with mnist/")
    parser.add_argument("--pairs", type=int, default=90)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="steps of ours in a round")
    parser.add_argument("--slow-steps", type=int, default=2, help="straightforward steps a round")
    parser.add_argument("--threads", type=int, default=2, help="cores, for either form")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--straight-pairs", type=int, help="time the slow form on this many only")
    options = parser.parse_args()
    keep_freed_memory()
    problem = problem_of(options)
    workers = 1 if options.device == "cuda" else options.threads
    torch.set_num_threads(1)
    slow_pairs = options.straight_pairs or problem.size
    straight = [Straightforward(problem, pair) for pair in range(slow_pairs)]
    team: Team | Alone = Team(options, workers) if workers > 1 else Alone(problem)

    def ours(steps: int = options.steps) -> None:
        team.advance(steps)

    def slow(threads: int, steps: int = options.slow_steps) -> None:
        torch.set_num_threads(threads)
        for one in straight:
            for _ in range(steps):
                one.step()
        torch.set_num_threads(1)

    # The same first steps, so that both are compared at the same point.
    first = 3
    ours(first)
    slow(1, first)
    theta = team.extractors(problem)
    oracles = [Straightforward(problem, pair, exact=True) for pair in range(slow_pairs)]
    for one in oracles:
        for _ in range(first):
            one.step()
    reference = torch.stack([one.theta for one in oracles])
    size = reference.abs().amax((1, 2))
    error = (theta[:slow_pairs] - reference).abs().amax((1, 2)) / size
    slow_error = (torch.stack([o.theta for o in straight]) - reference).abs().amax((1, 2)) / size

    found = alternate(
        {"ours": ours, "one thread": lambda: slow(1), "all threads": lambda: slow(options.threads)},
        rounds=options.rounds,
        device=options.device,
        prepare=team.reset,
    )
    errors = team.errors(problem)
    team.close()
    scale = problem.size / slow_pairs / options.slow_steps
    mine = [value / options.steps for value in found["ours"]]
    best = min(("one thread", "all threads"), key=lambda name: statistics.median(found[name]))
    theirs = [value * scale for value in found[best]]
    figures = {
        "dataset": options.dataset,
        "pairs": problem.size,
        "features": problem.dimension,
        "processes": workers,
        "device": options.device,
        "ours_ms_a_step": 1e3 * statistics.median(mine),
        "straightforward_ms_a_step": 1e3 * statistics.median(theirs),
        "straightforward_ran_on": best,
        "straightforward_pairs_timed": slow_pairs,
        "ratio": ratio(theirs, mine),
        "smallest_ratio_of_a_round": min(a / b for a, b in zip(theirs, mine, strict=True)),
        "largest_ratio_of_a_round": max(a / b for a, b in zip(theirs, mine, strict=True)),
        "theta_after_3_steps_largest_error": float(error.max()),
        "theta_after_3_steps_median_error": float(error.median()),
        "straightforward_largest_error": float(slow_error.max()),
        "straightforward_median_error": float(slow_error.median()),
        "relative_error_of_largest_eigenvalue": errors[0],
        "relative_error_of_smallest_eigenvalue": errors[1],
    }
    if options.device == "cuda":
        size = int(joint_of(problem).dimensions.max())
        figures |= floors(problem, size, options.device)
        figures["fraction_of_two_products"] = (
            figures["two_products_of_the_joint_range_ms"] / figures["ours_ms_a_step"]
        )
    for name, value in figures.items():
        print(f"{name:42} {value if not isinstance(value, float) else format(value, '.4g')}")
    record(f"algorithm1_step.{options.dataset}.{options.device}", figures)


if __name__ == "__main__":
    main()
