"""A user's own network: cut by names, immunized, and given back under its own names."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import immunization as im
from immunization.networks.backbones._traced import resolved_names, traced_cut


class Gated(nn.Module):
    """A small network with an unusual head: features are gated before the logits."""

    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.GELU())
        self.last = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.GELU())
        self.gate = nn.Linear(12, 12)
        self.out = nn.Sequential(nn.Dropout(0.1), nn.Linear(12, classes))

    def forward(self, images):
        pooled = self.last(self.body(images)).mean((2, 3))
        return self.out(pooled * torch.sigmoid(self.gate(pooled)))


class Skipping(Gated):
    """One whose tail is passed by."""

    def __init__(self):
        super().__init__()
        self.colour = nn.Linear(3, 12)

    def forward(self, images):
        colour = self.colour(images.mean((2, 3)))
        return self.out(self.last(self.body(images)).mean((2, 3)) + colour)


class Branching(Gated):
    """One that looks at values."""

    def forward(self, images):
        return super().forward(images * 2 if images.sum() > 0 else images)


@pytest.fixture(scope="module")
def images():
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (60, 3, 20, 20), dtype=torch.uint8, generator=draw)
    return pixels, torch.arange(60) % 3


@pytest.mark.parametrize("tail", ["last", ["last", "gate"], "last.0", "gate"])
def test_the_parts_give_the_networks_own_logits_and_only_the_tail_is_trainable(tail):
    torch.manual_seed(0)
    model = Gated().eval()
    names = resolved_names(model, tail, "out", "network")
    backbone, head = traced_cut(model, names, 20, "network")
    x = torch.randn(2, 3, 20, 20)
    logits = head(backbone.eval().features(backbone.trunk(x)))
    assert torch.allclose(logits, Gated.forward(model, x), atol=1e-6)
    wanted = (tail,) if isinstance(tail, str) else tuple(tail)
    trainable = {name for name, _ in backbone.tail.named_parameters()}
    assert trainable
    assert all(name.startswith(wanted) for name in trainable)
    assert head.in_features == backbone.width == 12


@pytest.mark.parametrize("method", ["imma", "optimum", "identity"])
def test_an_immunized_network_is_loaded_under_its_own_names(images, method):
    torch.manual_seed(0)
    model = Gated().eval()
    given = {"steps": 3} if method == "imma" else {}
    network = im.Network(model, tail="last", head="out")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = im.immunize_network(network, images, (images[0].flip(0), images[1]), method=method,
                               **given)  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    changed = done.module()
    x = (images[0][:4].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        old, new = model(x), changed(x)
    if method == "identity":
        assert torch.equal(old, new)
    if method == "optimum":  # its inverse is folded into the head: answers stay
        assert done.has_layer
        assert torch.allclose(old.double(), new, atol=1e-4)
        return
    state = done.state_dict()
    assert state.keys() == before.keys()
    fresh = Gated()
    fresh.load_state_dict(state)
    assert torch.equal(fresh.eval()(x), new)
    moved = {name for name, value in state.items() if not torch.equal(value, before[name])}
    if method == "imma":
        assert moved
    assert all(name.startswith(("last.", "out.")) for name in moved)


@pytest.mark.parametrize("method", ["imma", "optimum"])
def test_features_of_a_network_are_assessed_before_and_after(images, method):
    torch.manual_seed(0)
    network = im.Network(Gated(), "last", "out")
    other = (images[0].flip(0).roll(3, 2), images[1])
    given = {"steps": 3} if method == "imma" else {}
    done = im.immunize_network(network, images, other, method=method, **given)
    kappas = []
    for which in (network, done):
        benign, harmful = which.features(images[0]), which.features(other[0])
        assert benign.shape == (60, 12)
        found = im.assess(im.Task(benign), im.Task(harmful)).kappas
        kappas.append(found.loc[found["state"] == "as released", "kappa"].to_numpy())
    x = (images[0][:1].float() / 255 - 0.5) / 0.25
    model = done.module()
    with torch.no_grad():
        linear = model.get_submodule("out.1.head" if done.has_layer else "out.1")
        logits = linear(done.features(images[0][:1]).to(linear.weight.dtype))
        assert torch.allclose(logits, model(x).to(logits), atol=1e-6)
    assert not np.allclose(kappas[0], kappas[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "tail", "head", "told"),
    [
        (Gated, "lats", "out", "did you mean 'last'"),
        (Gated, "last", "body", "holds no linear layer"),
        (Gated, "out", "out", "contains the head"),
        (Gated, "body.2", "out", "no parameters to immunize"),
        (Skipping, "last", "out", "passes 'last' by"),
        (Branching, "last", "out", "cannot be followed"),
        (Gated, "last", "gate", "something follows the head"),
    ],
)
def test_a_cut_that_cannot_be_made_says_why(make, tail, head, told, images):
    with pytest.raises(im.UserError, match=told):
        im.immunize_network(im.Network(make(), tail, head), images, images, steps=1)


def test_images_and_labels_that_do_not_fit_are_refused(images):
    network = im.Network(Gated(), "last", "out")
    pixels, labels = images
    for task, told in (
        ((pixels.float(), labels), "uint8"),
        ((pixels, labels + 1), "has 3 classes, 0 to 2"),
        ((pixels, labels[:5]), "one whole number"),
        ((pixels[..., :10], labels), "square ones"),
    ):
        with pytest.raises(im.UserError, match=told):
            im.immunize_network(network, task, images, steps=1)


def test_a_study_of_a_users_network_is_exported_with_lines_that_reproduce_its_logits(
    tmp_path, monkeypatch, capsys
):
    from PIL import Image
    from safetensors.torch import save_file

    from immunization.tools import export
    from tests.studies import run_stage, write_study

    random = np.random.default_rng(0)
    for folder, classes in (("dp", 3), ("dh", 2)):
        for number in range(classes):
            place = tmp_path / folder / f"class_{number}"
            place.mkdir(parents=True)
            base = random.uniform(40, 200, (1, 1, 3))
            for i in range(16):
                pixels = base + random.normal(0, 30, (24, 24, 3))
                Image.fromarray(pixels.clip(0, 255).astype("u1")).save(place / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMMUNIZATION_ALLOW_CODE", "1")
    monkeypatch.syspath_prepend(tmp_path)
    source = "import torch\nfrom torch import nn\n\n\n" + re.sub(
        r"^    ", "    ", __import__("inspect").getsource(Gated), flags=re.MULTILINE
    )
    (tmp_path / "gated_net.py").write_text(source)
    torch.manual_seed(1)
    save_file(Gated().state_dict(), "gated.safetensors")
    raw = {
        "study": "nets", "seeds": [0], "size": 20,
        "datasets": {n: {"source": "image_folder", "path": n} for n in ("dp", "dh")},
        "primary": "dp", "harmful": ["dh"],
        "networks": {"mine": {
            "module": "gated_net.py:Gated", "weights": "gated.safetensors", "tail": "last",
            "head": "out",
        }},
        "methods": {"identity": {}, "alg1": {"steps": 3}, "optimum": {}},
        "attacks": {"last_stage": {"steps": 4, "learning_rates": [0.01]}},
        "spectrum": {"density_steps": 5, "probe_products": 20},
        "figures": {},
    }  # fmt: skip
    folder = tmp_path / "results"
    study = write_study(folder, raw, "call.json")
    for name, *labels in (
        ("study",), ("prepare", "dp"), ("prepare", "dh"), ("pretrain", "mine"),
        ("immunize", "identity"), ("immunize", "alg1"), ("immunize", "optimum"), ("spectrum",),
        ("attack", "last_stage"), ("tables",),
    ):  # fmt: skip
        run_stage(name, study, *labels, device="cpu")
    for method in ("alg1", "optimum"):
        export.main([str(folder), "--method", method, "--out", f"{method}.safetensors"])
        card = (tmp_path / f"{method}.md").read_text()
        code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
        exec(code, scope := {})  # its last line compares logits
        assert scope["logits"].shape == (12, 3)
    capsys.readouterr()


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "test_nfnet", "test_byobnet"]
)
def test_families_of_timm_are_cut_without_a_file_of_their_own(name):
    from immunization.networks.backbones import timm as family
    from immunization.networks.optional_packages import require
    from immunization.study.components import component

    timm = require("timm")
    name = timm.list_models(f"{name}*")[0]
    rules = component("networks/backbones", "timm").parameters
    parameters = {k: rule.get("default") for k, rule in rules.items()} | {"name": name}
    backbone, head = family.build(parameters, 96)
    assert head is None
    assert sum(p.numel() for p in backbone.tail.parameters()) > 0
