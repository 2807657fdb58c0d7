"""Probes with an intercept: kappa, limit, optimum and attackers of centred features."""

import numpy as np
import pandas as pd
import pytest
import torch

from hessian_spectrum import factor_condition, immunizability_limit, range_factor
from immunization.linear import spectra
from immunization.linear.attack import with_intercept
from immunization.linear.engines import simulated, trained
from immunization.linear.engines._job import Attacker
from immunization.linear.files import load_task_set, save_task_set
from immunization.linear.methods import optimum
from immunization.linear.sufficient_statistics import (
    centred_factors,
    centred_statistics,
    task_statistics,
)
from immunization.runtime.errors import UserError
from immunization.study.components import import_component

from .conftest import defaults
from .test_engines import job_of

PARAMETERS = {"ridge": 1e-6, "unseen_floor": 1e-3, "much_larger": 10, "label_share": 1e-3}


@pytest.fixture(scope="module")
def study(source):
    """The twelve pairs of binary tasks, for probes with an intercept."""
    parameters = defaults(
        "datasets", "digits", task="one_vs_rest", rows_per_class=14, test_fraction=0.25
    )
    return source.build("mini", parameters, [0], intercept=True)


def rows_of(task_set, pair, role):
    task = task_set.tasks[int(task_set.task_index[0, pair, role])]
    return task_set.features(task.train_rows).numpy(), task.train_labels.numpy()


def kappa(x):
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    values = values[values > 1e-12 * values[0]]
    return (values[0] / values[-1]) ** 2


def test_kappa_and_the_limit_are_those_of_centred_features(study, one_vs_rest):
    before = spectra.evaluate_identity(study.problem(0), PARAMETERS)
    beside = spectra.evaluate_identity(one_vs_rest.problem(0), PARAMETERS)
    for pair in range(12):
        p, h = (rows_of(study, pair, role)[0] for role in (0, 1))
        assert float(before.kappa_p[pair]) == pytest.approx(kappa(p), rel=1e-8)
        assert float(before.kappa_h[pair]) == pytest.approx(kappa(h), rel=1e-8)
        exact = immunizability_limit(
            *(range_factor(torch.from_numpy(x - x.mean(0))) for x in (p, h))
        )
        assert float(before.limit.rir[pair]) == pytest.approx(exact, rel=1e-6)
        assert float(before.limit.intercept[pair]) == pytest.approx(exact, rel=1e-6)
        # The other study reports it beside its own.
        assert float(beside.limit.intercept[pair]) == pytest.approx(exact, rel=1e-6)


def test_the_closed_form_reaches_the_limit_of_centred_features(study):
    problem = study.problem(0)
    theta = optimum.immunize(problem, defaults("methods", "optimum"))
    theta = getattr(theta, "theta", theta)
    limit = spectra.evaluate_identity(problem, PARAMETERS).limit.rir
    for pair in torch.isfinite(limit).nonzero().flatten().tolist():
        p, h = (rows_of(study, pair, role)[0] for role in (0, 1))
        own = theta[pair].numpy()
        rir = kappa(h @ own) / kappa(h) / (kappa(p @ own) / kappa(p))
        assert rir == pytest.approx(float(limit[pair]), rel=1e-3)


def test_the_best_probe_is_least_squares_with_an_intercept(study):
    problem = study.problem(0)
    before = spectra.evaluate_identity(problem, PARAMETERS)
    _, ratios = spectra.result_rows(before, problem.identity(), {"dataset": "d"}, PARAMETERS)
    for pair in range(12):
        x, y = rows_of(study, pair, 1)
        task = study.tasks[int(study.task_index[0, pair, 1])]
        probe = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=1e-10)[0]
        test = study.features(task.test_rows).numpy()
        right = (test @ probe[:-1] + probe[-1] > 0) == (task.test_labels.numpy() > 0)
        assert ratios["accuracy_h"][pair] == pytest.approx(right.mean())


@pytest.mark.parametrize("use", ["gradient_descent", "adam"])
def test_attackers_have_an_intercept_on_centred_features(study, tmp_path, use):
    theta = torch.eye(9, dtype=torch.float64).repeat(12, 1, 1)
    job = job_of(study, theta, tmp_path, use)
    plain = with_intercept(job.attackers[0].parameters)
    assert plain["repair"] == "intercept"
    logistic = job.attackers[0].parameters | {"loss": "logistic"}
    assert with_intercept(logistic) == logistic  # has one anyhow
    job.attackers[:] = [Attacker("it", use, import_component("linear/attacks", use), plain)]
    engine = simulated if use == "gradient_descent" else trained
    parts = [unit.run() for unit in engine.units(job)]
    roles = set(pd.concat([steps for steps, _ in parts])["role"])
    assert roles == ({"H", "P", "T"} if use == "gradient_descent" else {"H"})
    if use == "gradient_descent":
        curves = next(c for s, c in parts if set(s["role"]) == {"H"})
        step = int(curves["step"][curves["step"] >= 7].min())
        hits = []
        for pair in range(12):
            x, y = rows_of(study, pair, 1)
            mean = x.mean(0)
            z = np.c_[x - mean, np.ones(len(x))]
            probe, top = np.zeros(10), np.linalg.norm(z, 2) ** 2
            for _ in range(step):
                probe = probe - z.T @ (z @ probe - y) / top
            task = study.tasks[int(study.task_index[0, pair, 1])]
            test = study.features(task.test_rows).numpy() - mean
            truth = task.test_labels.numpy() > 0
            hits.append(((test @ probe[:-1] + probe[-1] > 0) == truth).mean())
        found = curves.loc[curves["step"] == step, "accuracy"].item()
        assert found == pytest.approx(np.mean(hits))


def test_a_task_set_remembers_its_intercept(study, tmp_path):
    save_task_set(tmp_path / "t.safetensors", study)
    assert load_task_set(tmp_path / "t.safetensors").intercept


def test_one_constant_label_leaves_such_a_probe_nothing_to_learn(source):
    with pytest.raises(UserError, match=r"all labels are alike.*one_vs_rest"):
        source.build("mini", defaults("datasets", "digits"), [0], intercept=True)


@pytest.mark.parametrize("deviations", [1.0, 1e3, 5e5, 1e7])
def test_centring_from_statistics_keeps_every_direction_under_offsets(deviations, generator):
    """A mean of 5e5 deviations cost a direction."""
    x = torch.randn(200, 5, dtype=torch.float64, generator=generator) + deviations
    y = torch.randn(200, dtype=torch.float64, generator=generator)
    batch = one_task(x, y)
    (factor,) = centred_factors(batch)
    exact = np.linalg.svd((x - x.mean(0)).numpy(), compute_uv=False)
    assert factor.rank == 5
    assert factor_condition(factor) == pytest.approx((exact[0] / exact[-1]) ** 2, rel=1e-3)
    middle = centred_statistics(batch)
    explained = np.linalg.lstsq((x - x.mean(0)).numpy(), (y - y.mean()).numpy(), rcond=None)[0]
    energy = float(((x - x.mean(0)).numpy() @ explained) @ (y - y.mean()).numpy())
    assert float(middle.targets.square().sum()) == pytest.approx(energy, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_a_constant_among_the_features_costs_one_direction(scale, generator):
    x = torch.randn(100, 4, dtype=torch.float64, generator=generator)
    x = torch.cat([x, torch.full((100, 1), scale, dtype=torch.float64)], dim=1)
    (factor,) = centred_factors(one_task(x, x[:, 0]))
    assert factor.rank == 4
    # And so does one that is a sum of features, as one-hot columns are.
    hot = torch.nn.functional.one_hot(torch.arange(100) % 5, 5).double()
    (factor,) = centred_factors(one_task(hot, x[:, 0]))
    assert factor.rank == 4


def one_task(x, y):
    from immunization.linear.sufficient_statistics import select_tasks, stack_statistics

    return select_tasks(stack_statistics([task_statistics(x, y)]), torch.tensor([0]))
