"""Stage 2 of a study of networks: θ₀ of one network, trained on D_P or published weights.

    python -m immunization.networks.pretrain --name resnet18 --use resnet --parameters '{…}' \\
        --images images/cifar10.safetensors --seed 0 --progress FOLDER --out pretrained/…
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from immunization import stage
from immunization.errors import UserError
from immunization.files import write_tensors
from immunization.networks.activations import spread_rows
from immunization.networks.augment import augmented, centred
from immunization.networks.backbones._backbone import Backbone, Classifier
from immunization.networks.store import ImageSet, Store, in_order
from immunization.networks.training import (
    Checkpoint,
    Recipe,
    Stepper,
    accuracy,
    clear,
    epoch_order,
    prepare_device,
    rounding,
    step_generator,
    steps_per_epoch,
)
from immunization.provenance import essence, provenance
from immunization.registry import load
from immunization.seals import content_of, sha256
from immunization.seeding import seed_of


def held_out(
    backbone: Backbone, store: Store, size: int, channels_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised held-out images and labels."""
    numbers = in_order(len(store), store.labels.device)
    for rows, images in zip(numbers, store.batches(numbers), strict=True):
        inputs = backbone.normalised(centred(images, size))
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
    found = [t.float()[:, None, None].to(store.labels.device) for t in (mean, deviation)]
    return found[0], found[1]


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
        stage.LOG.info("goes on from step %d", step)
    began = time.monotonic()
    for epoch in range(len(curve), epochs):
        order = epoch_order(len(store), batch, ("pretrain", seed), epoch)
        order = [rows.to(device) for rows in order[step - epoch * per_epoch :]]
        model.train()
        for rows, pixels in zip(order, store.batches(order), strict=True):
            generator = step_generator(device, "pretrain", seed, step)
            pixels = augmented(
                pixels, images.size, generator, flip=images.flip, cut=parameters["cut"]
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
        found = accuracy(model, held_out(backbone, images.test, images.size, half), half=half)
        loss, losses = float(torch.stack(losses).mean()), []
        if loss != loss:
            raise UserError(
                f"pre-training diverged in epoch {epoch + 1}: the loss is not a number. Lower "
                f"`learning_rate` (now {parameters['learning_rate']:g}) of this network."
            )
        curve.append({"epoch": epoch + 1, "loss": loss, "accuracy": found})
        stage.LOG.info(
            "epoch %d of %d: loss %.3f, accuracy %.2f %%, %.1f s",
            epoch + 1, epochs, loss, 100 * found, time.monotonic() - began,
        )  # fmt: skip
    return curve


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Pre-train one network, or load its weights.")
    parser.add_argument("--name", required=True, help="label in the config")
    parser.add_argument("--use", required=True, help="file in networks/backbones")
    parser.add_argument("--parameters", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--images", required=True, help="output of prepare for D_P")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", type=Path, required=True, help="own folder for checkpoints")
    parser.add_argument("--checkpoint-seconds", type=float, default=120.0)
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="safetensors file to write")
    options = parser.parse_args(arguments)
    device = stage.choose_device(options.device)
    prepare_device(device, options.threads, deterministic=options.deterministic, try_kernels=True)
    images = ImageSet(options.images, device)
    torch.manual_seed(seed_of("weights", options.seed))
    backbone, head = load("networks/backbones", options.use).build(options.parameters, images.size)
    classes = len(images.classes)
    pretrain = head is None
    if head is None:
        head = nn.Linear(backbone.width, classes)
    elif head.out_features != classes:
        raise UserError(
            f"network '{options.name}': its weights tell {head.out_features} classes apart, and "
            f"D_P '{images.name}' has {classes}. Take `weights: pretrain`, or "
            "weights for this data."
        )
    model = Classifier(Body(backbone), head).to(device)
    record = provenance(
        ["immunization.networks.pretrain", f"immunization.networks.backbones.{options.use}"],
        {"use": options.use, "seed": options.seed, **options.parameters}
        | rounding(device, options.threads),
        device,
    )
    weights = options.parameters.get("weights", "")
    if Path(weights).is_file():
        record["files"] = {"own": {weights: sha256(weights)}}
    began = time.monotonic()
    curve: list[dict[str, float]] = []
    checkpoint = Checkpoint(
        options.progress / f"{options.name}.safetensors",
        [essence(record), device, options.deterministic, content_of(options.images)],
        options.checkpoint_seconds,
    )
    if pretrain:
        backbone.mean, backbone.std = pixel_statistics(images.train)
        curve = train(model, backbone, images, options.parameters, options.seed, checkpoint)
    model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    torch.backends.cudnn.benchmark = False
    found = accuracy(model, held_out(backbone, images.test, images.size, False), half=False)
    tensors = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
    write_tensors(
        options.out,
        {name: value.cpu() for name, value in tensors.items()},
        {
            "network": options.name,
            "use": options.use,
            "parameters": options.parameters,
            "size": images.size,
            "classes": classes,
            "accuracy": found,
            "curve": curve,
            "provenance": record,
        },
    )
    clear(options.progress)
    stage.LOG.info(
        "%s: accuracy %.2f %% on held-out images of D_P, %.1f s",
        options.name, 100 * found, time.monotonic() - began,
    )  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
