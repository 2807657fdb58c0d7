"""Methods of immunization on small networks and made-up images."""

import copy
import math

import pytest
import torch

from hessian_spectrum import range_factor
from immunization.networks.backbones._backbone import Classifier, Tail
from immunization.networks.methods import alg1
from immunization.networks.methods._descent import Batch, benign_loss, descend
from immunization.networks.methods._problem import Problem
from immunization.networks.methods.imma import reached
from immunization.networks.training import Recipe
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.checkpoint import Checkpoint
from immunization.study.components import components, import_component

from .conftest import activations, backbone, complete


def problem(prepared, use="resnet", seed=0, checkpoint=None):
    network = backbone(use)
    torch.manual_seed(0)
    head = torch.nn.Linear(network.width, len(prepared["benign"].classes))
    return Problem(
        Tail(network).eval().requires_grad_(True),
        head,
        activations(network, prepared["benign"]),
        activations(network, prepared["harm"]),
        ("n", "harm", seed),
        checkpoint or Checkpoint(None, 0),
    )


def kappa(found, part):
    values = range_factor(found.all_features(part)).singular_values.square()
    return float(values[0] / values[-1]), len(values)


def quick(name, **changes):
    few = {"steps": 12, "batch": 32}
    known = components("networks/methods")[name].parameters
    return complete("methods", name, **{k: v for k, v in few.items() if k in known} | changes)


@pytest.mark.parametrize("use", ["resnet", "vit"])
@pytest.mark.parametrize("name", ["r_ill_only", "imma", "opt_kappa", "alg1"])
def test_every_method_moves_the_tail_alone_and_leaves_running_statistics(prepared, use, name):
    own = problem(prepared, use)
    before = copy.deepcopy(own.tail)
    trunk = copy.deepcopy(own.primary.backbone.trunk.state_dict())
    rows = import_component("networks/methods", name).immunize(own, quick(name))
    assert rows[0]["step"] == 0
    assert all(v == v for row in rows for k, v in row.items() if not k.startswith("log_kappa"))
    changed = [
        name
        for (name, now), old in zip(own.tail.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(now, old)
    ]  # fmt: skip
    assert changed
    assert all(torch.equal(a, b) for a, b in zip(own.tail.buffers(), before.buffers(), strict=True))
    after = own.primary.backbone.trunk.state_dict()
    assert all(torch.equal(trunk[n], after[n]) for n in trunk)


def test_identity_changes_nothing(prepared):
    own = problem(prepared)
    before = copy.deepcopy(own.tail.state_dict())
    assert import_component("networks/methods", "identity").immunize(own, {}) == []
    assert all(torch.equal(before[n], v) for n, v in own.tail.state_dict().items())


@pytest.mark.parametrize("use", ["resnet", "vit"])
def test_the_closed_form_keeps_answers_on_d_p_and_reaches_its_limit(prepared, use):
    own = problem(prepared, use)
    plain = Classifier(copy.deepcopy(own.tail), copy.deepcopy(own.head))
    before_p, before_h = kappa(own, own.primary), kappa(own, own.harmful)
    import_component("networks/methods", "optimum").immunize(own, complete("methods", "optimum"))
    inputs = next(iter(own.primary.in_order()))[0]
    with torch.no_grad():
        answers = Classifier(own.tail, own.head)(inputs)
        torch.testing.assert_close(answers.float(), plain(inputs), rtol=1e-3, atol=1e-3)
    after_p, after_h = kappa(own, own.primary), kappa(own, own.harmful)
    if before_p[1] == own.primary.backbone.width:  # then the bound is met with equality
        assert after_p[0] == pytest.approx(before_p[0], rel=1e-3)
    assert after_h[0] / before_h[0] > after_p[0] / before_p[0]


def test_the_corrected_profile_raises_kappa_on_d_h_and_not_on_d_p(prepared):
    own = problem(prepared, "vit")
    before_p, before_h = kappa(own, own.primary), kappa(own, own.harmful)
    parameters = quick("alg1", eta=0.001, steps=40, batch=64)
    import_component("networks/methods", "alg1").immunize(own, parameters)
    after_p, after_h = kappa(own, own.primary), kappa(own, own.harmful)
    assert after_h[0] > 1.2 * before_h[0]
    assert after_p[0] < after_h[0] / before_h[0] * before_p[0]


def test_the_corrected_profile_releases_the_network_nearest_to_its_aims(prepared, monkeypatch):
    monkeypatch.setattr(alg1, "CHECK_EVERY", 2)
    own = problem(prepared, "vit")
    rows = alg1.immunize(own, quick("alg1", eta=0.01, steps=20, temperature=0, harmful_target=3))
    checks = [row for row in rows if row["log_kappa_h"] == row["log_kappa_h"]]
    assert [row["step"] for row in checks] == list(range(0, 21, 2))
    aim = rows[0]["log_kappa_h"] + math.log(3), rows[0]["log_kappa_p"] + math.log(0.7)
    found = []
    for part, rank in zip((own.harmful, own.primary), own.ranks[::-1], strict=True):
        squares = torch.linalg.svdvals(own.all_features(part)).square()
        found.append(float(squares[0] / squares[rank - 1]))
    away = abs(math.log(found[0]) - aim[0]) + max(0, math.log(found[1]) - aim[1])
    for row in checks:
        other = abs(row["log_kappa_h"] - aim[0]) + max(0, row["log_kappa_p"] - aim[1])
        assert away <= other + 1e-3
    assert sum(row["released"] for row in rows) == 1


def test_a_network_that_lost_rank_goes_back(prepared, monkeypatch):
    monkeypatch.setattr(alg1, "CHECK_EVERY", 5)
    own = problem(prepared)
    before = copy.deepcopy(own.tail)
    head = copy.deepcopy(own.head)
    known = iter([9999] * 4)  # both tasks at the start and at the first check, never again
    monkeypatch.setattr(alg1, "rank_of", lambda moment: next(known, 0))
    seen = []

    class Watched(alg1.Corrected):
        def check(self, step):
            moved = not same(own.tail, before)
            back = super().check(step)
            seen.append((step, moved, back, same(own.tail, before), same(own.head, head)))
            for role in "ph":  # the running moments are those of the network gone back to
                found = self.memory[f"moment.{role}"], self.memory[f"best.moment.{role}"]
                assert torch.equal(*found)
            return back

    monkeypatch.setattr(alg1, "Corrected", Watched)
    rows = alg1.immunize(own, quick("alg1"))
    assert seen == [
        (0, False, False, True, True),
        (5, True, True, True, True),
        (10, True, True, True, True),
        (12, True, True, True, True),
    ]
    assert rows[0]["released"]


def same(one, other):
    return all(
        torch.equal(*pair)
        for pair in zip(one.parameters(), other.parameters(), strict=True)
    )  # fmt: skip


def test_momentum_begins_anew_where_a_check_put_other_weights_in_place(prepared):
    own = problem(prepared)
    start = copy.deepcopy(own.tail)

    def check(step):
        if step == 1:
            own.tail.load_state_dict(start.state_dict())
        return step == 1

    descend(
        own, {"steps": 2, "batch": 32}, lambda batch: {"loss": benign_loss(batch)},
        recipe=Recipe("adamw", 0.01, schedule="constant"), weights={}, check=check,
    )  # fmt: skip
    pairs = zip(own.tail.parameters(), start.parameters(), strict=True)
    moved = torch.cat([(a - b).detach().abs().flatten() for a, b in pairs])
    moved = moved[moved > 0]
    assert len(moved) > 100
    # Adam's very first step has length η in every weight that has a gradient; a second one has not.
    assert float(moved.quantile(0.25)) == pytest.approx(0.01, rel=1e-3)
    assert float(moved.quantile(0.75)) == pytest.approx(0.01, rel=1e-3)


def test_answers_on_d_p_are_held(prepared):
    own = problem(prepared)
    objective = alg1.Corrected(own, quick("alg1"))
    inputs, labels = next(iter(own.primary.in_order()))
    harm, harm_labels = next(iter(own.harmful.in_order()))

    def loss(head):
        features = own.tail(inputs)
        batch = Batch(
            inputs, features, own.tail(harm), head(features), labels, harm_labels, 0
        )  # fmt: skip
        return float(objective(batch)["loss"].detach()), features.detach()

    other = copy.deepcopy(own.head)
    torch.nn.init.normal_(other.weight, generator=torch.Generator().manual_seed(1))
    (here, features), (there, _) = loss(own.head), loss(other)
    answers = [head(features).log_softmax(dim=1) for head in (own.head, other)]
    entropy = [float(torch.nn.functional.nll_loss(a, labels).detach()) for a in answers]
    assert here == pytest.approx(entropy[0], rel=1e-4)
    away = float((answers[0].exp() * (answers[0] - answers[1])).sum(dim=1).mean().detach())
    assert there == pytest.approx(entropy[1] + away, rel=1e-4)
    assert away > 0.1


def test_an_aim_that_float64_cannot_tell_is_lowered(prepared, caplog):
    objective = alg1.Corrected(problem(prepared), quick("alg1", harmful_target=1e30))
    assert objective.aims["h"] == pytest.approx(math.log(1e13))
    assert "tells no more" in caplog.text


def test_features_that_are_all_zero_are_told(prepared):
    own = problem(prepared)
    for parameter in own.tail.parameters():
        torch.nn.init.zeros_(parameter)
    with pytest.raises(UserError, match="features of n on D_P are all zero"):
        alg1.immunize(own, quick("alg1"))


def test_the_corrected_objective_is_invariant_to_feature_scale(prepared):
    own = problem(prepared, "vit")
    inputs, labels = next(iter(own.primary.in_order()))
    harm, harm_labels = next(iter(own.harmful.in_order()))
    with torch.no_grad():
        features, others = own.tail(inputs).double(), own.tail(harm).double()
    found = []
    for scale in (1.0, 100.0):
        objective = alg1.Corrected(own, quick("alg1"))
        for role in "ph":  # of features at that scale all along
            objective.memory[f"moment.{role}"] *= scale**2
        logits = own.head(features.float())
        terms = objective(
            Batch(inputs, scale * features, scale * others, logits, labels, harm_labels, 0)
        )
        found.append(torch.stack([terms["benign"], terms["harmful"]]))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-8)


def test_the_loss_that_imma_reaches_is_that_of_autograd(generator):
    features = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (20,), generator=generator)
    probe = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    smooth = 0.5 * float(torch.linalg.eigvalsh(features.mT @ features)[-1]) / 20
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(features @ probe.mT, labels)
        (slope,) = torch.autograd.grad(loss, probe)
        probe = (probe - slope / smooth).detach().requires_grad_()
    wanted = torch.nn.functional.cross_entropy(features @ probe.mT, labels)
    assert float(reached(features, labels, 4, 3)) == pytest.approx(float(wanted.detach()))


def test_a_first_step_moves_the_tail_by_the_share_that_is_asked_for(prepared):
    own = problem(prepared)
    before = [p.detach().clone() for p in own.tail.parameters()]
    import_component("networks/methods", "r_ill_only").immunize(
        own, quick("r_ill_only", steps=1, relative_step=0.01)
    )
    moved = torch.cat(
        [(a.detach() - b).flatten() for a, b in zip(own.tail.parameters(), before, strict=True)]
    )
    size = torch.cat([b.flatten() for b in before]).norm()
    # Nesterov's first step is 1 + 0.9 gradients long.
    assert float(moved.norm() / size) == pytest.approx(0.019, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("alg1", {}),
        ("alg1", {"profile": "paper"}),
        ("opt_kappa", {}),
        ("r_ill_only", {}),
        ("imma", {}),
    ],
)
def test_the_rank_is_that_of_theta_0_also_after_a_checkpoint(prepared, monkeypatch, name, changes):
    """Features of a half-immunized network may have lost some."""
    events = []
    read = Checkpoint.read
    monkeypatch.setattr(
        Checkpoint, "read", lambda self, device: events.append("read") or read(self, device)
    )
    ranks = Problem.ranks.func
    monkeypatch.setattr(
        Problem, "ranks", property(lambda self: events.append("ranks") or ranks(self))
    )
    import_component("networks/methods", name).immunize(problem(prepared), quick(name, **changes))
    assert events == (["read"] if name == "imma" else ["ranks", "read"])


@pytest.mark.parametrize("name", ["alg1", "opt_kappa"])
def test_an_interrupted_method_goes_on_to_the_same_bits(prepared, tmp_path, name, monkeypatch):
    monkeypatch.setattr(alg1, "CHECK_EVERY", 4)
    parameters = quick(name)
    whole = problem(prepared)
    rows = import_component("networks/methods", name).immunize(whole, parameters)

    class Stop(Exception):
        pass

    calls = 0
    due = Checkpoint.due

    def stop(self):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise Stop
        return due(self)

    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(Checkpoint, "due", stop)
    with pytest.raises(Stop):
        import_component("networks/methods", name).immunize(
            problem(prepared, checkpoint=Checkpoint(path, 0, 0.0)), parameters
        )
    monkeypatch.setattr(Checkpoint, "due", due)
    assert path.is_file()
    again = problem(prepared, checkpoint=Checkpoint(path, 0, 1e9))
    resumed = import_component("networks/methods", name).immunize(again, parameters)
    assert resumed == rows
    for a, b in zip(whole.tail.parameters(), again.tail.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("alg1", {"profile": "paper", "eta": 1e6}),
        ("alg1", {"profile": "paper", "relative_step": 1e9}),
        ("alg1", {"eta": 1e9}),
        ("r_ill_only", {"relative_step": 1e20}),
        ("opt_kappa", {"relative_step": 1e20}),
        ("imma", {"relative_step": 1e20}),
    ],
)
def test_divergence_is_told_with_a_remedy(prepared, name, changes):
    own = problem(prepared)
    with pytest.raises(
        UserError, match=r"n on harm diverged at step .*smaller `eta` or `relative_step`"
    ):
        import_component("networks/methods", name).immunize(own, quick(name, steps=30, **changes))


def test_features_that_do_not_vary_cannot_be_weighed(prepared):
    own = problem(prepared)
    for parameter in own.tail.parameters():
        torch.nn.init.zeros_(parameter)
    with pytest.raises(UserError, match=r"no gradient at the start|diverged at step 0"):
        import_component("networks/methods", "imma").immunize(own, quick("imma"))
