"""Training that goes on where it was killed, and what a step sees."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from immunization.networks.augmentation import augmented, centre_crop, cropped
from immunization.networks.training import Recipe, Stepper, epoch_order
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_tensors
from immunization.runtime.jobs.checkpoint import Checkpoint
from tests.studies import arguments, run_stage

from .conftest import pretraining


@pytest.fixture
def deterministic():
    yield
    torch.use_deterministic_algorithms(False)


def test_a_rate_rises_over_a_fifth_of_the_steps_and_falls_to_nothing():
    recipe = Recipe(learning_rate=2.0)
    rates = [recipe.rate(step, 50) for step in range(50)]
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == pytest.approx(2.0)
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] < 0.01
    assert Recipe(schedule="constant", learning_rate=3.0).rate(7, 9) == 3.0


def test_a_step_is_that_of_torchs_own_optimiser():
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    recipe = Recipe("sgd", 0.1, weight_decay=0.01)
    stepper = Stepper(ours, recipe, half=False)
    optimiser = torch.optim.SGD(
        [{"params": [theirs.weight], "weight_decay": 0.01}, {"params": [theirs.bias]}],
        lr=0.1, momentum=0.9, nesterov=True,
    )  # fmt: skip
    for _ in range(5):
        x, y = torch.randn(8, 4), torch.randint(3, (8,))
        stepper.step(x, y, 0.1)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(theirs(x), y).backward()
        optimiser.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_restarting_is_as_good_as_new():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))
    start = {n: v.clone() for n, v in model.state_dict().items()}
    stepper = Stepper(model, Recipe("adamw", 0.01), half=False)
    batches = [(torch.randn(8, 4), torch.randint(5, (8,))) for _ in range(4)]
    ends = []
    for _ in range(2):
        stepper.restart(start)
        for x, y in batches:
            stepper.step(x, y, 0.01)
        ends.append(torch.cat([v.flatten().float() for v in model.state_dict().values()]))
    assert torch.equal(*ends)


def test_an_epoch_takes_every_image_once_in_an_order_of_its_own():
    order = epoch_order(10, 3, ("x", 0), 0)
    assert len(order) == 3
    assert len(set(torch.cat(order).tolist())) == 9
    assert torch.cat(order).tolist() != torch.cat(epoch_order(10, 3, ("x", 0), 1)).tolist()
    assert len(epoch_order(2, 5, ("x",), 0)[0]) == 2


def test_crops_are_slices_and_mirror_images_are_mirrored():
    images = torch.arange(2 * 3 * 6 * 6).reshape(2, 3, 6, 6)
    found = cropped(images, torch.tensor([0, 2]), torch.tensor([1, 2]), 4)
    assert torch.equal(found[0], images[0, :, 0:4, 1:5])
    assert torch.equal(found[1], images[1, :, 2:6, 2:6])
    assert torch.equal(centre_crop(images, 4), images[..., 1:5, 1:5])
    flat = torch.full((200, 3, 8, 8), 7, dtype=torch.uint8)
    flat[..., :4] = 200
    turned = augmented(flat, 8, torch.Generator().manual_seed(0), flip=True, cut=0)
    share = (turned[:, 0, 4, 0] < 100).double().mean()
    assert 0.35 < share < 0.65
    cut = augmented(flat, 8, torch.Generator().manual_seed(0), flip=False, cut=2)
    assert ((cut == 128).flatten(1).sum(dim=1) > 0).all()


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(tmp_path):
    path = tmp_path / "c.safetensors"
    one = Checkpoint(path, ["a", 1])
    one.write({"x": torch.ones(2)}, {"step": 3})
    assert one.read("cpu")[1] == {"step": 3}
    assert Checkpoint(path, ["a", 2]).read("cpu") is None
    path.write_bytes(path.read_bytes()[:10])
    assert one.read("cpu") is None
    assert Checkpoint(None, 0).read("cpu") is None


@pytest.mark.parametrize("use", ["resnet", pytest.param("vit", marks=pytest.mark.slow)])
def test_training_killed_at_a_random_step_resumes_to_the_same_bits(
    use, prepared, tmp_path, deterministic
):
    images = tmp_path / "images"
    run_stage("pretrain", pretraining(tmp_path / "whole", images, use, epochs=8), "n")
    whole, metadata = read_tensors(tmp_path / "whole" / "pretrained" / "n.safetensors")
    folder = tmp_path / "killed"
    study = pretraining(folder, images, use, epochs=8)
    run = [
        sys.executable, "-m", "immunization.stages.pretrain",
        *arguments(study, "n", checkpoint_seconds=0),
    ]  # fmt: skip
    progress = folder / "progress" / "pretrain" / "n"
    generator = random.Random(use)
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(run, env=os.environ, stderr=subprocess.DEVNULL)
        checkpoint = progress / "n.safetensors"
        began = time.monotonic()
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and time.monotonic() - began < 60:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                time.sleep(generator.uniform(0, 0.1))
                break
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 1
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "goes on from step" in done.stderr
    again, second = read_tensors(folder / "pretrained" / "n.safetensors")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[n], again[n]) for n in whole)
    assert metadata["curve"] == second["curve"]
    assert not list(progress.glob("*"))


def test_a_rate_that_diverges_is_told(prepared, tmp_path, deterministic):
    images = tmp_path / "images"
    study = pretraining(tmp_path / "s", images, learning_rate=1e18, label_smoothing=0.0)
    with pytest.raises(UserError, match=r"diverged in epoch \d: .*Lower `learning_rate`"):
        run_stage("pretrain", study, "n")


def test_published_weights_for_other_classes_are_refused(
    prepared, tmp_path, deterministic, monkeypatch
):
    from safetensors.torch import save_file

    from immunization.networks.backbones._backbone import create

    save_file(create("test_resnet").state_dict(), tmp_path / "w.safetensors")
    images = tmp_path / "images"
    study = pretraining(tmp_path / "s", images, weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match="for 1000 classes, and D_P 'benign' has 5"):
        run_stage("pretrain", study, "n")
