"""Condition numbers of features, and Hessians, before and after immunization.

One row a (network, D_H, method, seed, role) with the spectrum of FᵀF, and one a (network, D_H,
method, seed) with the density of the trainable part's Hessian."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hessian_spectrum import (
    NotConvergedError,
    effective_rank,
    network_hessian,
    operator_eigenpairs,
    range_factor,
    relative_tolerance,
    released_condition,
    ridge_condition,
    softmax_probe_operator,
    softmax_probe_spectrum,
    spectral_density,
)
from immunization.networks.activations import Activations, spread_rows
from immunization.networks.backbones._backbone import Classifier, Tail
from immunization.networks.files import Immunized, Pretrained, read_pretrained
from immunization.networks.image_store import ImageSet
from immunization.networks.training import accuracy, prepare_device, rounding_record
from immunization.runtime.files.checksums import content_hash
from immunization.runtime.jobs.resumable import WorkUnit, run_units
from immunization.runtime.jobs.stage import Stage, write_tables
from immunization.runtime.log import LOG
from immunization.runtime.record.provenance import essence
from immunization.runtime.seeding import seeded

TABLES = ("spectra", "densities")
WIDE_BATCH = 512
"""Images a batch in float64."""


class Subject(NamedTuple):
    """What all measurements of one network and D_H share.

    Attributes:
        parts: activations by role, P, H and labels of third tasks.
        test: held-out activations of D_P.
    """

    parts: dict[str, Activations]
    test: Activations


@torch.no_grad()
def features_of(tail: nn.Module, part: Activations) -> Tensor:
    """Features of every image of a part by a tail in float64, (N, D)."""
    return torch.cat([tail(activations.double()) for activations, _ in part.in_order(WIDE_BATCH)])


def feature_spectrum(features: Tensor, ridge: float) -> dict[str, Any]:
    """Spectrum of FᵀF over its numerical rank, by every definition of κ.

    Args:
        features: F, (N, D), float64, N ≫ D.
        ridge: of the ridge condition number, relative to σ_1.
    """
    factor = range_factor(features)
    values = factor.singular_values.square().flip(0)
    released = released_condition(values, features.shape[1])
    unit = features / features.square().mean().sqrt()
    unit_values = values / features.square().mean()
    released_unit = released_condition(unit_values, unit.shape[1])
    return {
        "rows": len(features),
        "dimension": features.shape[1],
        "rank": factor.rank,
        "rank_tolerance": factor.tolerance,
        "kappa": float(values[-1] / values[0]),
        "kappa_released": float(released.value),
        "kappa_released_floored": bool(released.floored),
        "kappa_released_unit": float(released_unit.value),
        "kappa_ridge": float(ridge_condition(values, factor.rank, ridge)),
        "ridge": ridge,
        "effective_rank": float(effective_rank(values)),
        "lambda_max": float(values[-1] / len(features)),
        "feature_rms": float(features.square().mean().sqrt()),
        "eigenvalues": values.cpu().numpy(),
    }


def group_condition(
    features: Tensor, groups: int, rows: int, key: tuple[Any, ...]
) -> dict[str, float]:
    """The paper's protocol: κ of FᵀF on groups of samples, averaged over the groups.

    A group of 100 samples has rank at most 100: over the whole space FᵀF is singular, and the
    released κ is its floor.

    Args:
        features: (N, D).
        groups: number of groups.
        rows: samples in each.
        key: of the draw, the same for all methods.
    """
    rows = min(rows, len(features))
    order = [torch.randperm(len(features), generator=seeded(*key, g))[:rows] for g in range(groups)]
    values = torch.linalg.svdvals(torch.stack([features[o.to(features.device)] for o in order]))
    squares = values.square()
    tolerance = relative_tolerance(rows, features.shape[1], torch.float64) ** 2
    there = squares > tolerance * squares[:, :1]
    smallest = torch.where(there, squares, torch.inf).amin(dim=1)
    released = released_condition(squares.flip(-1), features.shape[1])
    return {
        "kappa_groups": float((squares[:, 0] / smallest).mean()),
        "kappa_groups_released": float(released.value.mean()),
        "groups_floored": float(released.floored.double().mean()),
    }


def probe_hessian(
    features: Tensor,
    labels: Tensor,
    head: nn.Linear,
    parameters: dict[str, Any],
    key: tuple[Any, ...],
) -> dict[str, float]:
    """Largest eigenvalue, trace and κ of the softmax probe's Hessian at D_P's own head, for
    features of unit scale.

    κ is NaN where its smallest eigenvalue does not converge, or is round-off: a sure head has
    classes that it hardly ever confuses. (At a probe of zero, where training on D_H begins, the
    Hessian is (I/C − 11ᵀ/C²) ⊗ FᵀF/N, and κ that of FᵀF.)
    """
    rms = features.square().mean().sqrt()
    features = features[spread_rows(labels, parameters["probe_rows"])] / rms
    with torch.no_grad():
        weight, bias = head.weight.double(), head.bias.double()
        logits = nn.functional.linear(features * rms, weight, bias)
    answers = logits.softmax(dim=1)
    operator = softmax_probe_operator(features, answers)
    row = dict.fromkeys(("probe_kappa", "probe_largest", "probe_trace"), float("nan"))
    assert operator.trace is not None
    row["probe_trace"] = operator.trace
    budget = parameters["probe_products"]
    try:
        top = operator_eigenpairs(
            operator, generator=seeded(*key), tolerance=1e-4, max_products=budget
        )
        row["probe_largest"] = float(top.values[0])
        whole = softmax_probe_spectrum(
            features, answers, generator=seeded(*key), tolerance=1e-4, max_products=budget
        )
        row["probe_kappa"] = whole.condition
    except (NotConvergedError, ValueError):
        LOG.info("the softmax probe's smallest eigenvalue is not resolved")
    return row


def trainable_density(
    tail: Tail, head: nn.Linear, part: Activations, parameters: dict[str, Any], key: tuple[Any, ...]
) -> dict[str, Any]:
    """Density of the Hessian of D_P's loss on the tail, in float32."""
    rows = spread_rows(part.labels, parameters["density_rows"])
    model = Classifier(copy.deepcopy(tail).float(), copy.deepcopy(head).float()).eval()
    for parameter in model.body.parameters():
        parameter.requires_grad_(True)
    activations = next(iter(part.batches([rows])))
    operator = network_hessian(
        model,
        nn.functional.cross_entropy,
        [(activations, part.labels[rows])],
        parameters=["body"],
        check=False,
    )
    # Fused attention has no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        density = spectral_density(
            operator, generator=seeded(*key), vectors=1, steps=parameters["density_steps"]
        )
    return {
        "hessian_largest": density.largest,
        "hessian_smallest": density.smallest,
        "hessian_residual": density.largest_residual,
        "hessian_trace": density.trace().value,
        "hessian_parameters": density.dimension,
        "nodes": density.nodes[0].cpu().numpy(),
        "weights": density.weights[0].cpu().numpy(),
    }


def measure(
    subject: Subject,
    tail: Tail,
    head: nn.Linear,
    keys: dict[str, Any],
    parameters: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of both tables for one released network."""
    wide = copy.deepcopy(tail).double()
    rows = []
    for role, part in subject.parts.items():
        features = features_of(wide, part)
        draw = (keys["network"], role, "groups")
        row = feature_spectrum(features, parameters["ridge"])
        row |= group_condition(features, parameters["groups"], parameters["group_rows"], draw)
        if role == "P":
            row |= probe_hessian(features, part.labels, head, parameters, (*draw, "probe"))
        rows.append(keys | {"role": role} | row)
    answer = Classifier(tail, head)
    density = trainable_density(
        tail, head, subject.parts["P"], parameters, (keys["network"], "density")
    )
    density["accuracy_p"] = accuracy(answer, subject.test.in_order(), half=False)
    return pd.DataFrame(rows), pd.DataFrame([keys | density])


class Subjects:
    """Networks and their activations, those of one network at a time.

    Args:
        networks: files of the stage pretrain, by label.
        images: prepared images, by label.
        primary: label of D_P.
        third: labels of third tasks.
        parameters: of the stage.
        device: where to compute.
    """

    def __init__(
        self,
        networks: dict[str, str],
        images: dict[str, str],
        primary: str,
        third: list[str],
        parameters: dict[str, Any],
        device: str,
    ) -> None:
        self.networks, self.images, self.device = networks, images, device
        self.primary, self.third, self.parameters = primary, third, parameters
        self._sets: dict[str, ImageSet] = {}
        self._pretrained: Pretrained | None = None
        self._known: dict[tuple[str, str], Activations] = {}

    def pretrained(self, network: str) -> Pretrained:
        """θ₀; frees what was cached of another network."""
        if self._pretrained is None or self._pretrained.name != network:
            self._known.clear()
            self._pretrained = read_pretrained(self.networks[network], self.device)
        return self._pretrained

    def part(self, network: str, name: str, split: str) -> Activations:
        """The trunk's outputs for images of a part, evenly over its classes."""
        pretrained = self.pretrained(network)
        if (name, split) not in self._known:
            if name not in self._sets:
                self._sets[name] = ImageSet(self.images[name], self.device)
            store = self._sets[name].part(split)
            rows = self.parameters["rows" if split == "train" else "test_rows"]
            self._known[name, split] = Activations(
                pretrained.backbone, store, self._sets[name].size,
                rows=spread_rows(store.labels, rows),
            )  # fmt: skip
        return self._known[name, split]

    def unit(self, file: Immunized, seed: int) -> WorkUnit:
        """The measurement of one released network."""

        def run() -> tuple[pd.DataFrame, pd.DataFrame]:
            tail, head = file.of_seed(seed, self.pretrained(file.network), self.device)
            roles = {"P": self.primary, "H": file.harmful} | {name: name for name in self.third}
            subject = Subject(
                {role: self.part(file.network, name, "train") for role, name in roles.items()},
                self.part(file.network, self.primary, "test"),
            )
            keys = {
                "network": file.network, "harmful": file.harmful, "method": file.method,
                "seed": seed, "code": file.code,
            }  # fmt: skip
            return measure(subject, tail, head, keys, self.parameters)

        key = [file.network, file.harmful, file.method, seed, content_hash(file.path)]
        return WorkUnit({"subject": key}, run)


def run(stage: Stage) -> None:
    """The stage: every method, network, D_H and seed."""
    config, paths = stage.config, stage.paths
    parameters, exact = config["spectrum"], config["deterministic"]
    device = stage.device()
    prepare_device(device, stage.threads, deterministic=exact)
    record = stage.record(
        parameters | rounding_record(device, stage.threads), "spectra", device=device
    )
    images = {name: paths.images(name) for name in paths.datasets}
    networks = {name: paths.pretrained(name) for name in paths.networks}
    primary, third = config["primary"], config["third_tasks"]
    subjects = Subjects(networks, images, primary, third, parameters, device)
    files = [Immunized.open(path) for path in paths.all_immunized()]
    units = [
        subjects.unit(file, seed)
        for network in networks
        for file in files
        if file.network == network
        for seed in file.seeds
    ]
    contents = [content_hash(path) for path in (*networks.values(), *images.values())]
    base = [essence(record), device, exact, primary, third, contents]
    frames_of_units = run_units(units, stage.progress, base, 1, TABLES)
    frames = [
        pd.concat([both[place] for both in frames_of_units], ignore_index=True)
        for place in range(2)
    ]
    write_tables([paths.spectra, paths.densities], frames, record)
