"""Networks of timm, cut in three, and their weights."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from immunization.networks.backbones._backbone import Backbone, Layer, Tail, create
from immunization.networks.files import Immunized, read_pretrained, release
from immunization.networks.optional_packages import require
from immunization.runtime.errors import UserError
from immunization.study.components import import_component

from .conftest import SMALL, backbone, complete


@pytest.mark.parametrize("use", ["resnet", "vit"])
def test_a_network_cut_in_three_answers_as_timm_does(use, tmp_path):
    torch.manual_seed(1)
    arguments = {"img_size": 32, "patch_size": 8} if use == "vit" else {}
    whole = create(SMALL[use]["name"], **arguments).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    parameters = complete(
        "backbones", use, **SMALL[use] | {"weights": str(tmp_path / "w.safetensors")}
    )
    parts, head = import_component("networks/backbones", use).build(parameters, 32)
    parts.eval()
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        wanted = whole(parts.normalised(images))
        torch.testing.assert_close(head(parts(images)), wanted, rtol=1e-5, atol=1e-5)
    inside = {n for n, _ in parts.named_parameters()}
    assert any(n.startswith("tail.") for n in inside)
    tail = sum(p.numel() for p in parts.tail.parameters())
    last = whole.layer4 if use == "resnet" else whole.blocks[-1]
    assert tail - sum(p.numel() for p in last.parameters()) in (0, 2 * parts.width)  # the norm


def test_weights_of_another_network_or_format_are_refused(tmp_path):
    state = create("test_resnet").state_dict()
    state.pop("layer4.0.conv1.weight")
    save_file(state, tmp_path / "part.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"no")
    for path, words in (
        ("part.safetensors", "layer4.0.conv1.weight"),
        ("cut.safetensors", "cannot be read"),
        ("pickle.pth", "run code"),
    ):
        with pytest.raises(UserError, match=words):
            backbone("resnet", weights=str(tmp_path / path))
    with pytest.raises(UserError, match="timm has no model 'resnet17'"):
        backbone("resnet", name="resnet17")
    with pytest.raises(UserError, match="layer1 to"):
        backbone("resnet", name="test_vit")
    with pytest.raises(UserError, match="timm cannot make 'test_resnet'"):
        backbone("vit", name="test_resnet", arguments={})
    with pytest.raises(UserError, match="not a vision transformer"):
        backbone("vit", name="mixer_s32_224", arguments={"img_size": 32})
    with pytest.raises(UserError, match="at most 5"):
        backbone("vit", trainable_blocks=6)


VIT = {"embed_dim": 48, "depth": 3, "num_heads": 3, "patch_size": 8}
FAMILIES = {
    "vit_tiny_patch16_224": ("vit", 32, VIT, None),
    "vit_tiny_patch16_224 avg": ("vit", 32, VIT | {"global_pool": "avg"}, None),
    "vit_tiny_patch16_224 prefix": (
        "vit",
        32,
        VIT | {"global_pool": "avg", "pool_include_prefix": True},
        None,
    ),
    "vit_tiny_patch16_224 max": ("vit", 32, VIT | {"global_pool": "max"}, None),
    "vit_tiny_patch16_224 map": ("vit", 32, VIT | {"global_pool": "map"}, "not supported"),
    "vit_tiny_patch16_224 registers": ("vit", 32, VIT | {"reg_tokens": 4}, None),
    "eva02_tiny_patch14_224": ("vit", 32, VIT, "rotary positions"),
    "vit_small_patch16_dinov3": ("vit", 32, VIT, "rotary positions"),
    "deit_tiny_distilled_patch16_224": ("vit", 32, VIT, "computes something else"),
    "cait_xxs24_224": ("vit", 32, VIT, "not a vision transformer"),
    "xcit_nano_12_p16_224": ("vit", 32, VIT, "not a vision transformer"),
    "convit_tiny": ("vit", 32, VIT, "not a vision transformer"),
    "crossvit_tiny_240": ("vit", 240, {}, "not a vision transformer"),
    "beit_base_patch16_224": ("vit", 32, VIT, None),
    "resnet18": ("resnet", 64, {}, None),
    "resnet18 max": ("resnet", 64, {"global_pool": "max"}, None),
    "resnet18 avgmax": ("resnet", 64, {"global_pool": "avgmax"}, None),
    "resnet18 both": ("resnet", 64, {"global_pool": "catavgmax"}, None),
    "seresnet18": ("resnet", 64, {}, None),
    "resnet10t": ("resnet", 64, {}, None),
    "legacy_seresnet18": ("resnet", 64, {}, "not a residual network"),
    "resnetv2_18": ("resnet", 64, {}, "not a residual network"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", FAMILIES)
def test_every_family_answers_as_timm_does_or_is_refused(which, tmp_path):
    use, size, arguments, refusal = FAMILIES[which]
    name = which.split(" ")[0]
    timm = require("timm")
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    torch.manual_seed(1)
    own = arguments | {"num_classes": 10}
    sized = {"img_size": size} if use == "vit" else {}
    whole = timm.create_model(name, **sized, **own).eval()
    with torch.no_grad():
        for value in whole.parameters():  # heads of zeros would agree with anything
            value.add_(torch.randn_like(value) * 0.1)
    save_file(
        {n: v.contiguous() for n, v in whole.state_dict().items()}, tmp_path / "w.safetensors"
    )
    depth = {"trainable_blocks": 1} if use == "vit" else {"trainable_stages": 1, "stem": "imagenet"}
    parameters = complete(
        "backbones", use, name=name, weights=str(tmp_path / "w.safetensors"), arguments=own, **depth
    )
    build = import_component("networks/backbones", use).build
    if refusal:
        with pytest.raises(UserError, match=refusal):
            build(parameters, size)
        return
    parts, head = build(parameters, size)
    parts.eval()
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        wanted, found = whole(parts.normalised(images)), head(parts(images))
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_weights_behind_a_wrappers_prefix_are_the_same(prefix, tmp_path):
    torch.manual_seed(3)
    state = create("test_resnet").state_dict()
    save_file({prefix + n: v for n, v in state.items()}, tmp_path / "w.safetensors")
    network = backbone("resnet", weights=str(tmp_path / "w.safetensors"), stem="imagenet")
    found = network.tail.state_dict()
    for name, value in state.items():
        if name.startswith("layer4"):
            assert torch.equal(found[name.replace("layer4", "stages.0")], value)


def test_weights_that_are_not_finite_or_not_of_this_network_are_refused(tmp_path):
    state = create("test_resnet").state_dict()
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"layer2\.0\.conv1\.weight' holds 1 values"):
        backbone("resnet", weights=str(tmp_path / "nan.safetensors"), stem="imagenet")
    state = create("test_resnet").state_dict() | {"head_dist.weight": torch.zeros(2)}
    save_file(state, tmp_path / "more.safetensors")
    with pytest.raises(UserError, match="in the file and not in the network: head_dist"):
        backbone("resnet", weights=str(tmp_path / "more.safetensors"), stem="imagenet")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pretrained": True}, "'pretrained' can't be given"),
        ({"checkpoint_path": "x.pth"}, "pickles"),
        ({"pretrained_cfg": {"file": "x.pth"}}, "'pretrained_cfg'"),
        ({"in_chans": 1}, "three channels"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"features_only": True}, "features_only"),
        ({"no_such_thing": 1}, "timm cannot make 'test_resnet'"),
    ],
)
def test_arguments_that_break_the_contract_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        backbone("resnet", arguments=arguments)


def test_a_pickle_is_refused_by_us_whatever_a_library_would_do(monkeypatch, tmp_path):
    timm = require("timm")
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.bin")
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: torch.load(tmp_path / "w.bin"))
    with pytest.raises(UserError, match=r"w\.bin: a pickle"):
        backbone("resnet", weights="timm", name="resnet18")
    assert torch.load(tmp_path / "w.bin", weights_only=True)  # ours again


def test_weights_that_the_hub_does_not_give_say_how_to_get_them(monkeypatch):
    timm = require("timm")
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(UserError, match=r"weights: FILE\.safetensors"):
        backbone("resnet", weights="timm", name="resnet18")


def test_timm_imports_beside_a_cpu_build_of_torch_in_a_fresh_process():
    code = (
        "from immunization.networks.optional_packages import require; "
        "import warnings; warnings.simplefilter('error'); print(require('timm').__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "timm", done.stderr


def test_an_absent_package_is_named_with_how_to_install_it():
    with pytest.raises(UserError, match=r"pip install '.\[networks\]'"):
        require("no_such_package_of_ours")


@pytest.mark.parametrize("use", ["resnet", "vit"])
def test_features_of_an_image_depend_on_that_image_alone(use):
    network: Backbone = backbone(use)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(i[None]) for i in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_released_network_comes_back_as_it_was(tmp_path):
    from immunization.runtime.files.io import write_tensors

    network = backbone("resnet")
    head = torch.nn.Linear(network.width, 5)
    metadata = {
        "network": "r", "use": "resnet", "size": 32, "classes": 5, "accuracy": 0.5,
        "parameters": complete("backbones", "resnet", **SMALL["resnet"]),
        "provenance": {"code": "c"},
    }  # fmt: skip
    tensors = {f"backbone.{n}": v for n, v in network.state_dict().items()}
    tensors |= {f"head.{n}": v for n, v in head.state_dict().items()}
    write_tensors(tmp_path / "r.safetensors", tensors, metadata)
    pretrained = read_pretrained(tmp_path / "r.safetensors", "cpu")
    tail = Tail(pretrained.backbone)
    tail.layer = Layer(torch.randn(network.width, network.width, dtype=torch.float64))
    own = {f"seed3.{n}": v for n, v in release(tail, head.double()).items()}
    record = {
        "network": "r", "harmful": "h", "method": "m", "seeds": [3], "provenance": {"code": "c"},
    }  # fmt: skip
    write_tensors(tmp_path / "i.safetensors", own, record)
    file = Immunized.open(tmp_path / "i.safetensors")
    found, found_head = file.of_seed(3, pretrained, "cpu")
    inputs = torch.randn(4, *_shape(network))
    assert torch.equal(found(inputs), tail.eval()(inputs))
    assert found_head.weight.dtype == torch.float64
    with pytest.raises(UserError, match="holds no seed 4"):
        file.of_seed(4, pretrained, "cpu")


def _shape(network):
    with torch.no_grad():
        return network.trunk(torch.zeros(1, 3, 32, 32)).shape[1:]
