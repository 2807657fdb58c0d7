"""Erasure of the harmful label against the theorem and the authors' package."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hessian_spectrum import probe_spectrum
from immunization.linear.attacker_view import AttackerView, decompose
from immunization.linear.attacks import conjugate_gradients, newton
from immunization.linear.attacks._objective import AttackPlan
from immunization.linear.attacks._quadratic import Quadratic
from immunization.linear.methods import alg1, erase, optimum
from immunization.linear.sufficient_statistics import (
    select_tasks,
    stack_statistics,
    task_statistics,
)
from immunization.study.components import components

from .conftest import defaults


def data_of(problem, role, pair):
    task = problem.source.tasks[role.tasks[pair]]
    return problem.source.features(task.train_rows), task.train_labels


def test_it_agrees_with_the_concept_erasure_package_to_1e_6(one_vs_rest):
    package = pytest.importorskip("concept_erasure")
    problem = one_vs_rest.problem(0)
    theta = erase.erasers(problem.harmful, 1e-10).theta
    for i in range(problem.size):
        x, y = data_of(problem, problem.harmful, i)
        fitter = package.LeaceFitter(
            x.shape[1], 1, shrinkage=False, dtype=torch.float64, svd_tol=1e-12
        )
        fitter.update(x, y[:, None])
        ours = (x - x.mean(0)) @ theta[i] + x.mean(0)
        torch.testing.assert_close(ours, fitter.eraser(x), rtol=1e-6, atol=1e-6)


def test_erased_features_are_uncorrelated_with_the_label_and_move_least(one_vs_rest, generator):
    problem = one_vs_rest.problem(0)
    theta, gone = erase.erasers(problem.harmful, 1e-10)[:2]
    for i in range(problem.size):
        x, y = data_of(problem, problem.harmful, i)
        x = x - x.mean(0)
        z = x @ theta[i]
        assert float((z.mT @ (y - y.mean())).abs().max()) < 1e-10 * float((x.mT @ y).abs().max())
        # Of all projections that erase it, this moves the data least in their own norm; the
        # orthogonal one is another.
        moment = x.mT @ y
        other = x - (x @ moment)[:, None] * moment / moment.square().sum()
        inverse = torch.linalg.pinv(x.mT @ x, rtol=1e-10, hermitian=True)
        moved, others = (((d @ inverse) * d).sum() for d in (z - x, other - x))
        assert float(moved) <= float(others) + 1e-9
        assert float((z @ gone[i]).abs().max()) < 1e-12 * float(z.abs().max())


def test_linear_attackers_with_all_rows_get_nothing_after_erasure(one_vs_rest):
    problem = one_vs_rest.problem(0)
    found = erase.immunize(problem, defaults("methods", "erase"))
    assert found.singular
    harmful, benign = problem.harmful, problem.primary
    explained = harmful.targets.square().sum(-1)
    for repair in ("none", "centre", "scale", "pca_whiten", "ridge_whiten"):
        basis = decompose(harmful, found.theta, AttackerView(repair=repair), singular=True)
        objective = Quadratic.build(basis.eigenvalues, basis.coefficients, explained)
        for family in (conjugate_gradients, newton):
            outcome = family.attack(objective, {}, AttackPlan(200, 1e-3, [0, 200]))
            assert (outcome.steps == 201).all()
            # Labels are balanced, so the constant predictor explains nothing.
            assert float(outcome.gaps[..., -1].min()) > 1 - 1e-6
    before = benign.targets.square().sum(-1)
    after = probe_spectrum(benign.factor, benign.targets, benign.ranks, found.theta).explained
    assert float((after / before).median()) > 0.5


@pytest.mark.parametrize("then", ["optimum", "alg1"])
def test_it_goes_on_with_another_method_from_the_erased_features(one_vs_rest, then):
    problem = one_vs_rest.problem(0)
    alone = erase.immunize(problem, defaults("methods", "erase"))
    both = erase.immunize(problem, defaults("methods", "erase", then=then))
    assert both.singular
    basis = decompose(problem.harmful, both.theta, AttackerView(), singular=True)
    own = (basis.eigenvalues * basis.coefficients.square()).sum(-1)
    assert float((own / problem.harmful.targets.square().sum(-1)).max()) < 1e-6

    def spread(theta):
        values = decompose(problem.harmful, theta, AttackerView(), singular=True).eigenvalues
        low = torch.where(values > 0, values, torch.inf).min(-1).values
        return (values.max(-1).values / low).log()

    # Both raise κ(H_H) further than erasure did.
    assert float((spread(both.theta) - spread(alone.theta)).median()) > 0


def test_a_constant_label_leaves_nothing_to_erase(digit):
    theta, gone = erase.erasers(digit.problem(0).harmful, 1e-10)[:2]
    torch.testing.assert_close(theta, digit.problem(0).identity())
    assert not bool(gone.any())


@pytest.mark.parametrize("then", ["optimum", "alg1"])
def test_where_nothing_is_erased_the_method_that_follows_is_itself(digit, then):
    """A θ of large entries is no reason to take a direction out."""
    problem = digit.problem(0)
    both = erase.immunize(problem, defaults("methods", "erase", then=then)).theta
    methods = {"optimum": optimum, "alg1": alg1}
    alone = methods[then].immunize(problem, defaults("methods", then))
    alone = getattr(alone, "theta", alone)
    for role in (problem.primary, problem.harmful):
        after, before = (
            probe_spectrum(role.factor, role.targets, role.ranks, theta) for theta in (both, alone)
        )
        torch.testing.assert_close(after.eigenvalues, before.eigenvalues, rtol=1e-3, atol=1e-12)


def test_what_comes_after_takes_the_methods_own_defaults():
    for name in components("linear/methods")["erase"].parameters["then"]["enum"][1:]:
        assert all(
            "default" in rule for rule in components("linear/methods")[name].parameters.values()
        )


@pytest.mark.parametrize("difference", [1.0, 1e-4, 1e-8, 1e-10])
@pytest.mark.parametrize("copies", [0, 7])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_a_label_in_the_difference_of_two_columns_is_erased_to_round_off(
    difference, copies, offset, generator
):
    """θ has entries of 1/difference, whose rounding left half of the label's R² at 1e-8."""
    a, b, *rest = torch.randn(5, 300, dtype=torch.float64, generator=generator)
    x = torch.stack([a, a + difference * b, *rest], dim=1)
    x = torch.cat([x, x @ torch.randn(5, copies, dtype=torch.float64, generator=generator)], dim=1)
    x = x + offset
    y = torch.sign(b + 0.5 * a + 0.3 * torch.randn(300, generator=generator))
    batch = select_tasks(stack_statistics([task_statistics(x, y)]), torch.tensor([0]))
    problem = SimpleNamespace(harmful=batch)
    theta = erase.erase_one(problem, defaults("methods", "erase")).theta[0]
    assert explained(x, y)[0] > 0.4
    share, rank = explained(x @ theta, y)
    assert rank == 4
    assert share < (1e-8 if difference > 1e-9 else 1e-6)


def explained(features, y):
    """R² of labels by features with an intercept, and the rank of these, by numpy."""
    centred = (features - features.mean(0)).numpy()
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    left = left[:, values > 300 * np.finfo(float).eps * values[0]]
    labels = (y - y.mean()).numpy()
    return float(((left.T @ labels) ** 2).sum() / (labels @ labels)), left.shape[1]


@pytest.mark.parametrize("faint", [1e-6, 1e-8])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_two_faint_directions_of_different_size_leave_no_trace_either(faint, offset, generator):
    """Each column is rounded relative to itself; and labels may lie far from zero."""
    a, b, c, d, e = torch.randn(5, 300, dtype=torch.float64, generator=generator)
    x = torch.stack([a, a + faint * d, b, b + faint / 100 * e, c], dim=1)
    y = a + 0.5 * d + 0.3 * e + offset
    batch = select_tasks(stack_statistics([task_statistics(x, y)]), torch.tensor([0]))
    theta = erase.erase_one(SimpleNamespace(harmful=batch), defaults("methods", "erase")).theta[0]
    assert explained(x, y)[0] > 0.9
    share, rank = explained(x @ theta, y)
    assert rank == 4
    assert share < 1e-6
