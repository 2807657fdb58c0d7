"""Networks of timm, cut in three, and their weights."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from immunization.errors import UserError
from immunization.networks.backbones._backbone import Backbone, Layer, Tail, create
from immunization.networks.released import Immunized, read_pretrained, release
from immunization.networks.requirements import require
from immunization.registry import load

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
    parts, head = load("networks/backbones", use).build(parameters, 32)
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


def test_weights_that_the_hub_does_not_give_say_how_to_get_them(monkeypatch):
    timm = require("timm")
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(UserError, match=r"weights: FILE\.safetensors"):
        backbone("resnet", weights="timm", name="resnet18")


def test_timm_imports_beside_a_cpu_build_of_torch_in_a_fresh_process():
    code = (
        "from immunization.networks.requirements import require; "
        "import warnings; warnings.simplefilter('error'); print(require('timm').__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "timm", done.stderr


def test_an_absent_package_is_named_with_how_to_install_it():
    with pytest.raises(UserError, match=r"pip install 'immunization\[networks\]'"):
        require("no_such_package_of_ours")


@pytest.mark.parametrize("use", ["resnet", "vit"])
def test_features_of_an_image_depend_on_that_image_alone(use):
    network: Backbone = backbone(use)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(i[None]) for i in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_released_network_comes_back_as_it_was(tmp_path):
    from immunization.files import write_tensors

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
