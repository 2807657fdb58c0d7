"""Stages by their command lines: large data sets that are decoded while training, and resuming."""

import copy

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from immunization.networks import activations as activations_module
from immunization.networks import image_store
from immunization.networks.backbones._backbone import create
from immunization.networks.datasets import _images
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_table, read_tensors
from immunization.study.components import import_component
from tests.studies import run_stage, write_study

from .conftest import SMALL, write_folder

RAW = {
    "study": "small",
    "seeds": [0],
    "device": "cpu",
    "size": 32,
    "datasets": {"imagenet": {}, "country211": {}},
    "primary": "imagenet",
    "harmful": ["country211"],
    "methods": {"identity": {}, "alg1": {"batch": 16, "steps": 3}},
    "attacks": {
        "last_stage": {"steps": 3, "batch": 8, "learning_rates": [0.001]},
        "full": {"steps": 3, "batch": 8, "learning_rates": [0.001]},
        "linear_probe": {"steps": 4, "batch": 8},
        "two_rates": {"use": "last_stage", "steps": 2, "batch": 8, "learning_rates": [0.001, 0.01]},
    },
    "attack": {"rows": 40, "test_rows": None},
    "spectrum": {
        "rows": 60, "test_rows": None, "groups": 2, "group_rows": 10, "density_rows": 8,
        "density_steps": 3, "probe_rows": 30, "probe_products": 20,
    },
}  # fmt: skip


def study(folder, weights, **changes):
    """Prepared data, a loaded network, and two methods; the study's file."""
    for name, classes, seed in (("imagenet", 3, 0), ("country211", 4, 1)):
        test = "val" if name == "imagenet" else "test"
        write_folder(folder / "data" / name / "train", classes, 12, seed)
        write_folder(folder / "data" / name / test, classes, 3, seed + 10)
    network = {
        "use": "resnet", **SMALL["resnet"], "weights": str(weights),
        "arguments": {"num_classes": 3},
    }  # fmt: skip
    own = {"networks": {"r": network}, "data": {"mirror": str(folder / "data")}}
    path = write_study(folder / "results", copy.deepcopy(RAW) | own | changes)
    for name in RAW["datasets"]:
        run_stage("prepare", path, name, cache=folder / "cache")
    run_stage("pretrain", path, "r")
    for name in RAW["methods"]:
        run_stage("immunize", path, name)
    return path


def attack_with(path, name):
    run_stage("attack", path, name)
    return read_table(path.parent / "attack" / f"{name}.curves.parquet")


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_file(create("test_resnet", num_classes=3).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_files_decoded_while_training_give_the_results_of_memory(tmp_path, weights, monkeypatch):
    """The paper's study in miniature: weights from a file, ImageNet's and Country211's layouts."""
    found = []
    for name, limit in (("memory", None), ("files", 0)):
        if limit == 0:
            monkeypatch.setattr(_images, "MEMORY_LIMIT", 0)
            monkeypatch.setattr(activations_module, "LIMIT", 0)
        path = study(tmp_path / name, weights)
        _, metadata = read_tensors(path.parent / "images" / "country211.safetensors")
        assert metadata["form"] == ("files" if limit == 0 else "pixels")
        curves = [attack_with(path, label) for label in ("last_stage", "full", "linear_probe")]
        run_stage("spectrum", path)
        measured = read_table(path.parent / "spectrum" / "spectra.parquet")
        found.append((pd.concat(curves), measured["kappa"]))
    columns = ["attack", "method", "member", "step", "fraction"]
    one, two = (frame[[*columns, "accuracy"]].reset_index(drop=True) for frame, _ in found)
    assert one[columns].equals(two[columns])
    # Sums in another order may turn a close call.
    assert (one["accuracy"] - two["accuracy"]).abs().mean() < 0.02
    assert found[0][1].to_numpy() == pytest.approx(found[1][1].to_numpy(), rel=1e-2)


def test_a_killed_attack_goes_on_with_the_pieces_that_are_done(tmp_path, weights, monkeypatch):
    path = study(tmp_path, weights)
    whole = attack_with(path, "two_rates")
    for piece in (path.parent / "progress" / "attack" / "two_rates").glob("*"):
        piece.unlink()

    class Killed(Exception):
        pass

    module = import_component("networks/attacks", "last_stage")
    own, calls = module.attack, []

    def fails_second(victim, parameters):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return own(victim, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(module, "attack", fails_second)
        with pytest.raises(Killed):
            attack_with(path, "two_rates")
        again = attack_with(path, "two_rates")
    assert len(calls) == 3  # one done before, one killed, one done after
    pd.testing.assert_frame_equal(whole, again)


def test_an_immunization_that_was_done_is_not_done_again(tmp_path, weights, monkeypatch):
    path = study(tmp_path, weights, seeds=[3, 4])
    progress = path.parent / "progress" / "immunize" / "alg1"
    (path.parent / "immunized/alg1/r.country211.safetensors").unlink()
    module = import_component("networks/methods", "alg1")
    own, seen = module.immunize, []

    class Killed(Exception):
        pass

    def fails_second(problem, parameters):
        seen.append(problem.key[2])
        if len(seen) == 2:
            raise Killed
        return own(problem, parameters)

    monkeypatch.setattr(module, "immunize", fails_second)
    with pytest.raises(Killed):
        run_stage("immunize", path, "alg1")
    assert list(progress.glob("*"))
    run_stage("immunize", path, "alg1")
    assert seen == [3, 4, 4]
    tensors, metadata = read_tensors(path.parent / "immunized/alg1/r.country211.safetensors")
    assert metadata["seeds"] == [3, 4]
    assert {n.split(".")[0] for n in tensors} == {"seed3", "seed4"}
    assert not list(progress.glob("*"))


def test_a_truncated_file_is_named(tmp_path, weights):
    path = study(tmp_path, weights)
    images = path.parent / "images" / "imagenet.safetensors"
    images.write_bytes(images.read_bytes()[:100])
    with pytest.raises(UserError, match=r"imagenet\.safetensors: damaged: it has 100 bytes"):
        image_store.ImageSet(images)
    (path.parent / "pretrained" / "r.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"r\.safetensors: damaged: it has 0 bytes"):
        attack_with(path, "last_stage")
