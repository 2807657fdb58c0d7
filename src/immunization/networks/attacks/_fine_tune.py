"""Fine-tuning with gradient steps: shared by the attackers that change more than a probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from immunization.networks.attacks._victim import AttackedModel, Frames, recorded_steps
from immunization.networks.training import Recipe, Stepper, accuracy, epoch_order
from immunization.runtime.log import LOG
from immunization.runtime.seeding import seed_of, seeded

PARAMETERS = {
    "learning_rates": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "minItems": 1,
        "default": [0.0003, 0.001, 0.003],
        "description": "peak learning rates of a one-cycle schedule. The attacker tries all on "
        "the first seed, and uses the one with the highest mean accuracy over the recorded steps "
        "on the other seeds.",
    },
    "extend": {
        "type": "integer",
        "minimum": 0,
        "default": 2,
        "description": "largest number of further rates, each three times as far out, that are "
        "tried while the best rate is the largest or the smallest so far; none are tried where "
        "one rate alone is given.",
    },
    "optimiser": {
        "enum": ["adamw", "sgd"],
        "default": "adamw",
        "description": "optimiser; sgd has Nesterov momentum 0.9.",
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 360,
        "description": "number of steps, one minibatch each.",
    },
    "batch": {
        "type": "integer",
        "minimum": 2,
        "default": 256,
        "description": "number of images in a minibatch.",
    },
    "weight_decay": {
        "type": "number",
        "minimum": 0,
        "default": 0.0005,
        "description": "weight decay, on weights with two axes or more.",
    },
    "fraction": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 1,
        "description": "share of each class's training images that the attacker has.",
    },
    "batch_norm": {
        "enum": ["batch", "frozen"],
        "default": "batch",
        "description": "batch: batch norm normalises with the minibatch and keeps running "
        "statistics, as in ordinary fine-tuning. frozen: those that the publisher released.",
    },
}

WIDER = 3.0
"""Step of the search beyond the rates given, about that of the rates themselves."""

Feed = Callable[[Sequence[Tensor], int], Iterator[Tensor]]
"""Inputs of batches of places, augmented as the seed says."""


class Scaled(nn.Module):
    """Features at unit scale: what an attacker does first, at no cost.

    Args:
        body: maps inputs to features.
    """

    scale: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("scale", torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (B, D)."""
        logits: Tensor = self.body(inputs) * self.scale
        return logits

    @torch.no_grad()
    def measure(self, inputs: Tensor) -> None:
        """Take the scale from a batch."""
        features = self.body(inputs).float()
        self.scale.copy_(1 / features.square().mean().sqrt().clamp_min(1e-12))


class Attacked(nn.Module):
    """A body at unit scale, and the attacker's head."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.scaled, self.head = Scaled(body), head

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.head(self.scaled(inputs))
        return logits


def fine_tune_with_search(
    victim: AttackedModel,
    parameters: dict[str, Any],
    body: Callable[[int], nn.Module],
    feed: Feed,
    test: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    *,
    structure: str,
    half: bool,
) -> Frames:
    """Fine-tune each seed's network, with the learning rate tuned on the first.

    Args:
        victim: networks and task.
        parameters: of `PARAMETERS`.
        body: a fresh network of a seed, that maps inputs to features; all of the same structure.
        feed: inputs of batches.
        test: held-out inputs and labels.
        structure: names the structure, for a captured graph serves all networks of one.
        half: bfloat16 for the network.

    Returns:
        One row a run, and one a recorded step.
    """
    recipe = Recipe(parameters["optimiser"], 1.0, parameters["weight_decay"])
    runs: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    chosen: float | None = None
    for seed in victim.tails:
        places = victim.part(parameters["fraction"], seed)
        torch.manual_seed(seed_of("body", victim.name, seed))
        made = Attacked(body(seed), _head(victim, seed)).to(victim.device)
        made.eval()
        first = next(feed([places[: min(len(places), 1024)]], seed))
        with torch.autocast(victim.device.type, torch.bfloat16, enabled=half):
            made.scaled.measure(first)
        start = {n: v.detach().clone() for n, v in made.state_dict().items()}
        stepper = victim.kept.get(structure)
        if stepper is None:
            stepper = victim.kept[structure] = Stepper(made, recipe, half=half)
        area: dict[float, float] = {}
        rates = list(dict.fromkeys(parameters["learning_rates"])) if chosen is None else [chosen]
        for more in range(1 + parameters["extend"]):
            for rate in further(area) if more else rates:
                stepper.restart(start)
                records, loss = _train(
                    victim, parameters, stepper, replace(recipe, learning_rate=rate), places, feed,
                    test, seed, half=half,
                )  # fmt: skip
                area[rate] = sum(value for _, value in records) / len(records)
                keys = {"seed": seed, "learning_rate": rate, "fraction": parameters["fraction"]}
                keys["member"] = f"{parameters['optimiser']} {rate:g}"
                runs.append(keys | {"loss": loss, "accuracy": records[-1][1]})
                curves += [keys | {"step": step, "accuracy": value} for step, value in records]
        if chosen is None:
            inner = sorted(area)[1:-1]  # of several that are alike, one that is no end
            chosen = max(area, key=lambda rate: (area[rate], rate in inner))
    LOG.info(
        "%s: rate %g, accuracy %.1f %%", victim.name, chosen or 0.0, 100 * runs[-1]["accuracy"]
    )
    first, second = (
        frame.assign(tuned=frame["learning_rate"] == chosen)
        for frame in (pd.DataFrame(runs), pd.DataFrame(curves))
    )
    return first, second


def _train(
    victim: AttackedModel, parameters: dict[str, Any], stepper: Stepper, recipe: Recipe,
    places: Tensor, feed: Feed, test: Callable[[], Iterator[tuple[Tensor, Tensor]]], seed: int, *,
    half: bool,
) -> tuple[list[tuple[int, float]], float]:  # fmt: skip
    """Fine-tune once; held-out accuracy at the recorded steps, and the last loss."""
    steps, model = parameters["steps"], stepper.model
    records, learns = set(recorded_steps(steps)), parameters["batch_norm"] == "batch"
    batches = _order(places, parameters["batch"], steps, (victim.name, seed))
    measured = []
    model.train(learns)
    for step, (rows, inputs) in enumerate(zip(batches, feed(batches, seed), strict=True)):
        loss = stepper.step(inputs, victim.train.labels[rows], recipe.rate(step, steps))
        if step + 1 in records:
            model.eval()
            measured.append((step + 1, accuracy(model, test(), half=half)))
            model.train(learns)
    return measured, float(loss)


def further(area: dict[float, float]) -> list[float]:
    """The rate to try next, where the best one is an end of those tried.

    Args:
        area: what a rate is judged by, for every rate tried; more is better.

    Returns:
        One rate, or none: where the best one lies inside, or where there is no choice.
    """
    if len(area) < 2:
        return []
    ends = {max(area): WIDER, min(area): 1 / WIDER}
    best = [rate for rate in area if area[rate] == max(area.values())]
    if not ends.keys() >= set(best):
        return []
    return [float(f"{best[0] * ends[best[0]]:.3g}")]


def _head(victim: AttackedModel, seed: int) -> nn.Linear:
    return victim.new_head(victim.pretrained.backbone.width, seed)


def _order(places: Tensor, batch: int, steps: int, key: tuple[object, ...]) -> list[Tensor]:
    """Places of each step, epoch after epoch."""
    batches: list[Tensor] = []
    epoch = 0
    host = places.cpu()
    while len(batches) < steps:
        batches += [host[o] for o in epoch_order(len(places), batch, key, epoch)]
        epoch += 1
    # One transfer for all steps.
    return list(torch.stack(batches[:steps]).to(places.device))


def tail_feed(victim: AttackedModel) -> Feed:
    """Activations, mirrored half the time where images may be."""

    def feed(rows: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        if victim.train.views == 1:
            return victim.train.batches(rows)
        generator = seeded(victim.name, seed, "mirror")
        turn = torch.randint(2, (len(rows), len(rows[0])), generator=generator) == 1
        return victim.train.batches(rows, list(turn.to(rows[0].device)))

    return feed
