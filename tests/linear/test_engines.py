"""Engines against training on the data, and what they run on which tasks."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from immunization.linear.attacker_view import repaired_features
from immunization.linear.attacks._iterate import iterate
from immunization.linear.attacks._objective import Attack
from immunization.linear.engines import nonlinear, simulated, trained
from immunization.linear.engines._job import Attacker, Job, fastest_start, random_starts
from immunization.linear.evaluation import accuracy
from immunization.linear.files import open_extractors, save_extractors
from immunization.runtime.seeding import seeded
from immunization.study.components import import_component

from .conftest import defaults

SETTINGS = {
    "budget": 200, "threshold": 1e-3, "curve_steps": 200, "benign": None, "sampled_pairs": 4,
    "budget_likelihood": 60, "goal_ridge": 1e-3, "third_tasks": 2, "nonlinear_rows": 100,
}  # fmt: skip


@pytest.fixture
def theta(generator):
    noise = torch.randn(12, 9, 9, dtype=torch.float64, generator=generator)
    return torch.eye(9, dtype=torch.float64) + 0.1 * noise


def job_of(task_set, theta, folder, use, **given):
    path = folder / "theta.safetensors"
    save_extractors(
        path, {0: theta}, {0: 0}, {"dataset": "mini", "code": "", "parameters": {"label": "some"}}
    )
    attacker = Attacker(
        "it", use, import_component("linear/attacks", use), defaults("attacks", use, **given)
    )
    return Job(task_set, [open_extractors(str(path))], [attacker], SETTINGS, "cpu")


def accuracy_of(task_set, probe_of, theta, pairs):
    """Mean held-out accuracy on D_H of a probe that is trained by hand."""
    hits = []
    for pair in pairs:
        task = task_set.tasks[int(task_set.task_index[0, pair, 1])]
        train, test = (
            task_set.features(rows) @ theta[pair] for rows in (task.train_rows, task.test_rows)
        )
        weights, offset = probe_of(train, task.train_labels)
        right = (test @ weights + offset > 0) == (task.test_labels > 0)
        hits.append(right.double().mean())
    return float(torch.stack(hits).mean())


def test_a_simulated_curve_has_the_accuracy_of_a_probe_trained_on_the_data(
    one_vs_rest, theta, tmp_path
):
    job = job_of(one_vs_rest, theta, tmp_path, "gradient_descent")
    parts = [unit.run() for unit in simulated.units(job)]
    curves = next(curves for steps, curves in parts if set(steps["role"]) == {"H"})
    step = int(curves["step"][curves["step"] >= 7].min())

    def by_hand(x, y):
        probe = torch.zeros(9, dtype=torch.float64)
        for _ in range(step):
            probe = probe - x.mT @ (x @ probe - y) / torch.linalg.matrix_norm(x, 2).square()
        return probe, 0.0

    expected = accuracy_of(one_vs_rest, by_hand, theta, range(12))
    assert curves.loc[curves["step"] == step, "accuracy"].item() == pytest.approx(expected)


def test_d_p_takes_all_pairs_and_third_tasks_are_neither_of_the_pair(one_vs_rest, theta, tmp_path):
    job = job_of(one_vs_rest, theta, tmp_path, "nesterov")
    steps = {frozenset(part["role"]): part for part, _ in (u.run() for u in simulated.units(job))}
    assert {next(iter(role)) for role in steps} == {"H", "P", "T"}
    assert len(steps[frozenset("H")]) == len(steps[frozenset("P")]) == 12
    third = steps[frozenset("T")]
    assert len(third) == 4 * 2  # sampled pairs, two tasks each
    for row in third.itertuples():
        assert row.third.split()[0] not in (row.primary, row.harmful)


def test_trained_logistic_descent_is_descent_by_hand(one_vs_rest, theta, tmp_path):
    job = job_of(one_vs_rest, theta, tmp_path, "gradient_descent", loss="logistic", repair="scale")
    (unit,) = trained.units(job)
    steps, curves = unit.run()
    assert len(steps) == 4

    def by_hand(x, y):
        mean, deviation = x.mean(0), x.std(0, correction=0)
        kept = deviation > 1e-9
        scale = torch.where(kept, 1 / deviation.where(kept, torch.ones(()).double()), 0.0)
        z = torch.cat([(x - mean) * scale, torch.ones(len(x), 1).double()], dim=1)
        weights = torch.zeros(10, dtype=torch.float64)
        length = 4 * len(x) / torch.linalg.matrix_norm(z, 2).square()
        for _ in range(2):
            pull = -y * torch.sigmoid(-y * (z @ weights))
            weights = weights - length * z.mT @ pull / len(x)
        return scale * weights[:-1], weights[-1] - mean @ (scale * weights[:-1])

    expected = accuracy_of(one_vs_rest, by_hand, theta, job.sample())
    assert curves.loc[curves["step"] == 2, "accuracy"].item() == pytest.approx(expected)


def test_of_random_starts_the_fastest_counts():
    """Two attackers of three starts on one problem; each keeps the curve of its fastest."""
    steps = torch.tensor([[9, 4, 4, 7, 8, 6]])
    gaps = torch.arange(6.0)[None, :, None].expand(1, 6, 2)
    weights = torch.arange(6.0)[None, :, None, None].expand(1, 6, 2, 3)
    best = fastest_start(Attack(steps, gaps, gaps + 10, weights), 3)
    assert best.steps.tolist() == [[4, 6]]
    assert best.gaps.tolist() == [[[1, 1], [5, 5]]]
    assert best.distances[0, 0, 0] == 11
    assert best.weights is not None
    assert best.weights.shape == (1, 2, 2, 3)
    assert float(best.weights[0, 1].min()) == 5


def test_starts_are_random_and_the_same_for_every_attacker(one_vs_rest, theta, tmp_path):
    job = job_of(one_vs_rest, theta, tmp_path, "nesterov", restarts=3)
    targets = job.targets("H", job.sample())
    like = torch.zeros(4, 1, 7, dtype=torch.float64)
    drawn = random_starts(job, targets, job.attackers * 2, like)
    assert drawn.shape == (4, 6, 7)
    assert torch.equal(drawn[:, :3], drawn[:, 3:])
    assert len(drawn[:, :3].flatten().unique()) == 4 * 3 * 7
    assert float(drawn.std()) == pytest.approx((3 * 9) ** -0.5, rel=0.2)


def test_accuracy_counts_only_the_rows_of_the_task(one_vs_rest):
    problem = one_vs_rest.problem(0)
    zero = torch.zeros(12, 9, 1, dtype=torch.float64)  # no prediction at all
    result = accuracy(problem, problem.harmful, zero)
    assert torch.allclose(result, torch.full_like(result, 0.5))
    task = one_vs_rest.tasks[problem.harmful.tasks[0]]
    weights = torch.ones(12, 9, 1, dtype=torch.float64)
    scores = one_vs_rest.features(task.test_rows).sum(1)
    expected = ((scores > 0) == (task.test_labels > 0)).double().mean()
    assert float(accuracy(problem, problem.harmful, weights)[0]) == pytest.approx(float(expected))


@pytest.mark.parametrize("rows", [{}, {"fraction": 0.5}])
def test_whitening_by_factors_is_whitening_by_rows(one_vs_rest, theta, tmp_path, rows):
    job = job_of(one_vs_rest, theta, tmp_path, "adam", repair="zca_whiten", **rows)
    view = job.attackers[0].view
    (target,) = job.targets("H", [0, 5, 7])
    own = theta[target.pairs]
    root = trained.roots(job, [target], own, view)
    tasks = job.rows_of(view, target.tasks, target.owner)
    by_factors, by_rows = (
        repaired_features(one_vs_rest, tasks, own, view, r) for r in (root, None)
    )
    assert root is not None
    torch.testing.assert_close(by_factors.train, by_rows.train, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(by_factors.test, by_rows.test, rtol=1e-8, atol=1e-8)


def test_extractors_are_read_pair_by_pair(theta, tmp_path, one_vs_rest):
    job = job_of(one_vs_rest, theta, tmp_path, "adam")
    pairs = [7, 2, 7, 0]
    torch.testing.assert_close(job.files[0].theta(0, pairs=pairs), theta[pairs], rtol=0, atol=0)


def walking(advance):
    """A family of the user's own that moves its weights by a rule."""

    def attack(objective, parameters, plan):
        return iterate(objective, {"weights": objective.start(plan.attackers)}, advance, plan)

    return SimpleNamespace(attack=attack, GRID=(), flops=lambda n, d, p: (0.0, 1.0))


def too_far(objective, state, gradient, step):
    return {"weights": state["weights"] - 3 / objective.smoothness * gradient}


def a_little_too_far(objective, state, gradient, step):
    return {"weights": state["weights"] - 2.2 / objective.smoothness * gradient}


def on_a_hill(objective, state, gradient, step):
    """Momentum rises like a square before it falls."""
    return {"weights": state["weights"] * 0 + 1e2 * (step + 1)}


def not_a_number(objective, state, gradient, step):
    return {"weights": state["weights"] * torch.nan}


def nowhere(objective, state, gradient, step):
    return dict(state)


@pytest.mark.parametrize(
    ("advance", "diverged"),
    [
        (too_far, True),
        (a_little_too_far, True),
        (not_a_number, True),
        (nowhere, False),
        (on_a_hill, False),
    ],
)
@pytest.mark.parametrize("engine", [simulated, trained])
def test_an_attacker_that_diverges_is_counted_as_that_and_not_as_censored(
    one_vs_rest, theta, tmp_path, advance, diverged, engine
):
    job = job_of(one_vs_rest, theta, tmp_path, "gradient_descent")
    attacker = job.attackers[0]._replace(family=walking(advance))
    job = replace(job, attackers=[attacker])
    steps = pd.concat([unit.run()[0] for unit in engine.units(job)])
    steps = steps[steps["role"] == "H"]
    assert (steps["diverged"] == diverged).all()
    assert (steps["censored"] == (not diverged)).all()
    assert (steps["steps"].isna() == diverged).all()


def rows_of(task_set, theta, pair):
    task = task_set.tasks[int(task_set.task_index[0, pair, 1])]
    parts = [
        (task_set.features(rows) @ theta[pair]).numpy()
        for rows in (task.train_rows, task.test_rows)
    ]
    return *parts, task.train_labels.numpy(), task.test_labels.numpy()


@pytest.mark.parametrize("family", ["reweighted_rows", "bagging"])
def test_attackers_that_weigh_rows_are_linear_probes_on_those_rows(
    one_vs_rest, theta, tmp_path, family
):
    """Against numpy on the rows themselves."""
    job = job_of(one_vs_rest, theta, tmp_path, family, repair="scale")
    found = pd.concat([unit.run()[0] for unit in nonlinear.units(job)]).set_index("pair")
    assert set(found["loss"]) == {"squared"}
    parameters = job.attackers[0].parameters
    for pair in job.sample():
        x, v, y, truth = rows_of(one_vs_rest, theta, pair)
        mean, deviation = x.mean(0), x.std(0)
        deviation[deviation < 1e-11 * deviation.max()] = np.inf
        z, w = (np.c_[(a - mean) / deviation, np.ones(len(a))] for a in (x, v))

        def fit(weights, ridge, z=z, y=y):
            gram = (z * weights[:, None]).T @ z
            gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
            return np.linalg.solve(gram, (z * weights[:, None]).T @ y)

        if family == "reweighted_rows":
            sizes = (z[:, :-1] ** 2).sum(1)
            probe = fit((sizes <= np.quantile(sizes, 0.7)) * 1.0, parameters["ridge"])
        else:
            names = one_vs_rest.pair_names[pair]
            draw = seeded("network", 0, *names)
            probe = 0
            for _ in range(parameters["probes"]):
                order = torch.rand(len(y), generator=draw).argsort().argsort().numpy()
                part = fit((order < int(parameters["share"] * len(y))) * 1.0, parameters["ridge"])
                probe = probe + part / np.linalg.norm(z @ part)
        scores = w @ probe
        assert found.loc[pair, "accuracy_end"] == pytest.approx(
            ((scores > 0) == (truth > 0)).mean()
        )


@pytest.mark.parametrize("solver", ["svd", "normal_equations"])
def test_the_attacker_in_float32_is_numpys_solution_in_float32(
    one_vs_rest, theta, tmp_path, solver
):
    stretched = theta * torch.logspace(0, -9, 9, dtype=torch.float64)
    job = job_of(one_vs_rest, stretched, tmp_path, "low_precision", solver=solver)
    steps = pd.concat([unit.run()[0] for unit in trained.units(job)]).set_index("pair")
    eps = np.finfo(np.float32).eps
    for pair in job.sample():
        x, _, y, _ = rows_of(one_vs_rest, stretched, pair)
        x32, y32 = x.astype(np.float32), y.astype(np.float32)
        if solver == "svd":
            probe = np.linalg.pinv(x32, rcond=eps) @ y32
        else:
            probe = np.linalg.pinv(x32.T @ x32, rcond=eps, hermitian=True) @ (x32.T @ y32)
        plain = rows_of(one_vs_rest, torch.eye(9, dtype=torch.float64).repeat(12, 1, 1), pair)[0]
        best = plain @ np.linalg.lstsq(plain, y, rcond=None)[0]
        gap = (((x @ probe - y) ** 2).sum() - ((best - y) ** 2).sum()) / (best @ best)
        assert steps.loc[pair, "gap_end"] == pytest.approx(gap, abs=1e-4)
    assert steps["gap_end"].max() > 1e-3  # it does lose directions
    exact = job_of(one_vs_rest, stretched, tmp_path, "least_squares")
    double = pd.concat([unit.run()[0] for unit in simulated.units(exact)])
    assert double["gap_end"].abs().max() < 1e-6
