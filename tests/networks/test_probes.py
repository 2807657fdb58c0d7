"""The batched sweep of linear probes against probes trained one by one."""

import pytest
import torch

from immunization.networks import probe_sweep
from immunization.networks.probe_sweep import Grid, least_squares, repair, sweep


def data(generator, rows=90, width=6, classes=4):
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.randint(classes, (rows,), generator=generator)
    features = centres[labels] + torch.randn(rows, width, generator=generator)
    return (3 * features + 1).double(), labels


def alone(features, labels, test, answers, classes, grid, member, key):
    """One member with torch's own optimiser, on the same batches."""
    probe = torch.nn.Linear(features.shape[1], classes).double()
    torch.nn.init.zeros_(probe.weight)
    torch.nn.init.zeros_(probe.bias)
    name, rate = grid.names[member]
    if name == "sgd":
        wide = torch.nn.functional.pad(features, (0, 1), value=1.0)
        largest = torch.linalg.eigvalsh(wide.mT @ wide / len(wide))[-1]
        optimiser = torch.optim.SGD(
            probe.parameters(), lr=rate / (0.5 * float(largest)), momentum=0.9, nesterov=True
        )
    else:
        optimiser = torch.optim.Adam(probe.parameters(), lr=rate)
    found = []
    for step, rows in enumerate(probe_sweep._order(len(features), grid, key)):
        loss = torch.nn.functional.cross_entropy(probe(features[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step + 1 in grid.records:
            found.append(float((probe(test).argmax(1) == answers).double().mean()))
    return found, float(loss.detach())


def test_every_member_is_what_torchs_own_optimiser_makes_it(generator):
    features, labels = data(generator)
    test, answers = data(generator, 40)
    groups = [features, features[:50]]
    grid = Grid([0.3, 1.0], [0.01, 0.1], [], 25, 16, [1, 5, 25])
    found, losses = sweep(groups, [labels, labels[:50]], [test, test], answers, 4, grid, ("k",))
    assert found.shape == (3, 2, 4)
    for g, group in enumerate(groups):
        for m in range(4):
            wanted, loss = alone(group, labels[: len(group)], test, answers, 4, grid, m, ("k",))
            assert float(losses[g, m]) == pytest.approx(loss, rel=1e-6)
            assert found[:, g, m].tolist() == pytest.approx(wanted)


def test_accuracies_do_not_depend_on_how_rows_are_cut(generator, monkeypatch):
    features, labels = data(generator)
    test, answers = data(generator, 40)
    grid = Grid([1.0], [0.1], [], 10, 16, [10])
    one, _ = sweep([features], [labels], [test], answers, 4, grid, ("k",))
    monkeypatch.setattr(probe_sweep, "BYTES", 1)
    two, _ = sweep([features], [labels], [test], answers, 4, grid, ("k",))
    assert torch.equal(one, two)


def test_least_squares_is_scikit_learns_ridge(generator):
    from sklearn.linear_model import Ridge

    features, labels = data(generator)
    test, answers = data(generator, 200)
    wide = torch.nn.functional.pad(features, (0, 1), value=1.0)
    largest = float(torch.linalg.eigvalsh(wide.mT @ wide)[-1])
    targets = (2 * torch.nn.functional.one_hot(labels, 4) - 1).numpy()
    for ridge in (1e-6, 0.1):
        model = Ridge(alpha=ridge * largest, fit_intercept=False).fit(wide.numpy(), targets)
        padded = torch.nn.functional.pad(test, (0, 1), value=1.0).numpy()
        wanted = (model.predict(padded).argmax(1) == answers.numpy()).mean()
        found = least_squares([features], [labels], [test], answers, 4, [ridge])
        assert float(found) == pytest.approx(wanted)


def test_repairs_do_what_they_say(generator):
    features, _ = data(generator)
    features[:, 2] = 5.0
    plain = repair(features, "none")(features)
    assert float(plain.square().mean()) == pytest.approx(1)
    spread = repair(features, "standardise")(features)
    assert float(spread[:, 2].abs().max()) == 0
    torch.testing.assert_close(
        spread[:, :2].square().mean(dim=0), torch.ones(2, dtype=torch.float64)
    )
    white = repair(features, "whiten")(features)
    values = torch.linalg.eigvalsh(white.mT @ white / len(white))
    assert 0.9 < float(values[-1]) <= 1
    assert float(values[1]) > 0.9
    with pytest.raises(ValueError, match="Repairs are none"):
        repair(features, "scale")


def test_whitening_makes_an_attacker_blind_to_an_invertible_layer(generator):
    """Up to the ridge: what breaks the closed form."""
    features, labels = data(generator)
    test, answers = data(generator, 60)
    layer = torch.linalg.qr(torch.randn(6, 6, generator=generator).double()).Q * torch.logspace(
        0, -1, 6, dtype=torch.float64
    )
    grid = Grid([1.0], [], [], 60, 32, [60])
    found = []
    for own in (torch.eye(6, dtype=torch.float64), layer):
        change = repair(features @ own, "whiten")
        result, _ = sweep(
            [change(features @ own)], [labels], [change(test @ own)], answers, 4, grid, ("k",)
        )
        found.append(float(result))
    assert found[0] == pytest.approx(found[1], abs=0.04)
