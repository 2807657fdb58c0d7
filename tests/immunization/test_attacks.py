"""Attackers in the eigenbasis against real runs on the data."""

import pytest
import torch

from hessian_spectrum import probe_spectrum
from immunization.attack import chunks, record_steps, run_group, targets
from immunization.attacks import gradient_descent, least_squares
from immunization.attacks._quadratic import Plan, Quadratic, convergence_ratio, loss_gap
from immunization.evaluate import accuracy
from immunization.extractors import save_extractors


@pytest.fixture
def setting(one_vs_rest, generator):
    """Spectra of a distorted extractor, and everything to run on the data."""
    problem = one_vs_rest.problem(0)
    theta = problem.identity()
    theta = theta + 0.3 * torch.randn(theta.shape, dtype=torch.float64, generator=generator)
    task = problem.harmful
    spectrum = probe_spectrum(task.factor, task.targets, task.ranks, theta)
    return problem, theta, task, spectrum


def run_on_data(problem, theta, task, pair, rule, steps):
    """Plain training of a probe from zero; losses and probes at every step."""
    number = task.tasks[pair]
    rows = problem.source.tasks[number]
    x = problem.source.features(rows.train_rows) @ theta[pair]
    y = rows.train_labels
    best = torch.linalg.lstsq(x, y[:, None], driver="gelsd", rcond=1e-12).solution[:, 0]
    lipschitz = torch.linalg.matrix_norm(x, 2).square()
    probe = torch.zeros(x.shape[1], dtype=torch.float64)
    losses, distances = [], []
    for _ in range(steps + 1):
        losses.append((x @ probe - y).square().sum())
        distances.append((probe - best).square().sum())
        gradient = x.mT @ (x @ probe - y)
        image = x @ gradient
        length = (
            1 / lipschitz if rule == "inverse_l" else gradient.square().sum() / image.square().sum()
        )
        probe = probe - length * gradient
    lowest = (x @ best - y).square().sum()
    losses = torch.stack(losses)
    distances = torch.stack(distances)
    return (losses - lowest) / (losses[0] - lowest), distances / distances[0]


@pytest.mark.parametrize("rule", ["inverse_l", "line_search"])
@pytest.mark.parametrize("pair", [0, 6])
def test_curves_and_steps_equal_a_run_on_the_data(setting, rule, pair):
    problem, theta, task, spectrum = setting
    quadratic = Quadratic(spectrum.eigenvalues, spectrum.coefficients)
    gap, distance = run_on_data(problem, theta, task, pair, rule, 300)
    threshold = float(gap[150] * 1.0001)
    record = [0, 1, 2, 10, 100, 300]
    plan = Plan(budget=300, threshold=threshold, record=record)
    outcome = gradient_descent.attack(quadratic, {"step": rule}, plan)
    ours = loss_gap(quadratic.scaled()[:, None], outcome.errors, quadratic.start()[:, None])
    torch.testing.assert_close(ours[pair], gap[record], rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(
        convergence_ratio(outcome.errors)[pair], distance[record], rtol=1e-6, atol=1e-10
    )
    assert int(outcome.steps[pair]) == int((gap <= threshold).to(torch.int64).argmax())


def flat(rows):
    return Quadratic(
        torch.ones(rows, 4, dtype=torch.float64), torch.ones(rows, 4, dtype=torch.float64)
    )


@pytest.mark.parametrize("rule", ["inverse_l", "line_search"])
def test_a_flat_hessian_needs_one_step_and_a_steep_one_is_censored(rule):
    plan = Plan(budget=50, threshold=1e-3, record=[0, 1, 50])
    assert gradient_descent.attack(flat(2), {"step": rule}, plan).steps.tolist() == [1, 1]
    steep = Quadratic(
        torch.tensor([[1e-9, 1.0]], dtype=torch.float64),
        torch.tensor([[1e5, 1.0]], dtype=torch.float64),
    )
    outcome = gradient_descent.attack(steep, {"step": rule}, plan)
    assert outcome.steps.tolist() == [51]
    assert outcome.errors.shape == (1, 3, 2)


def test_both_stop_at_the_same_step_whatever_else_is_in_the_batch(setting):
    _, _, _, spectrum = setting
    plan = Plan(budget=2000, threshold=1e-2, record=[0, 5])
    whole = Quadratic(spectrum.eigenvalues, spectrum.coefficients)
    for rule in ("inverse_l", "line_search"):
        together = gradient_descent.attack(whole, {"step": rule}, plan).steps
        for i in range(len(together)):
            one = Quadratic(whole.eigenvalues[i : i + 1], whole.coefficients[i : i + 1])
            assert gradient_descent.attack(one, {"step": rule}, plan).steps[0] == together[i]


def test_least_squares_is_there_after_one_step(setting):
    _, _, _, spectrum = setting
    quadratic = Quadratic(spectrum.eigenvalues, spectrum.coefficients)
    outcome = least_squares.attack(quadratic, {}, Plan(10, 1e-3, [0, 1, 5]))
    assert (outcome.steps == 1).all()
    assert (outcome.errors[:, 1:] == 0).all()
    assert torch.equal(outcome.errors[:, 0], quadratic.start())


def test_recorded_steps_start_at_zero_end_at_the_last_and_do_not_repeat():
    steps = record_steps(1000)
    assert steps[:3] == [0, 1, 2]
    assert steps[-1] == 1000
    assert len(set(steps)) == len(steps)
    assert record_steps(1) == [0, 1]


def test_the_stage_reports_the_accuracy_of_a_probe_trained_on_the_data(
    one_vs_rest, tmp_path, generator
):
    theta = torch.eye(9, dtype=torch.float64) + 0.1 * torch.randn(
        12, 9, 9, dtype=torch.float64, generator=generator
    )
    path = tmp_path / "theta.safetensors"
    metadata = {"dataset": "mini", "code": "", "parameters": {"label": "some"}}
    save_extractors(path, {0: theta}, {0: 0}, metadata)
    (group,) = chunks(targets(one_vs_rest, [str(path)], "cpu"))
    plan = Plan(200, 1e-3, [0, 7, 200])
    attackers = {"gd": {"step": "inverse_l"}}
    steps, curves = run_group(group, gradient_descent, attackers, plan)
    assert [len(frame) for frame in steps] == [12, 12]
    problem = one_vs_rest.problem(0)
    hits = []
    for pair in range(12):
        task = one_vs_rest.tasks[problem.harmful.tasks[pair]]
        x = one_vs_rest.features(task.train_rows) @ theta[pair]
        probe = torch.zeros(9, dtype=torch.float64)
        for _ in range(7):
            probe = (
                probe
                - x.mT @ (x @ probe - task.train_labels) / torch.linalg.matrix_norm(x, 2).square()
            )
        test = one_vs_rest.features(task.test_rows) @ theta[pair]
        hits.append(((test @ probe > 0) == (task.test_labels > 0)).double().mean())
    expected = float(torch.stack(hits).mean())
    harmful = curves[1]
    assert harmful.loc[harmful["step"] == 7, "accuracy"].item() == pytest.approx(expected)
    assert (steps[1]["accuracy_end"] <= 1).all()


def test_accuracy_counts_only_the_rows_of_the_task(one_vs_rest):
    problem = one_vs_rest.problem(0)
    zero = torch.zeros(12, 9, 1, dtype=torch.float64)  # predicts "not", right on the negatives
    result = accuracy(problem, problem.harmful, zero)
    assert torch.allclose(result, torch.full_like(result, 0.5))
