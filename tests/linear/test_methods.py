"""Methods: closed forms against autograd and literal transcriptions, and what they promise."""

from functools import partial

import numpy as np
import pytest
import torch

from hessian_spectrum import ExtremeTracker, JointRange, NotFiniteError, r_ill, r_well
from immunization.linear.datasets._labelled import Labelled
from immunization.linear.evaluation import limits, optimality, reference_condition, report_role
from immunization.linear.methods import _joint_step, alg1, imma, optimum
from immunization.linear.methods._adam import Adam
from immunization.linear.methods._alg1_released import Training, left_preconditioned
from immunization.linear.methods._balance import clipped
from immunization.linear.methods._descent import Immunized
from immunization.linear.methods._extremes import LargestTracker, SmallestTracker
from immunization.linear.methods._task_loss import TaskLoss, initial_probe
from immunization.linear.methods.opt_kappa import LogCondition
from immunization.study.components import components, import_component

from .conftest import defaults, task_set


def ratios(problem, theta):
    after = [report_role(t, theta, ridge=1e-6).kappa for t in (problem.primary, problem.harmful)]
    ii = after[0] / reference_condition(problem.primary)
    i = after[1] / reference_condition(problem.harmful)
    return i, ii


def run(problem, name, parameters):
    method = "alg1" if name in ("paper", "corrected", "released") else name
    found = import_component("linear/methods", method).immunize(problem, parameters)
    return found.theta if isinstance(found, Immunized) else found


@pytest.mark.parametrize("task", ["digit", "one_vs_rest"])
def test_every_method_is_invertible_and_keeps_the_benign_loss(task, request, gradient_methods):
    problem = request.getfixturevalue(task).problem(0)
    before = report_role(problem.primary, problem.identity(), ridge=1e-6)
    cases = gradient_methods | {
        "identity": {},
        "optimum": defaults("methods", "optimum"),
        "multiplicative": defaults("methods", "multiplicative"),
    }
    for name, parameters in cases.items():
        theta = run(problem, name, parameters)
        assert theta.shape == (12, 9, 9), name
        assert torch.isfinite(theta).all(), name
        assert torch.linalg.matrix_rank(theta).min() == 9, name
        after = report_role(problem.primary, theta, ridge=1e-6)
        torch.testing.assert_close(after.loss, before.loss, rtol=1e-6, atol=1e-9, msg=name)


def test_methods_give_the_same_theta_to_the_last_bit_twice(source, gradient_methods):
    tasks = task_set(source, seeds=(0, 1))
    for name, parameters in gradient_methods.items():
        first, again = (run(tasks.problem(0), name, parameters) for _ in range(2))
        assert torch.equal(first, again), name


def test_a_pair_alone_is_immunized_as_it_is_in_its_batch(source, gradient_methods):
    """Padding, warm starts and batching must not leak between pairs."""
    whole, alone = task_set(source), task_set(source, pairs=[[1, 0]])
    place = whole.pair_names.index(("1", "0"))
    # Also what is drawn, the initial probe and minibatches, depends on the pair alone.
    for name in ("r_ill_only", "opt_kappa", "corrected", "paper", "imma", "released"):
        together = run(whole.problem(0), name, gradient_methods[name])[place]
        single = run(alone.problem(0), name, gradient_methods[name])[0]
        torch.testing.assert_close(together, single, rtol=1e-6, atol=1e-9, msg=name)


def test_alg1_raises_rir_above_one_on_every_pair(digit):
    for profile, steps in (("paper", 30), ("corrected", 30)):
        parameters = defaults("methods", "alg1", profile=profile, steps=steps)
        i, ii = ratios(digit.problem(0), alg1.immunize(digit.problem(0), parameters).theta)
        assert (i / ii > 1).all(), profile


def literal_algorithm_1(problem, pair, eta, steps, start=None):
    """Algorithm 1 line by line on one pair: autograd, eigh, an explicit pseudo-inverse."""
    x = [
        problem.source.features(problem.source.tasks[t.tasks[pair]].train_rows)
        for t in (problem.primary, problem.harmful)
    ]
    y = problem.source.tasks[problem.primary.tasks[pair]].train_labels
    gram_p, gram_h = (a.mT @ a for a in x)
    inverse_p, inverse_h = (
        torch.linalg.pinv(g, rtol=1e-10, hermitian=True) for g in (gram_p, gram_h)
    )
    rank = int(problem.harmful.ranks[pair])
    scale = torch.linalg.matrix_norm(gram_p, 2) / len(y)
    theta = torch.eye(problem.dimension, dtype=torch.float64) if start is None else start.clone()
    probe = initial_probe(problem)[pair].clone()
    weights = None
    for _ in range(steps):
        theta.requires_grad_(True)
        probe.requires_grad_(True)
        loss = (x[0] @ theta @ probe / scale.sqrt() - y).square().sum() / (2 * len(y))
        h_p, h_h = theta.mT @ gram_p @ theta, theta.mT @ gram_h @ theta
        well = r_well(h_p, torch.linalg.eigvalsh(h_p)[-1])
        ill = r_ill(h_h, torch.linalg.eigvalsh(h_h)[-rank], rank)
        by_theta, by_probe = torch.autograd.grad(loss, (theta, probe))
        (by_well,) = torch.autograd.grad(well, theta)
        (by_ill,) = torch.autograd.grad(ill, theta)
        by_well, by_ill = inverse_p @ by_well, inverse_h @ by_ill
        with torch.no_grad():
            if weights is None:
                weights = theta.norm() / by_well.norm(), theta.norm() / by_ill.norm()
            theta = theta - eta * (by_theta + weights[0] * by_well + weights[1] * by_ill)
            probe = probe - eta * by_probe
    return theta.detach()


@pytest.mark.parametrize("pair", [0, 5, 11])
def test_the_paper_profile_is_algorithm_1_line_by_line(digit, pair):
    problem = digit.problem(0)
    ours = alg1.paper(problem, eta=0.005, steps=8).theta[pair]
    torch.testing.assert_close(
        ours, literal_algorithm_1(problem, pair, 0.005, 8), rtol=0, atol=1e-7
    )


@pytest.fixture(scope="module")
def wide():
    """Matrices large enough to be followed by warm starts: classes that see different columns,
    and one of fewer rows than columns."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), [100, 100, 30])
    inputs = random.normal(size=(230, 40)) * np.linspace(0.2, 2, 40)
    inputs[labels == 0, :3] = 0
    inputs[labels == 1, -2:] = 0
    return task_set(Labelled(inputs, labels))


@pytest.mark.parametrize("pair", range(6))
@pytest.mark.parametrize(("tolerance", "error"), [(None, 1e-5), (1e-12, 1e-11)])
def test_the_paper_profile_is_its_lines_to_the_tolerance_of_eigenpairs(
    wide, pair, tolerance, error, monkeypatch
):
    if tolerance is not None:
        tight = partial(ExtremeTracker, tolerance=tolerance, certified=1e-8)
        monkeypatch.setattr(_joint_step, "ExtremeTracker", tight)
    problem = wide.problem(0)
    ours = alg1.paper(problem, eta=0.005, steps=20).theta[pair]
    literal = literal_algorithm_1(problem, pair, 0.005, 20)
    assert (literal - torch.eye(40, dtype=torch.float64)).abs().max() > 0.01
    torch.testing.assert_close(ours, literal, rtol=0, atol=error)


def test_a_pair_that_diverges_is_named_by_its_place_in_the_problem(wide, monkeypatch):
    for groups in ([range(6)], [[1, 2, 0], [3, 4, 5]]):
        parts = [torch.tensor(list(group)) for group in groups]
        monkeypatch.setattr(JointRange, "groups", lambda self, count, parts=parts: parts)
        with pytest.raises(NotFiniteError) as caught:
            alg1.paper(wide.problem(0), eta=0.2, steps=300)
        assert caught.value.index == 2


def test_a_released_pair_that_diverges_is_named_by_its_place(source, monkeypatch):
    """Pairs train in groups of one minibatch length: 25 rows where class 1 takes part, else 35."""
    rows = [np.flatnonzero(source.labels == c)[:n] for c, n in ((0, 40), (1, 25), (2, 35))]
    chosen = np.concatenate(rows)
    problem = task_set(
        Labelled(source.inputs[chosen], source.labels[chosen], test=np.zeros(100, bool))
    ).problem(0)

    def diverges(self):
        raise NotFiniteError(1)  # the second of the first group

    monkeypatch.setattr(Training, "run", diverges)
    with pytest.raises(NotFiniteError) as caught:
        run(problem, "released", defaults("methods", "alg1", profile="released", epochs=1))
    assert problem.source.pair_names[caught.value.index] == ("1", "0")
    assert caught.value.index == 2


def test_groups_of_similar_size_give_what_one_batch_gives(digit, monkeypatch):
    problem = digit.problem(0)
    whole = alg1.paper(problem, eta=0.005, steps=10)
    monkeypatch.setattr(alg1, "MANY", 2)
    parts = alg1.paper(problem, eta=0.005, steps=10)
    torch.testing.assert_close(parts.theta, whole.theta, rtol=1e-6, atol=1e-9)
    assert sum(len(record.pairs) for record in parts.records) == 12 * len(
        {record.step for record in whole.records}
    )


def test_the_corrected_profile_does_not_see_the_scale_of_the_data(source):
    plain = task_set(source)
    scaled = source.__class__(1000 * source.inputs, source.labels)
    theta = alg1.corrected(plain.problem(0), eta=0.01, steps=10).theta
    again = alg1.corrected(task_set(scaled).problem(0), eta=0.01, steps=10).theta
    torch.testing.assert_close(theta, again, rtol=1e-6, atol=1e-9)


def test_optimum_reaches_every_finite_limit_and_keeps_its_budget(one_vs_rest, digit):
    seen = 0
    for tasks in (one_vs_rest, digit):
        problem = tasks.problem(0)
        limit = limits(problem, unseen_floor=1e-3)
        for budget in ("reference", 1):
            parameters = defaults("methods", "optimum", budget=budget)
            i, ii = ratios(problem, optimum.immunize(problem, parameters))
            reached = optimality(i / ii, limit.rir)
            finite = torch.isfinite(limit.rir)
            seen += int(finite.sum())
            assert (reached[finite] >= 0.999).all()
            assert (ii <= 1 + 1e-6).all()
    assert seen > 0


@pytest.mark.parametrize("budget", ["reference", 1, 50])
def test_the_multiplicative_iteration_reaches_every_finite_limit(budget, one_vs_rest, digit):
    seen = 0
    for tasks in (one_vs_rest, digit):
        problem = tasks.problem(0)
        limit = limits(problem, unseen_floor=1e-3)
        parameters = defaults("methods", "multiplicative", budget=budget)
        found = import_component("linear/methods", "multiplicative").immunize(problem, parameters)
        i, ii = ratios(problem, found.theta)
        reached = optimality(i / ii, limit.rir)
        finite = torch.isfinite(limit.rir)
        seen += int(finite.sum())
        assert (reached[finite] >= 0.999).all()
        before = reference_condition(problem.primary)
        after = report_role(problem.primary, found.theta, ridge=1e-6).kappa
        allowed = before if budget == "reference" else torch.full_like(before, budget)
        assert (after <= allowed * (1 + 1e-6)).all()
        if budget != 1:  # and it is used, up to the room that is left for round-off
            assert (after[finite] >= 0.999 * allowed[finite]).all()
        last = torch.cat([r.pairs[r.converged] for r in found.records])
        assert sorted(last.tolist()) == list(range(12))
        assert found.records[-1].step < 60
    assert seen > 0


def test_the_multiplicative_iteration_beats_algorithm_1_on_the_definition(digit):
    problem = digit.problem(0)
    theirs = ratios(problem, run(problem, "paper", defaults("methods", "alg1", profile="paper")))
    ours = ratios(problem, run(problem, "multiplicative", defaults("methods", "multiplicative")))
    assert (ours[0] / ours[1] > 10 * theirs[0] / theirs[1]).all()
    assert (ours[1] <= 1).all()
    assert (ours[0] > theirs[0]).all()


def test_trackers_equal_a_dense_eigendecomposition_along_a_path(digit, generator):
    problem = digit.problem(0)
    top, low = LargestTracker(problem.primary), SmallestTracker(problem.harmful)
    theta = problem.identity()
    for _ in range(5):
        theta = theta + 0.05 * torch.randn(theta.shape, dtype=torch.float64, generator=generator)
        hessian, largest, _ = top(theta)
        _, smallest, vector = low(theta)
        torch.testing.assert_close(largest, torch.linalg.eigvalsh(hessian)[:, -1])
        harmful = theta.mT @ problem.harmful.gram() @ theta
        for i, rank in enumerate(problem.harmful.ranks.tolist()):
            assert float(smallest[i]) == pytest.approx(
                float(torch.linalg.eigvalsh(harmful[i])[-rank]), rel=1e-6
            )
            image = harmful[i] @ vector[i]
            torch.testing.assert_close(image, smallest[i] * vector[i], rtol=0, atol=1e-4)


def test_task_loss_and_gradients_equal_autograd_on_the_data(one_vs_rest, generator):
    problem = one_vs_rest.problem(0)
    loss = TaskLoss.of(problem.primary)
    theta = torch.randn(12, 9, 9, dtype=torch.float64, generator=generator)
    probe = torch.randn(12, 9, dtype=torch.float64, generator=generator)
    value = loss.value(theta, probe)
    by_theta, by_probe = loss.gradients(theta, probe)
    for pair in (0, 7):
        task = problem.source.tasks[problem.primary.tasks[pair]]
        x = problem.source.features(task.train_rows)
        scale = (torch.linalg.matrix_norm(x, 2).square() / len(x)).sqrt()
        t, w = theta[pair].clone().requires_grad_(), probe[pair].clone().requires_grad_()
        direct = (x @ t @ w / scale - task.train_labels).square().sum() / (2 * len(x))
        expected = torch.autograd.grad(direct, (t, w))
        torch.testing.assert_close(value[pair], direct.detach())
        torch.testing.assert_close(by_theta[pair], expected[0])
        torch.testing.assert_close(by_probe[pair], expected[1])


def test_log_condition_gradient_equals_finite_differences(digit, generator):
    problem = digit.problem(0)
    theta = problem.identity() + 0.2 * torch.randn(
        12, 9, 9, dtype=torch.float64, generator=generator
    )
    direction = torch.randn(12, 9, 9, dtype=torch.float64, generator=generator)
    value, gradient = LogCondition(problem.harmful)(theta)
    step = 1e-5
    high, _ = LogCondition(problem.harmful)(theta + step * direction)
    low, _ = LogCondition(problem.harmful)(theta - step * direction)
    slope = (gradient * direction).sum((1, 2))
    torch.testing.assert_close((high - low) / (2 * step), slope, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        value.exp(), report_role(problem.harmful, theta, ridge=1e-6).kappa, rtol=1e-6, atol=0
    )


def test_clipping_shortens_long_terms_only_and_keeps_the_direction(generator):
    theta = torch.randn(3, 4, 4, dtype=torch.float64, generator=generator)
    term = torch.randn(3, 4, 4, dtype=torch.float64, generator=generator)
    term = term * torch.tensor([1e-3, 1e3, 0.0], dtype=torch.float64)[:, None, None]
    short = clipped(term, theta)
    assert torch.equal(short[0], term[0])
    assert float(short[1].norm()) == pytest.approx(float(theta[1].norm()))
    torch.testing.assert_close(short[1] / short[1].norm(), term[1] / term[1].norm())
    assert torch.equal(short[2], term[2])


def test_clipped_descent_on_kappa_meets_the_definition_on_every_pair(digit):
    problem = digit.problem(0)
    parameters = defaults("methods", "opt_kappa", clip=True, steps=60)
    i, ii = ratios(problem, run(problem, "opt_kappa", parameters))
    assert (i / ii > 1).all()
    assert (ii <= 1).all()


def adapted(problem, theta, steps):
    """The harmful loss after adaptation at θ, unrolled and differentiable in it."""
    loss = TaskLoss.of(problem.harmful)
    rows = loss.rows[:, None, None]
    hessian = theta.mT @ loss.gram @ theta / rows
    target = theta.mT @ loss.moment[..., None] / rows
    with torch.no_grad():
        power = torch.linalg.eigh(hessian).eigenvectors[..., -1:]
    rate = 1 / (power.mT @ hessian @ power)
    probe = torch.zeros_like(target)
    for _ in range(steps):
        probe = probe - rate * (hessian @ probe - target)
    quadratic = (probe.mT @ (0.5 * hessian @ probe - target)).flatten()
    return quadratic + loss.energy / (2 * loss.rows)


def test_imma_loss_after_adaptation_equals_running_the_steps(one_vs_rest):
    problem = one_vs_rest.problem(0)
    theta = problem.identity()
    loss = TaskLoss.of(problem.harmful)
    rows = loss.rows[:, None, None]
    values = []
    for scale in (1, 10):
        hessian = scale**2 * theta.mT @ loss.gram @ theta / rows
        target = (scale * theta.mT @ loss.moment[..., None] / rows).squeeze(-1)
        power = torch.ones(12, 9, dtype=torch.float64)
        values.append(imma.adapt(hessian, target, 3, power, 500).loss)
    torch.testing.assert_close(values[0], values[1])
    value = values[0] + loss.energy / (2 * loss.rows)
    torch.testing.assert_close(value, adapted(problem, theta, 3))
    task = problem.source.tasks[problem.harmful.tasks[4]]
    x = problem.source.features(task.train_rows)
    x = x / (torch.linalg.matrix_norm(x, 2).square() / len(x)).sqrt()
    probe = torch.zeros(9, dtype=torch.float64)
    for _ in range(3):
        probe = probe - x.mT @ (x @ probe - task.train_labels) / len(x)
    direct = (x @ probe - task.train_labels).square().sum() / (2 * len(x))
    torch.testing.assert_close(value[4], direct)


def test_the_gradient_of_imma_equals_autograd_through_theta(one_vs_rest, generator):
    problem = one_vs_rest.problem(0)
    method = imma.Bilevel(problem, defaults("methods", "imma"))
    noise = torch.randn(12, 9, 9, dtype=torch.float64, generator=generator)
    method.theta = problem.identity() + 0.3 * noise
    method._rounds = 500
    leaf = method.theta.clone().requires_grad_()
    (expected,) = torch.autograd.grad(adapted(problem, leaf, 5).sum(), leaf)
    torch.testing.assert_close(method._against_harm(), expected)


def test_imma_raises_the_loss_that_the_attacker_reaches(one_vs_rest):
    problem = one_vs_rest.problem(0)
    theta = imma.immunize(problem, defaults("methods", "imma", steps=20)).theta
    before = adapted(problem, problem.identity(), 5)
    assert (adapted(problem, theta, 5) > before).all()


def test_adam_equals_torch_and_leaves_finished_pairs_alone(generator):
    start = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    ours, theirs = start.clone(), start.clone().requires_grad_()
    adam, reference = Adam([ours], 0.01), torch.optim.Adam([theirs], lr=0.01)
    for _ in range(20):
        gradient = torch.randn(3, 4, dtype=torch.float64, generator=generator)
        adam.step([gradient])
        theirs.grad = gradient
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())
    frozen = ours[2].clone()
    adam.keep(2)
    adam.step([torch.ones(2, 4, dtype=torch.float64)])
    assert torch.equal(ours[2], frozen)
    assert not torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("rows", [5, 12])
def test_the_released_preconditioner_equals_a_dense_solve(rows, generator):
    x = torch.randn(2, rows, 7, dtype=torch.float64, generator=generator)
    gradient = torch.randn(2, 7, 7, dtype=torch.float64, generator=generator)
    dense = torch.linalg.solve(x.mT @ x + 1e-3 * torch.eye(7, dtype=torch.float64), gradient)
    torch.testing.assert_close(left_preconditioned(gradient, x, 1e-3), dense)


def released_gradients_by_autograd(weight, bias, x_p, x_h, lambdas, ridge, k):
    """The released regularizer through autograd: the gradient of W is preconditioned at the end."""
    total_w, total_b = torch.zeros_like(weight), torch.zeros_like(bias)
    for x, strength, shift, kind in (
        (x_p, lambdas[0], 1.0, "well"), (x_h, lambdas[1], ridge, "ill")
    ):  # fmt: skip
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        hidden = x @ w.mT + b
        s = hidden.mT @ hidden
        size = s.shape[0]
        shifted = torch.linalg.eigvalsh(s + 1e-6 * torch.eye(size, dtype=torch.float64))
        if kind == "well":
            value = shifted[-1] ** 2 / 2 - s.square().sum() / (2 * k)
        else:
            # Whether a zero comes out just above 1e-6, as the program counts on, or just below
            # is a matter of the processor; here it is always counted.
            low = shifted[shifted > 1e-6 - 1e-12].min()
            value = 1 / (s.square().sum() / (2 * k) - low**2 / 2)
        by_w, by_b = torch.autograd.grad(strength * value, (w, b))
        eye = torch.eye(x.shape[1], dtype=torch.float64)
        total_w += torch.linalg.solve(x.mT @ x + shift * eye, by_w)
        total_b += by_b
    return total_w, total_b


@pytest.mark.parametrize(("rows", "dead", "size"), [(4, 0, 6), (4, 0, 3), (20, 0, 6), (20, 4, 2)])
def test_the_released_gradients_equal_autograd_through_its_formulas(rows, dead, size, generator):
    from immunization.linear.methods._alg1_released import _gradients

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    weight, bias, probe = draw(1, 6, 6), draw(1, 6), torch.zeros(1, 6, dtype=torch.float64)
    x_p, x_h = draw(1, rows, 6), draw(1, rows, 6)
    x_h[..., :dead] = 0
    # A zero probe and zero labels silence the loss of the regression task.
    labels = torch.zeros(1, rows, dtype=torch.float64)
    both = torch.cat([x_p, x_h], dim=1)
    ours = _gradients([weight, bias, probe], both, labels, "regression", (2.0, 3e4), 1e-3, size)
    expected = released_gradients_by_autograd(
        weight[0], bias[0], x_p[0], x_h[0], (2.0, 3e4), 1e-3, size
    )
    torch.testing.assert_close(ours[0][0], expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[1][0], expected[1], rtol=1e-5, atol=1e-6)


def test_the_released_loss_gradients_equal_autograd(generator):
    from immunization.linear.methods._alg1_released import _gradients

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    state = [draw(1, 5, 5), draw(1, 5), draw(1, 5)]
    x, labels = draw(1, 30, 5), draw(1, 30).sign()
    for kind in ("classification", "regression"):
        ours = _gradients(state, torch.cat([x, x], dim=1), labels, kind, (0.0, 0.0), 1.0, 5)
        leaves = [value.clone().requires_grad_() for value in state]
        output = ((x @ leaves[0].mT + leaves[1][:, None]) @ leaves[2][..., None]).squeeze(-1)
        if kind == "classification":
            loss = torch.nn.functional.binary_cross_entropy_with_logits(output, (labels + 1) / 2)
        else:
            loss = (output - labels).square().mean()
        for mine, theirs in zip(ours, torch.autograd.grad(loss, leaves), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_every_parameter_is_documented_and_its_default_fits_its_schema():
    from jsonschema import Draft202012Validator

    for kind in ("datasets", "methods", "attacks", "figures"):
        for component in components(f"linear/{kind}").values():
            assert component.summary, component.path
            for name, rule in component.parameters.items():
                assert rule.get("description"), (component.path, name)
                Draft202012Validator.check_schema(rule)
                if "default" in rule:
                    Draft202012Validator(rule).validate(rule["default"])
