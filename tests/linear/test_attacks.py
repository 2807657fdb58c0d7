"""The spectral simulator and the loop against straightforward runs on the data."""

import math
from functools import partial

import pytest
import torch

from hessian_spectrum import probe_spectrum
from immunization.linear.attacks import (
    adam,
    chebyshev,
    conjugate_gradients,
    gradient_descent,
    heavy_ball,
    lbfgs,
    least_squares,
    nesterov,
    newton,
)
from immunization.linear.attacks._dense_objectives import GramObjective, likelihood
from immunization.linear.attacks._objective import AttackPlan
from immunization.linear.attacks._quadratic import Quadratic, convergence_ratio


@pytest.fixture
def setting(one_vs_rest, generator):
    """Spectra of a distorted extractor, and everything to run on the data."""
    problem = one_vs_rest.problem(0)
    theta = problem.identity()
    theta = theta + 0.3 * torch.randn(theta.shape, dtype=torch.float64, generator=generator)
    task = problem.harmful
    spectrum = probe_spectrum(task.factor, task.targets, task.ranks, theta)
    return problem, theta, task, spectrum


def data_of(setting, pair):
    problem, theta, task, _ = setting
    rows = problem.source.tasks[task.tasks[pair]]
    return problem.source.features(rows.train_rows) @ theta[pair], rows.train_labels


def grid(**values):
    return {
        name: value if isinstance(value, str) else torch.tensor([[value]], dtype=torch.float64)
        for name, value in values.items()
    }


# One attacker, one pair, on the data, step by step, as its author would write it.


def plain_gradient_descent(x, y, steps, factor):
    length = factor / torch.linalg.matrix_norm(x, 2).square()
    probe = torch.zeros(x.shape[1]).double()
    for _ in range(steps + 1):
        yield probe
        probe = probe - length * x.mT @ (x @ probe - y)


def plain_line_search(x, y, steps):
    probe = torch.zeros(x.shape[1]).double()
    for _ in range(steps + 1):
        yield probe
        gradient = x.mT @ (x @ probe - y)
        probe = probe - gradient * gradient.square().sum() / (x @ gradient).square().sum()


def plain_heavy_ball(x, y, steps, momentum):
    length = 1 / torch.linalg.matrix_norm(x, 2).square()
    probe = old = torch.zeros(x.shape[1]).double()
    for _ in range(steps + 1):
        yield probe
        new = probe - length * x.mT @ (x @ probe - y) + momentum * (probe - old)
        probe, old = new, probe


def plain_nesterov(x, y, steps):
    length = 1 / torch.linalg.matrix_norm(x, 2).square()
    point = ahead = torch.zeros(x.shape[1]).double()
    for t in range(steps + 1):
        yield ahead
        new = ahead - length * x.mT @ (x @ ahead - y)
        ahead, point = new + t / (t + 3) * (new - point), new


def plain_chebyshev(x, y, steps, lowest):
    """From the roots' three-term recurrence for T_n((c − λ)/d)/T_n(c/d)."""
    high = torch.linalg.matrix_norm(x, 2).square()
    low = lowest * high
    centre, radius = (high + low) / 2, (high - low) / 2
    old = probe = torch.zeros(x.shape[1]).double()
    ratio = centre / radius
    before, now = torch.ones_like(ratio), ratio  # T_0, T_1 at c/d
    for t in range(steps + 1):
        yield probe
        gradient = x.mT @ (x @ probe - y)
        if t == 0:
            probe, old = probe - gradient / centre, probe
            continue
        later = 2 * ratio * now - before
        weight = 2 * ratio * now / later
        new = weight * (probe - gradient / centre - old) + old
        probe, old, before, now = new, probe, now, later


def plain_conjugate_gradients(x, y, steps):
    """Hestenes and Stiefel on the normal equations."""
    probe = torch.zeros(x.shape[1]).double()
    residual = x.mT @ (y - x @ probe)
    direction = residual
    for _ in range(steps + 1):
        yield probe
        image = x.mT @ (x @ direction)
        length = residual.square().sum() / (direction * image).sum()
        probe = probe + length * direction
        new = residual - length * image
        direction = new + direction * new.square().sum() / residual.square().sum()
        residual = new


RUNS = {
    "gradient_descent": (
        gradient_descent, {"step": "inverse_l", "factor": 1.0},
        partial(plain_gradient_descent, factor=1.0), 300,
    ),
    "long_steps": (
        gradient_descent, {"step": "inverse_l", "factor": 1.9},
        partial(plain_gradient_descent, factor=1.9), 300,
    ),
    "line_search": (
        gradient_descent, {"step": "line_search", "factor": 1.0}, plain_line_search, 300
    ),
    "heavy_ball": (heavy_ball, {"momentum": 0.9}, partial(plain_heavy_ball, momentum=0.9), 200),
    "nesterov": (nesterov, {"momentum": "schedule"}, plain_nesterov, 200),
    "chebyshev": (chebyshev, {"lowest": 0.01}, partial(plain_chebyshev, lowest=0.01), 100),
    "conjugate_gradients": (conjugate_gradients, {}, plain_conjugate_gradients, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("pair", [0, 6])
def test_the_simulator_equals_a_run_on_the_data_to_1e_8_in_loss(setting, name, pair):
    family, parameters, plain, last = RUNS[name]
    _, _, _, spectrum = setting
    x, y = data_of(setting, pair)
    best = torch.linalg.lstsq(x, y[:, None], driver="gelsd", rcond=1e-12).solution[:, 0]
    probes = torch.stack(list(plain(x, y, last)))
    losses = (probes @ x.mT - y).square().sum(1)
    lowest = (x @ best - y).square().sum()
    gap = (losses - lowest) / (losses[0] - lowest)
    distance = (probes - best).square().sum(1)
    threshold = float(gap[last // 2] * 1.0001)
    record = sorted({0, 1, 2, last // 2, last})
    quadratic = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    outcome = family.attack(quadratic, grid(**parameters), AttackPlan(last, threshold, record))
    torch.testing.assert_close(outcome.gaps[pair, 0], gap[record], rtol=1e-6, atol=1e-8)
    ratio = convergence_ratio(outcome.distances)[pair, 0]
    torch.testing.assert_close(ratio, (distance / distance[0])[record], rtol=1e-6, atol=1e-8)
    assert int(outcome.steps[pair, 0]) == int((gap <= threshold).int().argmax())


def test_optimal_momentum_beats_the_step_alone_as_theory_has_it():
    """Heavy ball at its best shrinks errors by (√κ − 1)/(√κ + 1) a step."""
    values = torch.linspace(0.01, 1, 20).double()[None]
    problem = Quadratic.build(values, torch.ones_like(values))
    plan = AttackPlan(3000, 1e-8, [0, 1])
    momentum = heavy_ball.attack(problem, {"momentum": "optimal"}, plan).steps
    assert 46 <= int(momentum) <= 92  # log(1e-4)/log(9/11) = 46, times a polynomial factor
    plain = gradient_descent.attack(problem, grid(step="inverse_l", factor=1.0), plan).steps
    assert int(plain) > 6 * int(momentum)
    fast = nesterov.attack(problem, {"momentum": "optimal"}, plan).steps
    best = chebyshev.attack(problem, grid(lowest=0.0), plan).steps
    cg = conjugate_gradients.attack(problem, {}, plan).steps
    assert int(cg) <= int(best) <= int(momentum)
    assert int(fast) < int(plain)


def test_lbfgs_is_conjugate_gradients_on_a_quadratic(setting):
    """With exact line search the two have the same iterates in exact arithmetic (Nazareth 1979)."""
    _, _, _, spectrum = setting
    problem = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    plan = AttackPlan(5, 1e-30, [0, 1, 2, 3, 4, 5])
    one = lbfgs.attack(problem, {"memory": 10}, plan)
    two = conjugate_gradients.attack(problem, {}, plan)
    torch.testing.assert_close(one.gaps, two.gaps, rtol=1e-6, atol=1e-12)


def two_loops(gradient, steps, turns):
    """Nocedal and Wright, Alg. 7.4, on one problem; oldest pair first."""
    q, shares = gradient.clone(), []
    for s, y in reversed(list(zip(steps, turns, strict=True))):
        shares.append((s @ q) / (s @ y))
        q = q - shares[-1] * y
    if steps:
        q = q * (steps[-1] @ turns[-1]) / (turns[-1] @ turns[-1])
    for s, y, share in zip(steps, turns, reversed(shares), strict=True):
        q = q + s * (share - (y @ q) / (s @ y))
    return -q


def test_lbfgs_equals_its_two_loop_recursion_past_its_memory(generator):
    """On a logistic loss, where it is no conjugate gradient method."""
    x = torch.randn(60, 8, generator=generator).double() * torch.linspace(0.3, 3, 8).double()
    y = torch.where(torch.rand(60, generator=generator) < 0.5, 1.0, -1.0).double()
    objective = likelihood(x[None], y[None], torch.ones(1, 60, dtype=torch.bool), loss="logistic")
    probe, old, steps, turns, gaps = torch.zeros(1, 1, 8).double(), None, [], [], []
    for _ in range(13):
        gap, gradient = objective.evaluate(probe)
        gaps.append(float(gap))
        if old is not None:
            steps = [*steps, (probe - old[0]).flatten()][-3:]
            turns = [*turns, (gradient - old[1]).flatten()][-3:]
        direction = two_loops(gradient.flatten(), steps, turns)[None, None]
        old = probe, gradient
        probe = probe + objective.to_minimum(probe, gradient, direction) * direction
    outcome = lbfgs.attack(objective, {"memory": 3}, AttackPlan(12, -1.0, list(range(13))))
    expected = torch.tensor(gaps, dtype=torch.float64)
    torch.testing.assert_close(outcome.gaps[0, 0], expected, rtol=1e-9, atol=0)


def test_newton_and_least_squares_are_there_after_one_step(setting):
    _, _, _, spectrum = setting
    problem = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    plan = AttackPlan(10, 1e-3, [0, 1, 5])
    for outcome in (
        newton.attack(problem, {}, plan),
        least_squares.attack(problem, grid(ridge=0.0), plan),
    ):
        assert (outcome.steps == 1).all()
        assert float(outcome.gaps[..., 1:].abs().max()) < 1e-20


def test_ridge_equals_the_normal_equations_with_a_ridge(setting):
    _, _, _, spectrum = setting
    problem = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    outcome = least_squares.attack(problem, grid(ridge=1e-2), AttackPlan(10, 1e-3, [0, 1]))
    x, y = data_of(setting, 2)
    eye = torch.eye(x.shape[1]).double()
    ridge = 1e-2 * torch.linalg.matrix_norm(x, 2).square()
    probe = torch.linalg.solve(x.mT @ x + ridge * eye, x.mT @ y)
    best = torch.linalg.lstsq(x, y[:, None], driver="gelsd", rcond=1e-12).solution[:, 0]
    losses = [(x @ w - y).square().sum() for w in (probe, torch.zeros_like(probe), best)]
    expected = (losses[0] - losses[2]) / (losses[1] - losses[2])
    torch.testing.assert_close(outcome.gaps[2, 0, 1], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "decay", "warm"), [("constant", 0.0, 0), ("cosine", 0.0, 0), ("linear", 0.1, 5)]
)
def test_adam_equals_torchs_own(setting, schedule, decay, warm):
    x, y = data_of(setting, 1)
    probe = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.AdamW([probe], lr=1.0, weight_decay=decay)
    losses = []
    share = {
        "constant": lambda t: 1.0,
        "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t / 40)),
        "linear": lambda t: 1 - t / 40,
    }[schedule]
    for step in range(41):
        loss = (x @ probe - y).square().sum() / (2 * len(y))
        losses.append(float(loss.detach()))
        rise = min(1.0, (step + 1) / max(1, warm))
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * rise * share(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    objective = GramObjective(
        (x.mT @ x)[None], (y @ x)[None, None], torch.tensor([[float(y.square().sum())]]).double(),
        torch.tensor([[[float(len(y))]]]).double(),
    )  # fmt: skip
    parameters = grid(learning_rate=0.05, weight_decay=decay, warm_up=warm) | {"schedule": schedule}
    outcome = adam.attack(objective, parameters, AttackPlan(40, 1e-30, [0, 10, 40]))
    expected = torch.tensor([losses[t] / losses[0] for t in (0, 10, 40)]).double()
    torch.testing.assert_close(outcome.gaps[0, 0], expected, rtol=1e-7, atol=1e-10)


def flat(rows):
    return Quadratic.build(torch.ones(rows, 4).double(), torch.ones(rows, 4).double())


FAMILIES = {
    "descent": (gradient_descent, {"step": "inverse_l", "factor": 1.0}),
    "search": (gradient_descent, {"step": "line_search", "factor": 1.0}),
    "nesterov": (nesterov, {"momentum": "schedule"}),
    "chebyshev": (chebyshev, {"lowest": 0.0}),
    "cg": (conjugate_gradients, {}),
    "newton": (newton, {}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_flat_hessian_needs_one_step(name):
    family, parameters = FAMILIES[name]
    plan = AttackPlan(50, 1e-3, [0, 1, 50])
    assert family.attack(flat(2), grid(**parameters), plan).steps.tolist() == [[1], [1]]


def test_an_unreachable_goal_is_censored_and_recorded_to_the_end():
    """Features that explain half of what they did: no attacker gets under a gap of a half."""
    values = torch.tensor([[0.5, 1.0]]).double()
    half = torch.tensor([3.0]).double()  # twice the 1.5 that these coefficients explain
    problem = Quadratic.build(values, torch.ones(1, 2).double(), half)
    for family, parameters in FAMILIES.values():
        outcome = family.attack(problem, grid(**parameters), AttackPlan(100, 1e-3, [0, 3, 100]))
        assert outcome.steps.tolist() == [[101]]
        assert float(outcome.gaps[0, 0, 0]) == 1
        assert float(outcome.gaps[0, 0, -1]) == pytest.approx(0.5)


def test_a_problem_stops_at_the_same_step_whatever_else_is_in_the_batch(setting):
    _, _, _, spectrum = setting
    plan = AttackPlan(2000, 1e-2, [0, 5])
    whole = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    for family, parameters in FAMILIES.values():
        together = family.attack(whole, grid(**parameters), plan).steps
        for i in range(len(together)):
            one = whole.select(torch.tensor([i]))
            assert torch.equal(family.attack(one, grid(**parameters), plan).steps[0], together[i])


def test_a_grid_is_every_attacker_by_itself(setting):
    _, _, _, spectrum = setting
    problem = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    factors = torch.tensor([[0.3], [1.0], [1.7]]).double()
    whole = gradient_descent.attack(
        problem, {"step": "inverse_l", "factor": factors}, AttackPlan(500, 1e-2, [0, 9], 3)
    )
    for place, factor in enumerate((0.3, 1.0, 1.7)):
        one = gradient_descent.attack(
            problem, grid(step="inverse_l", factor=factor), AttackPlan(500, 1e-2, [0, 9])
        )
        assert torch.equal(one.steps[:, 0], whole.steps[:, place])
        torch.testing.assert_close(one.gaps[:, 0], whole.gaps[:, place])


def test_steps_do_not_see_the_scale_of_the_features(setting):
    """Features times 1,000 change no attacker of the eigenbasis."""
    _, _, _, spectrum = setting
    plan = AttackPlan(500, 1e-2, [0, 1])
    one = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    two = Quadratic.build(spectrum.eigenvalues * 1e6, spectrum.coefficients * 1e-3)
    for family, parameters in FAMILIES.values():
        first = family.attack(one, grid(**parameters), plan).steps
        assert torch.equal(first, family.attack(two, grid(**parameters), plan).steps)


@pytest.mark.parametrize("name", ["search", "nesterov", "cg", "newton"])
def test_the_axes_of_the_features_and_the_eigenbasis_give_the_same(setting, name):
    """Two objectives of one loss, for attackers that do not depend on the axes."""
    family, parameters = FAMILIES[name]
    _, _, _, spectrum = setting
    x, y = data_of(setting, 3)
    explained = (spectrum.eigenvalues * spectrum.coefficients.square()).sum(1)
    objective = GramObjective(
        (x.mT @ x)[None], (y @ x)[None, None], explained[3:4, None],
        torch.tensor([[[float(len(y))]]]).double(),
    )  # fmt: skip
    plan = AttackPlan(6, 1e-30, [0, 1, 3, 6])
    ours = family.attack(objective, grid(**parameters), plan).gaps[0]
    basis = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    torch.testing.assert_close(
        ours, family.attack(basis, grid(**parameters), plan).gaps[3], rtol=1e-6, atol=1e-8
    )
