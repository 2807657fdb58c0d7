"""A layer or network of a study as files for others: weights, a card, and a check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from immunization import __version__
from immunization.api.extractor import Extractor
from immunization.api.study import StudyResults
from immunization.linear.files import load_task_set
from immunization.networks.files import Immunized, Pretrained, read_pretrained
from immunization.networks.image_store import ImageSet
from immunization.networks.own_names import OwnNames, names_of
from immunization.reporting.text import format_number, markdown
from immunization.runtime.errors import UserError
from immunization.runtime.files.atomic import atomic
from immunization.study.components import component, import_component

CHECKED = 16
"""Inputs that are stored with what the layer makes of them."""

CARD = """# {title}

{what}

| | |
| --- | --- |
{facts}

## Load it

```python
{snippet}
```

## What it withstands

{verdicts}
## Limits

{limits}
"""

LAYER_SNIPPET = """import numpy as np
import immunization as im

layer = im.Extractor.load({name!r})
check = np.load({check!r})
outputs = layer.transform(check["inputs"]{role})
assert np.abs(outputs - check["outputs"]).max() <= 1e-9 * np.abs(check["outputs"]).max()
module = layer.to_module({module_role})   # torch.nn.Linear, scaling included"""


def export_layer(
    study: StudyResults, method: str, dataset: str, pair: Any, seed: int | None, out: Path
) -> list[Path]:
    """Write a layer of a linear study, its card and its check.

    Returns:
        The layer, the card (OUT.md) and the check (OUT.check.npz).

    Raises:
        UserError: as `StudyResults.extractor` and `Extractor.save`.
    """
    layer = study.extractor(method, dataset, pair=pair, seed=seed)
    # Rows as the study holds them: images as they came, others after their scaling, undone here.
    inputs = raw_inputs(study, dataset, layer)
    role = "benign" if layer.scaler.kind == "within" else None
    check = out.with_name(f"{out.stem}.check.npz")
    card = out.with_name(f"{out.stem}.md")
    layer.save(out)
    outputs = layer.transform(inputs, role)
    with atomic(check, sealed=False) as draft, draft.open("wb") as file:
        np.savez(file, inputs=inputs, outputs=outputs)
    facts = {
        "made by": f"method `{method}` ({layer.record['method']}), immunization "
        f"{layer.record['immunization']}, code {layer.record['code']}, commit "
        f"{layer.record['commit']}",
        "parameters": ", ".join(f"{k}: {v}" for k, v in layer.record["parameters"].items()),
        "benign task, harmful task": " and ".join(map(str, layer.record["pair"])),
        "data set, seed": f"{dataset}, {layer.record['seed']}",
        "features": f"{layer.width}, scaled first: {layer.scaler.kind}",
    }
    said = f"role={role!r}" if role else ""
    snippet = LAYER_SNIPPET.format(
        name=out.name, check=check.name, role=f", {said}" if said else "", module_role=said
    )
    if layer.singular:
        undone = "The layer has lost directions on purpose; who can leave it out has them back."
    else:
        undone = (
            "The layer is invertible: who leaves it out, inverts it, or solves for a probe in "
            "double precision is not held up."
        )
    write_card(
        card,
        title=f"Linear layer: {method} on {dataset}",
        what="To be put behind the features of a model before it is released. What it does to both "
        "condition numbers, and to attackers, stands below.",
        facts=facts,
        snippet=snippet,
        verdicts=verdicts(study, method, dataset),
        limits=[
            "Condition numbers are those of a squared-loss probe behind this layer, on features of "
            "the same model at the same place.",
            undone,
        ],
    )
    return [out, card, check]


def write_card(
    path: Path, *, title: str, what: str, facts: dict[str, str], snippet: str, verdicts: str,
    limits: list[str],
) -> None:  # fmt: skip
    """A model card in Markdown, without a seal, for a folder of the user's."""
    text = CARD.format(
        title=title,
        what=what,
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        snippet=snippet,
        verdicts=verdicts,
        limits="\n".join(f"- {limit}" for limit in limits),
    )
    with atomic(path, sealed=False) as draft:
        draft.write_text(text, encoding="utf-8")


def raw_inputs(study: StudyResults, dataset: str, layer: Extractor) -> np.ndarray:
    """A few inputs as `transform` takes them."""
    tasks = load_task_set(study.tasks_file(dataset))
    kept = tasks.inputs[:CHECKED].to(torch.float64)
    scaled = tasks.info.get("scale", "none") != "none"
    scale = layer.scaler.of(0)
    if scaled and scale.mean is not None and scale.deviation is not None:
        kept = kept * scale.deviation + scale.mean
    return kept.numpy()


def verdicts(study: StudyResults, method: str, dataset: str) -> str:
    """Ratios and verdicts of a method on a data set, as a Markdown table."""
    ratios = study.tables["ratios"]
    row = ratios[(ratios["dataset"] == dataset) & (ratios["method"] == method)].iloc[0]
    resisted = study.tables["resistance"]
    mine = resisted[(resisted["dataset"] == dataset) & (resisted["method"] == method)]
    text = (
        f"Over all pairs and seeds of the study: RIR {format_number(row['rir_mean'])} (median "
        f"{format_number(row['rir_median'])}), harmful κ × {format_number(row['ratio_i_mean'])}, "
        f"benign κ × {format_number(row['ratio_ii_mean'])}.\n\n"
    )
    table = pd.DataFrame(
        {
            "attackers": [f"linear probes, {loss} loss" for loss in mine["loss"]],
            "slowdown S": [
                ("≥ " if bound else "") + format_number(s)
                for s, bound in zip(
                    mine["slowdown"], mine["slowdown_is_lower_bound"].astype(bool), strict=True
                )
            ],
            "verdict": mine["verdict"].fillna("").tolist(),
        }
    )
    return text + markdown(table)


def export_network(
    study: StudyResults, method: str, network: str, harmful: str, seed: int | None, out: Path
) -> list[Path]:
    """Write a whole immunized network under its author's names, its card and its check.

    Returns:
        The state dict, the card (OUT.md) and the check (OUT.check.safetensors): normalised images
        and the logits that the study's own network gives for them.

    Raises:
        UserError: for what the study has not, or another suffix.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: the suffix is .safetensors.")
    paths = study.network_files(method, network, harmful)
    seed = study.config["seeds"][0] if seed is None else seed
    pretrained = read_pretrained(paths["pretrained"], "cpu")
    about = pretrained.metadata
    own, names = own_names(about)
    tail, new_head = Immunized.open(paths["immunized"]).of_seed(seed, pretrained, "cpu")
    state = own.state(pretrained.backbone, tail, new_head)
    images = ImageSet(paths["images"]).test
    first = next(iter(images.batches([torch.arange(min(CHECKED, len(images)))])))
    inputs = pretrained.backbone.normalised(first[..., : about["size"], : about["size"]])
    with torch.no_grad():
        features = tail(pretrained.backbone.trunk(inputs))
        logits = new_head(features.to(new_head.weight.dtype))
    check, card = (out.with_name(f"{out.stem}{end}") for end in (".check.safetensors", ".md"))
    checked = {"inputs": inputs.contiguous(), "logits": logits.contiguous()}
    for path, tensors in ((out, state), (check, checked)):
        with atomic(path, sealed=False) as draft:
            save_file(tensors, draft)
    layered = f"{own.head}.layer.weight" in state
    limits = [
        "Verdicts hold for the attackers of the study, which fine-tuned this network on the images "
        "of the harmful task, and for their budgets.",
        "They do not bind whoever has other weights of the same model, or more data and steps.",
    ]
    if layered:
        limits.append("Whoever has the weights can leave the added layer out; it is no protection.")
    write_card(
        card,
        title=f"Network: {network}, {method} against {harmful}",
        what="The whole network under its author's names, with the weights that the method gave.",
        facts=network_facts(study, pretrained, method, harmful) | {"seed": str(seed)},
        snippet=network_snippet(
            about, own.head, out.name, check.name, layered=layered,
            whole=layered or state.keys() == names,
        ),
        verdicts=network_verdicts(study, method, network, harmful),
        limits=limits,
    )  # fmt: skip
    return [out, card, check]


def own_names(about: dict[str, Any]) -> tuple[OwnNames, set[str]]:
    """Names of a network's parts in the whole, and all names that the whole has.

    Args:
        about: what a file of the stage pretrain says of itself.

    Raises:
        UserError: for a family that does not say what its networks were before they were cut.
    """
    family = import_component("networks/backbones", about["use"])
    for name in ("original", "parts"):
        if not hasattr(family, name):
            raise UserError(
                f"{component('networks/backbones', about['use']).path}: has no `{name}`, which "
                "says what the network was before it was cut; `module.py` shows both."
            )
    parameters, size = about["parameters"] | {"weights": "pretrain"}, about["size"]
    model = family.original(parameters, size)
    before, names = names_of(model), set(model.state_dict())  # some families take it apart
    return OwnNames.of(before, *family.parts(model, parameters, size)), names


def network_facts(
    study: StudyResults, pretrained: Pretrained, method: str, harmful: str
) -> dict[str, str]:
    """What a card says of how a network came about."""
    about, entry = pretrained.metadata, study.config["methods"][method]
    mean, std = (
        ", ".join(f"{v:.6g}" for v in values.flatten().tolist())
        for values in (pretrained.backbone.mean, pretrained.backbone.std)
    )
    parameters = entry["parameters"][about["network"]]
    return {
        "made by": f"method `{method}` ({entry['use']}), immunization {__version__}",
        "parameters": ", ".join(f"{k}: {v}" for k, v in parameters.items()),
        "benign task, harmful task": f"{study.config['primary']} and {harmful}",
        "network": f"{about['network']} ({about['use']})",
        "images": f"{about['size']} pixels a side; (x/255 − mean)/std, mean {mean}, std {std}",
        "accuracy before, on held-out benign images": f"{100 * about['accuracy']:.1f} %",
    }


def network_snippet(
    about: dict[str, Any], head: str, name: str, check: str, *, layered: bool, whole: bool
) -> str:
    """Code that loads the state and reproduces the logits."""
    parameters, use = about["parameters"], about["use"]
    arguments = "".join(f", {k}={v!r}" for k, v in parameters["arguments"].items())
    imports = ["import torch", "from safetensors.torch import load_file"]
    if layered:
        imports.append("from immunization.networks.own_names import insert_layer")
    if use == "module":
        place, _, function = parameters["module"].partition(":")
        module = place.removesuffix(".py").replace("/", ".")
        imports.append(f"from {module} import {function}")
        lines = [f"model = {function}({arguments[2:]})"]
    else:
        imports.insert(0, "import timm")
        if use == "vit":
            arguments += f", img_size={about['size']}"
        if "num_classes" not in parameters["arguments"]:
            arguments += f", num_classes={about['classes']}"
        lines = [f"model = timm.create_model({parameters['name']!r}{arguments})"]
        if parameters.get("stem") == "small":
            lines += [
                "width = model.bn1.num_features",
                "model.conv1 = torch.nn.Conv2d(3, width, 3, padding=1, bias=False)",
                "model.maxpool = torch.nn.Identity()",
            ]
    if layered:
        lines.append(f"insert_layer(model, {head!r})")
    lines = [
        *imports,
        "",
        *lines,
        f"model.load_state_dict(load_file({name!r}){'' if whole else ', strict=False'})",
        "model.eval()",
        f"check = load_file({check!r})",
        "with torch.no_grad():",
        '    logits = model(check["inputs"])',
        'assert torch.allclose(logits.double(), check["logits"].double(), rtol=1e-3, atol=1e-4)',
    ]
    return "\n".join(lines)


def network_verdicts(study: StudyResults, method: str, network: str, harmful: str) -> str:
    """Verdicts of a method on a network, as a Markdown table."""
    table = study.tables["resistance"]
    for column, value in (("network", network), ("harmful", harmful), ("method", method)):
        if column in table:
            table = table[table[column] == value]
    bound = table.get("slowdown_is_lower_bound", pd.Series(False, table.index)).astype(bool)
    shown = pd.DataFrame(
        {
            "attackers": table["attacker_kind"],
            "slowdown S": [
                ("≥ " if open_ else "") + format_number(value)
                for value, open_ in zip(table["slowdown"], bound, strict=True)
            ],
            "verdict": table["verdict"].fillna(""),
        }
    )
    return markdown(shown)
