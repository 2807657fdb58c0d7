"""What a GPU must do as a CPU does."""

import copy

import pytest
import torch

from immunization.networks.attacks.lora import adapted
from immunization.networks.backbones._backbone import Classifier, Tail
from immunization.networks.probe_sweep import Grid, sweep
from immunization.networks.training import Recipe, Stepper
from immunization.runtime.files.io import read_tensors
from tests.studies import run_stage

from .conftest import backbone, pretraining

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("use", ["resnet", "vit"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("mode", ["batch", "frozen", "lora"])
def test_a_captured_step_is_the_step(use, optimiser, mode):
    """Ten steps through a graph against ten without one."""
    network = backbone(use).requires_grad_(False)
    tail = Tail(network).requires_grad_(True)
    if mode == "lora":
        torch.manual_seed(3)
        tail = adapted(tail, 4)
    torch.manual_seed(0)
    model = Classifier(tail, torch.nn.Linear(network.width, 5)).cuda()
    model.train(mode == "batch")
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        pixels = torch.randint(0, 256, (320, 3, 32, 32), generator=generator, dtype=torch.uint8)
        inputs = network.trunk(network.normalised(pixels)).cuda()
    labels = torch.randint(5, (320,), generator=generator).cuda()
    ends = []
    for own, graph in ((model, True), (other, False)):
        stepper = Stepper(own, Recipe(optimiser, 0.01), half=False)
        for step in range(10):
            if not graph:
                stepper._count = 0
            rows = slice(32 * step, 32 * step + 32)
            loss = stepper.step(inputs[rows], labels[rows], 0.01 / (step + 1))
        assert (stepper._graph is not None) == graph
        ends.append([loss, *(v.float() for v in own.state_dict().values())])
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two, rtol=2e-3, atol=2e-4)


def test_a_restart_needs_no_new_graph():
    model = torch.nn.Linear(8, 3).cuda()
    start = {n: v.clone() for n, v in model.state_dict().items()}
    stepper = Stepper(model, Recipe("adamw", 0.01), half=False)
    batches = [(torch.randn(4, 8).cuda(), torch.randint(3, (4,)).cuda()) for _ in range(6)]
    ends = []
    for _ in range(3):
        stepper.restart(start)
        for x, y in batches:
            stepper.step(x, y, 0.01)
        ends.append(model.weight.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(ends[1], ends[2])


def test_the_sweep_gives_what_it_gives_on_a_cpu():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(90, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (90,), generator=generator)
    grid = Grid([1.0], [0.01, 0.1], [], 25, 16, [5, 25])
    found = []
    for device in ("cpu", "cuda"):
        own = features.to(device), labels.to(device)
        result, losses = sweep([own[0]], [own[1]], [own[0]], own[1], 4, grid, ("k",))
        found.append((result.cpu(), losses.cpu()))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_training_stopped_on_a_gpu_resumes_to_the_same_bits(prepared, tmp_path, monkeypatch):
    """In deterministic mode, through graphs and all."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    studies = {
        name: pretraining(tmp_path / name, tmp_path / "images", epochs=4)
        for name in ("whole", "killed")
    }

    def train(name, every):
        run_stage("pretrain", studies[name], "n", device="cuda", checkpoint_seconds=every)

    class Stop(Exception):
        pass

    try:
        train("whole", 1e9)
        steps = 0
        step = Stepper.step

        def stop(self, *arguments):
            nonlocal steps
            steps += 1
            if steps == 11:
                raise Stop
            return step(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Stepper, "step", stop)
            with pytest.raises(Stop):
                train("killed", 0)
        train("killed", 0)
    finally:
        torch.use_deterministic_algorithms(False)
    whole, _ = read_tensors(tmp_path / "whole" / "pretrained" / "n.safetensors")
    again, _ = read_tensors(tmp_path / "killed" / "pretrained" / "n.safetensors")
    assert all(torch.equal(whole[n], again[n]) for n in whole)
