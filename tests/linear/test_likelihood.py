"""Logistic and softmax probes against scikit-learn, scipy and autograd."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from immunization.linear.attacks import (
    conjugate_gradients,
    gradient_descent,
    lbfgs,
    nesterov,
    newton,
)
from immunization.linear.attacks._dense_objectives import likelihood, reference_loss
from immunization.linear.attacks._objective import AttackPlan


@pytest.fixture
def overlapping():
    """Two classes that no hyperplane tells apart, 60 rows in 5 columns, and a second problem."""
    random = np.random.default_rng(5)
    x = random.normal(size=(2, 60, 5)) * np.linspace(0.3, 2, 5)
    y = np.sign(x[..., 0] + 0.5 * x[..., 4] + random.normal(size=(2, 60)))
    ones = np.ones((2, 60, 1))
    return torch.from_numpy(np.concatenate([x, ones], axis=2)), torch.from_numpy(y)


def everything(x):
    return torch.ones(x.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_gradient_and_hessian_are_those_of_autograd(overlapping, loss, generator):
    x, y = overlapping
    labels = y if loss == "logistic" else torch.randint(0, 3, y.shape, generator=generator).double()
    objective = likelihood(x, labels, everything(x), loss=loss)
    size = objective.start(1).shape[-1]
    weights = torch.randn(2, 1, size, dtype=torch.float64, generator=generator) / 2

    def value(flat):
        if loss == "logistic":
            return torch.log1p(torch.exp(-labels[1] * (x[1] @ flat))).mean()
        logits = x[1] @ flat.reshape(3, -1).mT
        return torch.nn.functional.cross_entropy(logits, labels[1].long())

    flat = weights[1, 0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(flat), flat)
    _, ours = objective.evaluate(weights)
    torch.testing.assert_close(ours[1, 0], gradient)
    hessian = torch.autograd.functional.hessian(value, weights[1, 0])
    torch.testing.assert_close(objective.hessian(weights)[1, 0], hessian)
    assert float(objective.smoothness[1]) >= float(torch.linalg.eigvalsh(hessian)[-1])


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_slopes_along_a_line_are_those_of_autograd(overlapping, loss, generator):
    x, y = overlapping
    labels = y if loss == "logistic" else torch.randint(0, 3, y.shape, generator=generator).double()
    mask = everything(x)
    mask[1, 50:] = False
    objective = likelihood(x, labels, mask, loss=loss)
    size = objective.start(1).shape[-1]
    at, along = torch.randn(2, 2, 4, size, dtype=torch.float64, generator=generator) / 2
    length = torch.rand(2, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    value = objective.loss(objective.logits(at + length[..., None] * along))
    (slope,) = torch.autograd.grad(value.sum(), length, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), length)
    ours = objective.line(objective.logits(at), objective.logits(along))(length.detach())
    torch.testing.assert_close(ours, (slope.detach(), bend))


def test_newtons_step_on_a_softmax_is_that_of_the_pseudo_inverse(overlapping, generator):
    x, _ = overlapping
    labels = torch.randint(0, 3, x.shape[:2], generator=generator).double()
    objective = likelihood(x, labels, everything(x), loss="softmax")
    weights = torch.randn(2, 1, 18, dtype=torch.float64, generator=generator) / 2
    _, gradient = objective.evaluate(weights)
    inverse = torch.linalg.pinv(objective.hessian(weights), hermitian=True)
    wanted = -(inverse @ gradient[..., None]).squeeze(-1)
    torch.testing.assert_close(objective.newton(weights, gradient), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("family", "parameters", "steps"),
    [(lbfgs, {"memory": 10}, 60), (newton, {}, 15), (conjugate_gradients, {}, 120)],
)
def test_minima_agree_with_scipys_lbfgs_and_scikit_learn(overlapping, family, parameters, steps):
    x, y = overlapping
    objective = likelihood(x, y, everything(x), loss="logistic")
    outcome = family.attack(objective, parameters, AttackPlan(steps, -1.0, [0, steps]))
    for i in range(2):
        rows, labels = x[i].numpy(), y[i].numpy()
        scipy = minimize(
            lambda w, rows=rows, labels=labels: np.logaddexp(0, -labels * (rows @ w)).mean(),
            np.zeros(6), method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 500},
        )  # fmt: skip
        ours = outcome.weights[i, 0, -1].numpy()
        np.testing.assert_allclose(
            np.logaddexp(0, -labels * (rows @ ours)).mean(), scipy.fun, rtol=1e-9
        )
        fitted = LogisticRegression(C=1e8, tol=1e-12, max_iter=10000, fit_intercept=False)
        coefficients = fitted.fit(rows, labels).coef_[0]
        np.testing.assert_allclose(ours, coefficients, rtol=1e-4, atol=1e-5)


def test_the_reference_loss_is_that_of_scikit_learns_ridge_probe(overlapping):
    x, y = overlapping
    for loss in ("logistic", "softmax"):
        objective = likelihood(x, y, everything(x), loss=loss)
        ours = reference_loss(objective, 1e-2)
        for i in range(2):
            rows = x[i].numpy()
            strength = 1e-2 * np.linalg.norm(rows, 2) ** 2  # times N
            # Two opposite columns of a softmax are one of half the ridge.
            penalty = strength if loss == "logistic" else strength / 2
            model = LogisticRegression(
                C=1 / penalty, tol=1e-12, max_iter=10000, fit_intercept=False
            )
            w = model.fit(rows, y[i].numpy()).coef_[0]
            expected = np.logaddexp(0, -y[i].numpy() * (rows @ w)).mean()
            assert float(ours[i]) == pytest.approx(expected, rel=1e-6)


def test_squared_loss_minima_agree_with_scikit_learns_ridge(overlapping):
    from immunization.linear.attacks import least_squares
    from immunization.linear.attacks._quadratic import Quadratic

    x, y = overlapping
    left, values, right = torch.linalg.svd(x[0], full_matrices=False)
    coefficients = (left.mT @ y[0]) / values
    problem = Quadratic.build(values.square()[None], coefficients[None])
    ridge = 0.03
    outcome = least_squares.attack(
        problem, {"ridge": torch.tensor([[ridge]], dtype=torch.float64)}, AttackPlan(1, 0.5, [0, 1])
    )
    ours = right.mT @ (outcome.weights[0, 0, 1] + coefficients)
    model = Ridge(alpha=ridge * float(values[0]) ** 2, fit_intercept=False, tol=1e-12)
    np.testing.assert_allclose(ours.numpy(), model.fit(x[0].numpy(), y[0].numpy()).coef_, rtol=1e-8)


def test_a_line_search_finds_the_minimum_and_a_separable_line_goes_far(overlapping, generator):
    x, y = overlapping
    objective = likelihood(x, y, everything(x), loss="logistic")
    weights = torch.randn(2, 1, 6, dtype=torch.float64, generator=generator)
    _, gradient = objective.evaluate(weights)
    length = objective.to_minimum(weights, gradient, -gradient)
    _, after = objective.evaluate(weights - length * gradient)
    # Of two lines that take different numbers of steps, none loses what it has found.
    assert float((after * gradient).sum(-1).abs().max()) < 1e-13 * float(gradient.square().sum())
    apart = likelihood(torch.ones(1, 4, 1).double(), torch.ones(1, 4).double(),
                       torch.ones(1, 4, dtype=torch.bool), loss="logistic")  # fmt: skip
    start = apart.start(1)
    _, slope = apart.evaluate(start)
    assert 20 < float(apart.to_minimum(start, slope, -slope)) < float("inf")


def test_padding_changes_nothing_and_masked_rows_have_no_say(overlapping):
    x, y = overlapping
    padded = torch.nn.functional.pad(x, (0, 0, 0, 7), value=3.0)
    labels, mask = torch.nn.functional.pad(y, (0, 7)), everything(padded)
    mask[:, 60:] = False
    plan = AttackPlan(30, 0.1, [0, 5, 30])
    for loss in ("logistic", "softmax"):
        one = likelihood(x, y, everything(x), loss=loss)
        two = likelihood(padded, labels, mask, loss=loss)
        first, second = (nesterov.attack(o, {"momentum": "schedule"}, plan) for o in (one, two))
        torch.testing.assert_close(first.gaps, second.gaps)


def test_descent_with_1_over_l_never_goes_up(overlapping):
    x, y = overlapping
    plan = AttackPlan(40, -1.0, list(range(41)))
    parameters = {"step": "inverse_l", "factor": torch.ones(1, 1).double()}
    gaps = {}
    for loss in ("logistic", "softmax"):
        objective = likelihood(x, y, everything(x), loss=loss)
        gaps[loss] = gradient_descent.attack(objective, parameters, plan).gaps
        assert float(gaps[loss].diff(dim=-1).max()) <= 1e-15
    # Both columns of the softmax move by half, at twice the step: the same path.
    torch.testing.assert_close(gaps["logistic"], gaps["softmax"])


def test_every_pair_has_the_reference_loss_of_its_own_rows(one_vs_rest):
    """Tasks of one class share its rows and differ in the others; each is scipy's minimum."""
    from immunization.linear.engines._job import Job
    from immunization.linear.engines.trained import _lowest

    job = Job(one_vs_rest, [], [], {"goal_ridge": 1e-3}, "cpu")
    tasks = [one_vs_rest.tasks[number] for number in one_vs_rest.task_index[0, :, 1].tolist()]
    theta = torch.eye(9, dtype=torch.float64).expand(len(tasks), -1, -1)
    together = _lowest(job, tasks, theta, "logistic")
    for task, found in zip(tasks, together.tolist(), strict=True):
        x = one_vs_rest.features(task.train_rows).numpy()
        x, y = np.column_stack([x, np.ones(len(x))]), task.train_labels.numpy()
        ridge = 1e-3 * np.linalg.norm(x, 2) ** 2 / len(x)

        def total(w, x=x, y=y, ridge=ridge):
            margins = y * (x @ w)
            pull = -y / (1 + np.exp(margins))
            value = np.logaddexp(0, -margins).mean() + ridge / 2 * w @ w
            return value, x.T @ pull / len(x) + ridge * w

        best = minimize(
            total, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9}
        )
        expected = np.logaddexp(0, -y * (x @ best.x)).mean()
        assert found == pytest.approx(expected, rel=1e-6)
    assert len(set(together.tolist())) == len(tasks)
