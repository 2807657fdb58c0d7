"""Repair and rows: statistics against the data they stand for."""

import pytest
import torch

from immunization.linear.attacker_view import (
    AttackerView,
    choose_rows,
    decompose,
    repaired_features,
)
from immunization.linear.attacks import kernel_ridge, mlp, nearest_neighbours
from immunization.linear.evaluation import correct
from immunization.linear.sufficient_statistics import centred_statistics

REPAIRS = ["centre", "scale", "pca_whiten", "zca_whiten", "ridge_whiten"]


@pytest.fixture
def setting(one_vs_rest, generator):
    problem = one_vs_rest.problem(0)
    theta = problem.identity()
    theta = theta + 0.3 * torch.randn(theta.shape, dtype=torch.float64, generator=generator)
    return problem, theta


def test_centring_statistics_is_centring_the_data(setting):
    problem, _ = setting
    task = centred_statistics(problem.harmful)
    for i in range(problem.size):
        rows = problem.source.tasks[problem.harmful.tasks[i]]
        x, y = problem.source.features(rows.train_rows), rows.train_labels
        x, y = x - x.mean(0), y - y.mean()
        torch.testing.assert_close(task.gram()[i], x.mT @ x, rtol=1e-10, atol=1e-9)
        torch.testing.assert_close(task.moment()[i], x.mT @ y, rtol=1e-10, atol=1e-9)
        explained = x @ torch.linalg.pinv(x, rtol=1e-10) @ y
        ours = task.targets[i].square().sum()
        torch.testing.assert_close(ours, explained.square().sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("repair", REPAIRS)
def test_the_eigenbasis_and_the_features_tell_the_same(setting, repair):
    """Eigenvalues, best probe and predictions of both forms of a view, on the data."""
    problem, theta = setting
    view = AttackerView(repair=repair, ridge=0.05)
    basis = decompose(problem.harmful, theta, view, singular=False)
    tasks = [problem.source.tasks[t] for t in problem.harmful.tasks]
    seen = repaired_features(problem.source, tasks, theta, view)
    weights, offset = basis.on_inputs(basis.coefficients[:, None])
    for i in range(problem.size):
        z = torch.cat([seen.train[i], torch.ones(len(seen.train[i]), 1)], dim=1)
        z, y = z[seen.mask[i]], seen.labels[i][seen.mask[i]]
        expected = torch.linalg.eigvalsh(z.mT @ z)
        expected = expected[expected > 1e-9 * expected[-1]]
        ours = basis.eigenvalues[i].sort().values
        ours = ours[ours > 1e-9 * ours[-1]]
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)
        best = torch.linalg.pinv(z, rtol=1e-9) @ y
        test = torch.cat([seen.test[i], torch.ones(len(seen.test[i]), 1)], dim=1)
        inputs = problem.source.features(tasks[i].test_rows)
        ours = inputs @ weights[i, :, 0] + offset[i, 0]
        torch.testing.assert_close(ours, (test @ best)[: len(inputs)], rtol=1e-6, atol=1e-6)


def test_whitened_features_have_unit_covariance_in_either_axes(setting):
    problem, theta = setting
    tasks = [problem.source.tasks[t] for t in problem.harmful.tasks]
    for repair in ("pca_whiten", "zca_whiten"):
        seen = repaired_features(problem.source, tasks, theta, AttackerView(repair=repair))
        for i in range(problem.size):
            z = seen.train[i][seen.mask[i]]
            values = torch.linalg.eigvalsh(z.mT @ z / len(z))
            values = values[values > 1e-6]
            torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-7, atol=1e-7)


def test_rows_are_drawn_within_labels_and_fresh_ones_were_never_seen(one_vs_rest):
    task = one_vs_rest.tasks[0]
    few = choose_rows(task, AttackerView(fraction=0.2), 0)
    assert set(few.train_rows.tolist()) < set(task.train_rows.tolist())
    for label in (-1, 1):
        whole, part = ((t.train_labels == label).sum() for t in (task, few))
        assert int(part) == max(2, -(-int(whole) // 5))
    assert torch.equal(few.test_rows, task.test_rows)
    again = choose_rows(task, AttackerView(fraction=0.2), 0)
    assert torch.equal(few.train_rows, again.train_rows)
    assert not torch.equal(
        few.train_rows, choose_rows(task, AttackerView(fraction=0.2), 1).train_rows
    )
    fresh = choose_rows(task, AttackerView(unseen_rows=True), 0)
    assert set(fresh.train_rows.tolist()) < set(task.test_rows.tolist())
    assert not set(fresh.train_rows.tolist()) & set(fresh.test_rows.tolist())
    assert len(fresh.train_rows) + len(fresh.test_rows) == len(task.test_rows)


def test_a_score_of_round_off_is_no_prediction():
    scores = torch.tensor([1e-14, -3e-13, 2.0, -2.0, 1.0]).double()
    labels = torch.tensor([1.0, 1.0, 1.0, 1.0, torch.nan]).double()
    assert float(correct(scores, labels)) == pytest.approx((0.5 + 0.5 + 1 + 0) / 4)


RING = {
    "kernel_ridge": (kernel_ridge, {"bandwidth": 0.5, "ridge": 1e-3}),
    "nearest_neighbours": (nearest_neighbours, {"neighbours": 5}),
    "mlp": (mlp, {"width": 32, "steps": 200, "learning_rate": 0.02, "weight_decay": 0.01}),
}


@pytest.mark.parametrize("name", RING)
def test_non_linear_probes_learn_a_ring_and_ignore_padding(name, generator):
    family, parameters = RING[name]
    x = torch.randn(1, 400, 2, dtype=torch.float64, generator=generator)
    y = torch.where(x.square().sum(-1) > 1.4, 1.0, -1.0).double()
    mask = torch.ones(1, 300, dtype=torch.bool)

    def draw():
        return [torch.Generator().manual_seed(1)]

    train, labels, test = x[:, :300], y[:, :300], x[:, 300:]
    scores = family.predict(train, labels, mask, test, parameters, draw())
    assert float(correct(scores, y[:, 300:])) > 0.9
    padded = torch.nn.functional.pad(train, (0, 0, 0, 9), value=0.1)
    more = family.predict(
        padded, torch.nn.functional.pad(labels, (0, 9)),
        torch.nn.functional.pad(mask, (0, 9)), test, parameters, draw(),
    )  # fmt: skip
    torch.testing.assert_close(more, scores, rtol=1e-3, atol=1e-3)


def test_kernel_ridge_and_neighbours_equal_scikit_learns(generator):
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.neighbors import KNeighborsRegressor

    x = torch.randn(1, 60, 4, dtype=torch.float64, generator=generator)
    y = torch.sign(x[..., 0] + x[..., 1].square() - 1)
    train, test, mask = x[:, :40], x[:, 40:], torch.ones(1, 40, dtype=torch.bool)
    squares = torch.cdist(train[0], train[0]).square().mean()
    model = KernelRidge(alpha=0.1, kernel="rbf", gamma=float(1 / (2 * 0.25 * squares)))
    expected = model.fit(train[0].numpy(), y[0, :40].numpy()).predict(test[0].numpy())
    parameters = {"bandwidth": 0.5, "ridge": 0.1}
    ours = kernel_ridge.predict(train, y[:, :40], mask, test, parameters, [])
    torch.testing.assert_close(ours[0], torch.from_numpy(expected), rtol=1e-8, atol=1e-8)
    model = KNeighborsRegressor(3).fit(train[0].numpy(), y[0, :40].numpy())
    ours = nearest_neighbours.predict(train, y[:, :40], mask, test, {"neighbours": 3}, [])
    torch.testing.assert_close(ours[0], torch.from_numpy(model.predict(test[0].numpy())))


@pytest.mark.parametrize("name", ["kernel_ridge", "nearest_neighbours"])
@pytest.mark.parametrize("offset", [1e3, 1e6, 1e8])
def test_distances_of_rows_do_not_see_an_offset_that_all_share(name, offset, generator):
    """Squares of 1e8 leave no digits for distances of one."""
    family, parameters = RING[name]
    x = torch.randn(1, 200, 3, dtype=torch.float64, generator=generator)
    x = (x * 2**20).round() / 2**20  # exact after the offset
    y = torch.where(x.square().sum(-1) > 2.4, 1.0, -1.0).double()
    mask = torch.ones(1, 160, dtype=torch.bool)
    mask[:, 150:] = False  # padding is zero, far from the rows
    found = []
    for shift in (0.0, offset):
        train = (x[:, :160] + shift) * mask[..., None]
        arguments = train, y[:, :160] * mask, mask, x[:, 160:] + shift, parameters, []
        found.append(family.predict(*arguments))
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-6)


def test_one_row_that_is_far_away_takes_no_digits_from_the_others(generator):
    x = torch.randn(1, 60, 3, dtype=torch.float64, generator=generator)
    y, mask = torch.sign(x[..., 0]), torch.ones(1, 41, dtype=torch.bool)
    far = torch.full((1, 1, 3), 1e9, dtype=torch.float64)
    train, labels = torch.cat([far, x[:, :40]], 1), torch.cat([y[:, :1], y[:, :40]], 1)
    given = {"neighbours": 3}, []
    found = nearest_neighbours.predict(train, labels, mask, x[:, 40:], *given)
    wanted = nearest_neighbours.predict(x[:, :40], y[:, :40], mask[:, 1:], x[:, 40:], *given)
    torch.testing.assert_close(found, wanted)
