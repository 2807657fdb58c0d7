"""Attackers on small networks: what they change, and what they are fed."""

import copy

import pytest
import torch

from immunization.networks.activations import Activations, spread_rows
from immunization.networks.attacks._fine_tune import Attacked, further
from immunization.networks.attacks._victim import AttackedModel, recorded_steps
from immunization.networks.attacks.lora import adapted
from immunization.networks.backbones._backbone import Layer, Tail
from immunization.networks.files import Pretrained
from immunization.study.components import components, import_component

from .conftest import SMALL, activations, backbone, complete


@pytest.fixture(params=["resnet", "vit"])
def victim(request, prepared):
    network = backbone(request.param).requires_grad_(False)
    images = prepared["harm"]
    head = torch.nn.Linear(network.width, 5)
    metadata = {
        "use": request.param, "size": 32,
        "parameters": complete("backbones", request.param, **SMALL[request.param]),
    }  # fmt: skip
    train = activations(network, images, flip=images.flip)
    test = activations(network, images, "test")
    return AttackedModel(
        Pretrained("n", network, head, metadata),
        {0: Tail(network).eval(), 1: Tail(network).eval()},
        images, train.rows, test.rows, train, test, "a.n.harm",
    )  # fmt: skip


def quick(name, **changes):
    few = {"steps": 5, "batch": 16, "learning_rates": [0.001, 0.01]}
    known = components("networks/attacks")[name].parameters
    return complete("attacks", name, **{k: v for k, v in few.items() if k in known} | changes)


@pytest.mark.parametrize("name", ["last_stage", "lora", "full", "scratch"])
def test_rates_are_tuned_on_the_first_seed_and_nothing_released_changes(victim, name):
    before = copy.deepcopy({s: t.state_dict() for s, t in victim.tails.items()})
    trunk = copy.deepcopy(victim.pretrained.backbone.state_dict())
    runs, curves = import_component("networks/attacks", name).attack(victim, quick(name))
    first, second = runs.groupby("seed").size().tolist()
    assert 2 <= first <= 4  # two rates, and up to two further out
    assert second == 1
    chosen = runs.loc[runs["tuned"], "learning_rate"].unique()
    assert len(chosen) == 1
    area = curves[curves["seed"] == 0].groupby("learning_rate")["accuracy"].mean()
    assert area[chosen[0]] == area.max()
    assert first == 4 or chosen[0] not in (min(area.index), max(area.index))
    assert set(curves["step"]) == set(recorded_steps(5))
    assert curves["accuracy"].between(0, 1).all()
    for seed, state in before.items():
        after = victim.tails[seed].state_dict()
        assert all(torch.equal(state[n], after[n]) for n in state)
    after = victim.pretrained.backbone.state_dict()
    assert all(torch.equal(trunk[n], after[n]) for n in trunk)


def test_the_search_for_a_rate_goes_on_beyond_its_ends():
    assert further({0.1: 0.2, 0.3: 0.5, 1.0: 0.4}) == []
    assert further({0.1: 0.2, 0.3: 0.5}) == [0.9]
    assert further({0.3: 0.5, 0.9: 0.4}) == [0.1]
    assert further({0.3: 0.5}) == []
    assert further({0.1: 0.5, 0.3: 0.5, 1.0: 0.4}) == []  # an inner one is as good
    assert further({0.1: 0.5, 0.3: 0.5}) == [0.0333]


def test_rates_given_are_the_only_ones_where_the_search_is_not_extended(victim):
    runs, _ = import_component("networks/attacks", "last_stage").attack(
        victim, quick("last_stage", extend=0)
    )
    assert sorted(runs["learning_rate"].unique()) == [0.001, 0.01]


def test_the_same_run_twice_gives_the_same_curve(victim):
    module = import_component("networks/attacks", "last_stage")
    _, one = module.attack(victim, quick("last_stage"))
    _, two = module.attack(victim, quick("last_stage"))
    victim.kept.clear()
    _, three = module.attack(victim, quick("last_stage"))
    assert one.equals(two)
    assert one.equals(three)


def test_fine_tuning_learns(victim):
    # Colours and a pattern: any network learns these.
    runs, _ = import_component("networks/attacks", "last_stage").attack(
        victim, quick("last_stage", steps=40, learning_rates=[0.01])
    )
    assert runs["accuracy"].min() > 0.5


def test_a_linear_probe_tries_the_whole_grid(victim):
    parameters = quick("linear_probe", steps=20, fractions=[1, 0.3])
    runs, curves = import_component("networks/attacks", "linear_probe").attack(victim, parameters)
    stepping = 2 * 2 * 3 * 10  # seeds, fractions, repairs, rates
    assert len(runs) == stepping + 2 * 2 * 4
    assert len(curves) == stepping * len(recorded_steps(20)) + 16
    assert runs["accuracy"].max() > 0.6


def test_adapters_start_where_the_tail_is_and_alone_are_trained(victim):
    own = adapted(victim.tails[0], 3)
    found = next(iter(victim.test.in_order()))[0]
    with torch.no_grad():
        torch.testing.assert_close(own(found), victim.tails[0](found))
    trained = [n for n, p in own.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    for name, parameter in own.named_parameters():
        if "lora_A" in name:
            assert parameter.shape[0] == 3


def test_a_share_of_the_images_is_a_share_of_every_class(victim):
    rows = victim.part(0.3, 0)
    counts = torch.bincount(victim.train.labels[rows])
    assert counts.tolist() == [6] * 7  # of 18 each
    assert len(set(rows.tolist())) == len(rows)
    assert torch.bincount(victim.train.labels[victim.part(0.001, 0)]).tolist() == [1] * 7
    assert sorted(victim.part(1, 0).tolist()) == list(range(126))
    assert victim.part(0.3, 0).tolist() != victim.part(0.3, 1).tolist()


def test_an_attacker_sees_features_at_unit_scale(victim):
    blown = copy.deepcopy(victim.tails[0])
    blown.layer = Layer(1e4 * torch.eye(victim.pretrained.backbone.width))
    found = next(iter(victim.test.in_order()))[0]
    answers = []
    for tail in (victim.tails[0], blown):
        model = Attacked(tail, victim.new_head(victim.pretrained.backbone.width, 0))
        model.scaled.measure(found)
        with torch.no_grad():
            answers.append(model(found))
            assert float(model.scaled(found).square().mean()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-5)


def test_activations_are_the_same_kept_or_computed_each_time(victim, prepared):
    network, images = victim.pretrained.backbone, prepared["harm"]
    kept = activations(network, images, flip=True)
    each = Activations(network, images.train, images.size, flip=True, limit=0)
    rows = [torch.tensor([5, 1, 9]), torch.tensor([2])]
    turn = [torch.tensor([True, False, True]), torch.tensor([False])]
    for one, two in zip(kept.batches(rows, turn), each.batches(rows, turn), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    pixels = images.train.pixels[5:6].flip(-1)
    with torch.no_grad():
        wanted = network.trunk(network.normalised(pixels))
    torch.testing.assert_close(next(kept.batches(rows, turn))[:1], wanted, rtol=1e-4, atol=1e-5)


def test_rows_are_spread_over_the_classes():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    assert spread_rows(labels, 3).tolist() == [0, 4, 6]
    assert spread_rows(labels, 5).tolist() == [0, 1, 4, 5, 6]
    assert spread_rows(labels, None).tolist() == list(range(7))


def test_steps_are_recorded_evenly_on_a_logarithmic_scale():
    found = recorded_steps(720)
    assert found[0] == 1
    assert found[-1] == 720
    assert len(found) >= 14
    assert recorded_steps(1) == [1]
