"""θ₀ of one network, trained on D_P or with published weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from immunization.networks.activations import spread_rows
from immunization.networks.augmentation import augmented, centre_crop
from immunization.networks.backbones._backbone import Backbone, Classifier, described
from immunization.networks.image_store import ImageSet, Store, in_order
from immunization.networks.training import (
    Recipe,
    Stepper,
    accuracy,
    epoch_order,
    prepare_device,
    rounding_record,
    step_generator,
    steps_per_epoch,
)
from immunization.runtime.errors import UserError
from immunization.runtime.files.checksums import content_hash, sha256
from immunization.runtime.files.io import write_tensors
from immunization.runtime.jobs.checkpoint import Checkpoint, empty_folder
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.log import LOG
from immunization.runtime.record.provenance import essence
from immunization.runtime.seeding import seed_of
from immunization.study.components import component, import_component
from immunization.study.derived import code_of


def held_out(
    backbone: Backbone, store: Store, size: int, channels_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised held-out images and labels."""
    numbers = in_order(len(store), store.labels.device)
    for rows, images in zip(numbers, store.batches(numbers), strict=True):
        inputs = backbone.normalised(centre_crop(images, size))
        if channels_last:
            inputs = inputs.to(memory_format=torch.channels_last)
        yield inputs, store.labels[rows]


class Body(nn.Module):
    """Trunk and features of a backbone, on normalised images."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (B, D)."""
        return self.backbone.features(self.backbone.trunk(inputs))


def pixel_statistics(store: Store) -> tuple[Tensor, Tensor]:
    """Mean and deviation of pixels over 255 by channel, from at most 10,000 images."""
    rows = spread_rows(store.labels, 10_000)
    total, squares, count = torch.zeros(3), torch.zeros(3), 0
    for batch in store.batches(list(rows.split(1000))):
        pixels = batch.double().transpose(0, 1).flatten(1) / 255
        total = total + pixels.sum(dim=1).cpu()
        squares = squares + pixels.square().sum(dim=1).cpu()
        count += pixels.shape[1]
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(1e-6).sqrt()
    statistics = [t.float()[:, None, None].to(store.labels.device) for t in (mean, deviation)]
    return statistics[0], statistics[1]


def train(
    model: Classifier,
    backbone: Backbone,
    images: ImageSet,
    parameters: dict[str, Any],
    seed: int,
    checkpoint: Checkpoint,
) -> list[dict[str, float]]:
    """Train on D_P; returns loss and held-out accuracy after each epoch.

    Batch statistics are used while training, and running ones from then on.
    """
    store, device = images.train, images.device
    half = device.type == "cuda"
    if half:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe(
        parameters["optimiser"], parameters["learning_rate"], parameters["weight_decay"],
        label_smoothing=parameters["label_smoothing"],
    )  # fmt: skip
    stepper = Stepper(model, recipe, half=half)
    batch, epochs = parameters["batch"], parameters["epochs"]
    per_epoch = steps_per_epoch(len(store), batch)
    curve: list[dict[str, float]] = []
    step, losses = 0, []
    kept = checkpoint.read(device)
    if kept is not None:
        losses = list(kept[0].pop("losses"))
        stepper.load(kept[0])
        step, curve = kept[1]["step"], kept[1]["curve"]
        LOG.info("goes on from step %d", step)
    began = time.monotonic()
    for epoch in range(len(curve), epochs):
        order = epoch_order(len(store), batch, ("pretrain", seed), epoch)
        order = [rows.to(device) for rows in order[step - epoch * per_epoch :]]
        model.train()
        for rows, pixels in zip(order, store.batches(order), strict=True):
            generator = step_generator(device, "pretrain", seed, step)
            pixels = augmented(
                pixels, images.size, generator, flip=images.flip, cut=parameters["cutout"]
            )
            inputs = backbone.normalised(pixels)
            if half:
                inputs = inputs.to(memory_format=torch.channels_last)
            rate = recipe.rate(step, epochs * per_epoch)
            losses.append(stepper.step(inputs, store.labels[rows], rate))
            step += 1
            if checkpoint.due():
                tensors = stepper.tensors() | {"losses": torch.stack(losses)}
                checkpoint.write(tensors, {"step": step, "curve": curve})
        model.eval()
        test_accuracy = accuracy(
            model, held_out(backbone, images.test, images.size, half), half=half
        )
        loss, losses = float(torch.stack(losses).mean()), []
        if loss != loss:
            raise UserError(
                f"pre-training diverged in epoch {epoch + 1}: the loss is not a number. Lower "
                f"`learning_rate` (now {parameters['learning_rate']:g}) of this network."
            )
        curve.append({"epoch": epoch + 1, "loss": loss, "accuracy": test_accuracy})
        LOG.info(
            "epoch %d of %d: loss %.3f, accuracy %.2f %%, %.1f s",
            epoch + 1, epochs, loss, 100 * test_accuracy, time.monotonic() - began,
        )  # fmt: skip
    return curve


def run(stage: Stage) -> None:
    """The stage: one network."""
    config, name = stage.config, stage.label
    entry = config["networks"][name]
    parameters, seed, exact = entry["parameters"], config["seeds"][0], config["deterministic"]
    device = stage.device()
    prepare_device(device, stage.threads, deterministic=exact, try_kernels=True)
    source = stage.paths.images(config["primary"])
    images = ImageSet(source, device)
    torch.manual_seed(seed_of("weights", seed))
    module = component("networks/backbones", entry["use"]).module
    backbone, head = import_component("networks/backbones", entry["use"]).build(
        parameters, images.size
    )
    pretrain = head is None
    LOG.info("%s: %s", name, described(backbone))
    head = head_for(name, backbone, head, images)
    model = Classifier(Body(backbone), head).to(device)
    asked = {"use": entry["use"], "seed": seed, **parameters}
    asked |= rounding_record(device, stage.threads)
    record = stage.record(
        asked, "pretrain", device=device, components=[module, *code_of(parameters)]
    )
    weights = parameters.get("weights", "")
    if Path(weights).is_file():
        record["files"] = {"own": {weights: sha256(weights)}}
    began = time.monotonic()
    curve: list[dict[str, float]] = []
    checkpoint = Checkpoint(
        stage.progress / f"{name}.safetensors",
        [essence(record), device, exact, content_hash(source)],
        stage.checkpoint_seconds,
    )
    if pretrain:
        backbone.mean, backbone.std = pixel_statistics(images.train)
        curve = train(model, backbone, images, parameters, seed, checkpoint)
    model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    torch.backends.cudnn.benchmark = False
    test_accuracy = accuracy(model, held_out(backbone, images.test, images.size, False), half=False)
    tensors = {f"backbone.{n}": value for n, value in backbone.state_dict().items()}
    tensors |= {f"head.{n}": value for n, value in head.state_dict().items()}
    about = {
        "network": name, "use": entry["use"], "parameters": parameters, "size": images.size,
        "classes": len(images.classes), "accuracy": test_accuracy, "curve": curve,
        "provenance": record,
    }  # fmt: skip
    out = stage.paths.pretrained(name)
    write_tensors(out, {n: value.cpu() for n, value in tensors.items()}, about)
    empty_folder(stage.progress)
    LOG.info(
        "%s: accuracy %.2f %% on held-out images of D_P, %.1f s",
        name, 100 * test_accuracy, time.monotonic() - began,
    )  # fmt: skip


def head_for(name: str, backbone: Backbone, head: nn.Linear | None, images: ImageSet) -> nn.Linear:
    """The head of published weights where it fits D_P, or a new one.

    Raises:
        UserError: when it has another number of classes.
    """
    classes = len(images.classes)
    if head is None:
        return nn.Linear(backbone.width, classes)
    if head.out_features != classes:
        raise UserError(
            f"network '{name}': its weights are for {head.out_features} classes, and D_P "
            f"'{images.name}' has {classes}. Use `weights: pretrain`, or weights for this data."
        )
    return head
