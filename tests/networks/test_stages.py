"""Stages by their command lines: large data sets that are decoded while training, and resuming."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from immunization.networks import activations as activations_module
from immunization.networks import attack, image_store, immunize, prepare, pretrain, spectra
from immunization.networks.backbones._backbone import create
from immunization.networks.datasets import _images
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_table, read_tensors

from .conftest import SMALL, complete, write_folder

SPECTRUM = {
    "rows": 60, "test_rows": None, "groups": 2, "group_rows": 10, "ridge": 1e-6, "density_rows": 8,
    "density_steps": 3, "probe_rows": 30, "probe_products": 20,
}  # fmt: skip


def study(folder, weights):
    """Prepared data, a loaded network, and two methods; the arguments of what follows."""
    for name, classes, seed in (("imagenet", 3, 0), ("country211", 4, 1)):
        test = "val" if name == "imagenet" else "test"
        write_folder(folder / "data" / name / "train", classes, 12, seed)
        write_folder(folder / "data" / name / test, classes, 3, seed + 10)
        prepare.main(
            ["--name", name, "--source", name, "--size", "32", "--mirror", str(folder / "data"),
             "--parameters", json.dumps(complete("images", name)), "--cache", str(folder / "c"),
             "--out", str(folder / "images" / f"{name}.safetensors")]
        )  # fmt: skip
    parameters = complete("backbones", "resnet", **SMALL["resnet"] | {"weights": str(weights)})
    parameters["arguments"] = {"num_classes": 3}
    images = {n: str(folder / "images" / f"{n}.safetensors") for n in ("imagenet", "country211")}
    pretrained = str(folder / "pretrained" / "r.safetensors")
    pretrain.main(
        ["--name", "r", "--use", "resnet", "--parameters", json.dumps(parameters),
         "--images", images["imagenet"], "--progress", str(folder / "p" / "pre"),
         "--device", "cpu", "--out", pretrained]
    )  # fmt: skip
    common = ["--images", *images.values(), "--pretrained", pretrained, "--device", "cpu"]
    for label, changes in (("identity", {}), ("alg1", {"batch": 16, "steps": 3})):
        immunize.main(
            ["--label", label, "--method", label, *common, "--primary", "imagenet",
             "--parameters", json.dumps({"r": complete("methods", label, **changes)}),
             "--harmful", "country211", "--seeds", "[0]", "--progress", str(folder / "p" / label),
             "--out", str(folder / "immunized" / label)]
        )  # fmt: skip
    released = [
        str(folder / "immunized" / m / "r.country211.safetensors") for m in ("identity", "alg1")
    ]
    return [*common, "--immunized", *released]


def attack_with(folder, common, name, **changes):
    attack.main(
        ["--label", name, "--attack", name, *common,
         "--parameters", json.dumps(complete("attacks", name, **changes)),
         "--settings", '{"rows": 40, "test_rows": null}', "--progress", str(folder / "p" / name),
         "--runs", str(folder / f"{name}.runs.parquet"),
         "--curves", str(folder / f"{name}.curves.parquet")]
    )  # fmt: skip
    return read_table(folder / f"{name}.curves.parquet")


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_file(create("test_resnet", num_classes=3).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_study_of_files_decoded_while_training_gives_what_one_in_memory_gives(
    tmp_path, weights, monkeypatch
):
    """The paper's study in miniature: weights from a file, ImageNet's and Country211's layouts."""
    found = []
    few = {"steps": 3, "batch": 8, "learning_rates": [0.001]}
    for name, limit in (("memory", None), ("files", 0)):
        if limit == 0:
            monkeypatch.setattr(_images, "MEMORY_LIMIT", 0)
            monkeypatch.setattr(activations_module, "LIMIT", 0)
        folder = tmp_path / name
        common = study(folder, weights)
        _, metadata = read_tensors(folder / "images" / "country211.safetensors")
        assert metadata["form"] == ("files" if limit == 0 else "pixels")
        curves = [
            attack_with(folder, common, "last_stage", **few),
            attack_with(folder, common, "full", **few),
            attack_with(folder, common, "linear_probe", steps=4, batch=8),
        ]
        spectra.main(
            [*common, "--primary", "imagenet", "--harmful", "country211",
             "--parameters", json.dumps(SPECTRUM), "--progress", str(folder / "p" / "s"),
             "--spectra", str(folder / "s.parquet"), "--densities", str(folder / "d.parquet")]
        )  # fmt: skip
        spectra = read_table(folder / "s.parquet")
        found.append((pd.concat(curves), spectra["kappa"]))
    columns = ["attack", "method", "member", "step", "fraction"]
    one, two = (frame[[*columns, "accuracy"]].reset_index(drop=True) for frame, _ in found)
    assert one[columns].equals(two[columns])
    # Sums in another order may turn a close call.
    assert (one["accuracy"] - two["accuracy"]).abs().mean() < 0.02
    assert found[0][1].to_numpy() == pytest.approx(found[1][1].to_numpy(), rel=1e-2)


def test_a_killed_attack_goes_on_with_the_pieces_that_are_done(tmp_path, weights, monkeypatch):
    common = study(tmp_path, weights)
    few = {"steps": 2, "batch": 8, "learning_rates": [0.001, 0.01]}
    whole = attack_with(tmp_path, common, "last_stage", **few)
    for path in (tmp_path / "p" / "last_stage").glob("*"):
        path.unlink()

    class Killed(Exception):
        pass

    module = attack.load("networks/attacks", "last_stage")
    own, calls = module.attack, []

    def fails_second(victim, parameters):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return own(victim, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(module, "attack", fails_second)
        with pytest.raises(Killed):
            attack_with(tmp_path, common, "last_stage", **few)
        again = attack_with(tmp_path, common, "last_stage", **few)
    assert len(calls) == 3  # one done before, one killed, one done after
    pd.testing.assert_frame_equal(whole, again)


def test_an_immunization_that_was_done_is_not_done_again(tmp_path, weights, monkeypatch):
    common = study(tmp_path, weights)
    module = immunize.load("networks/methods", "alg1")
    own, seen = module.immunize, []

    class Killed(Exception):
        pass

    def fails_second(problem, parameters):
        seen.append(problem.key[2])
        if len(seen) == 2:
            raise Killed
        return own(problem, parameters)

    arguments = [
        "--label", "alg1", "--method", "alg1", *common[: common.index("--immunized")],
        "--parameters",
        json.dumps({"r": complete("methods", "alg1", batch=16, steps=2)}),
        "--primary", "imagenet", "--harmful", "country211", "--seeds", "[3, 4]",
        "--progress", str(tmp_path / "p" / "again"), "--out", str(tmp_path / "again"),
    ]  # fmt: skip
    monkeypatch.setattr(module, "immunize", fails_second)
    with pytest.raises(Killed):
        immunize.main(arguments)
    immunize.main(arguments)
    assert seen == [3, 4, 4]
    tensors, metadata = read_tensors(tmp_path / "again" / "r.country211.safetensors")
    assert metadata["seeds"] == [3, 4]
    assert {n.split(".")[0] for n in tensors} == {"seed3", "seed4"}
    assert not list((tmp_path / "p" / "again").glob("*"))


def test_a_truncated_file_is_named(tmp_path, weights):
    common = study(tmp_path, weights)
    path = tmp_path / "images" / "imagenet.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"imagenet\.safetensors: damaged: it has 100 bytes"):
        image_store.ImageSet(path)
    (tmp_path / "pretrained" / "r.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"r\.safetensors: damaged: it has 0 bytes"):
        attack_with(tmp_path, common, "last_stage", steps=1)
