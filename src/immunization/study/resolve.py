"""Check a study's config and fill in every default, with messages for people.

Needs no torch: the Snakefile imports it. There are two shapes of study, linear ones and studies of
networks, which have a key `networks`. The top level of each is described by a file in
``workflow/schemas/``; what a data set, method, attacker or figure may be told stands in its own
file (see `immunization.registry`).
"""

from __future__ import annotations

import copy
import difflib
import itertools
import math
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from immunization.errors import UserError
from immunization.registry import components
from immunization.shapes import LINEAR, Shape, schema, shape_of

LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
LARGEST = 2**63 - 1
"""What a whole number of 64 bits holds."""
LONGEST = 100
"""Letters of a label: with suffixes, names of files stay within 255 bytes."""
FILES = {"path", "weights"}
"""Parameters that may name a file of the user's, which is then an input of a rule."""
MOST_MEMBERS = 10_000
"""That a sweep may stand for."""
ENGINES = ("simulated", "trained", "nonlinear")


def resolve(raw: dict[str, Any]) -> dict[str, Any]:
    """The study that a config asks for: checked, complete, and without shorthand.

    Args:
        raw: what the YAML files say, merged. A component set to null is left out, so that an
            overlay can remove it.

    Returns:
        The config with every default filled in. Each method carries ``parameters`` for every
        data set (or network), overrides applied.

    Raises:
        UserError: naming every key that is wrong, what is allowed, and near spellings.
    """
    shape = shape_of(raw)
    study = copy.deepcopy(raw)
    for key in set(study) - set(shape.kinds):
        study[key] = _number(study[key])
    for key, place in (study["data"] if isinstance(study.get("data"), dict) else {}).items():
        study["data"][key] = _expanded(place)
    problems = list(_unprintable(study))
    dropped = {}
    for kind in shape.kinds:
        entries = study.get(kind)
        if isinstance(entries, dict):
            dropped[kind] = {label for label, entry in entries.items() if entry is None}
            study[kind] = {k: entry for k, entry in entries.items() if entry is not None}
    problems += [f"  {_describe(error)}" for error in _errors(schema(shape), study, path="")]
    problems += list(_not_finite(study))
    if not problems:
        _fill(schema(shape), study)
        study["sweeps"] = {}
        for kind, rule in shape.kinds.items():
            if rule.swept:
                problems += list(_sweeps(kind, study, rule.choice))
        for kind in shape.kinds:
            problems += list(_components(kind, study, dropped.get(shape.over, set()), shape))
    if not problems:
        if shape is LINEAR:
            _stand_ins(study)
        problems += list(_semantics(study) if shape is LINEAR else _roles(study))
    if problems:
        raise UserError("the config is not right:\n" + "\n".join(problems))
    return study


def _number(value: Any, rule: dict[str, Any] | None = None) -> Any:
    """YAML reads ``1e-3`` as text; people mean the number. ``1e2`` steps are 100, not 100.0.

    Where a rule asks for text, text stays.
    """
    if isinstance(value, dict):
        return {key: _number(item) for key, item in value.items()}
    if isinstance(value, list) and (rule or {}).get("type") != "array":
        return [_number(item) for item in value]
    if (rule or {}).get("type") == "string":
        return value
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST:
        return int(value)
    return value


def _expanded(path: Any) -> Any:
    """A path with ``~`` written out."""
    if not isinstance(path, str) or not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # a user whom this machine does not know
        return path


def _unprintable(value: Any, path: str = "") -> Iterator[str]:
    """Names and values with line breaks and other control characters."""
    if isinstance(value, dict):
        for key, item in value.items():
            where = f"{path}.{key}".lstrip(".")
            if isinstance(key, str) and not key.isprintable():
                yield f"  {where!r}: the name holds a line break or another control character."
            yield from _unprintable(item, where)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _unprintable(item, f"{path}.{place}")
    elif isinstance(value, str) and not value.isprintable():
        yield f"  {path}: {value!r} holds a line break or another control character."


def _not_finite(value: Any, path: str = "") -> Iterator[str]:
    """Numbers that no rule of a schema catches."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _not_finite(item, f"{path}.{place}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"  {path}: {value} is not a finite number."
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield f"  {path}: {str(value)[:20]}… is too large for a whole number; 2⁶³ is the limit."
    elif isinstance(value, date):
        yield f"  {path}: {value} is a date to YAML. Put it in quotes."


# A float that has no fraction is a whole number to JSON Schema; `_number` has made those whole that
# fit 64 bits.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def _errors(schema_: dict[str, Any], instance: Any, path: str) -> Iterator[ValidationError]:
    for error in sorted(_Validator(schema_).iter_errors(instance), key=str):
        error.where = ".".join([*filter(None, [path]), *map(str, error.absolute_path)])
        yield error


def _describe(error: ValidationError) -> str:
    """One line: the key, the value, the rule, and a hint."""
    where = error.where or "top level"
    value = error.instance
    shown = repr(value) if len(repr(value)) <= 120 else f"{repr(value)[:120]}…"
    rule = error.validator_value
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(value) - set(known), key=str)
        hints = "; ".join(f"'{name}'{_near(name, known)}" for name in unknown)
        return f"{where}: unknown key {hints}. Known keys: {', '.join(known) or 'none'}."
    if error.validator == "required":
        missing = [name for name in rule if name not in value]
        return f"{where}: missing key {', '.join(map(repr, missing))}."
    allowed = list(map(str, rule)) if isinstance(rule, list) else [str(rule)]
    words = {
        "exclusiveMinimum": f"must be greater than {rule}",
        "minimum": f"must be at least {rule}",
        "maximum": f"must be at most {rule}",
        "exclusiveMaximum": f"must be less than {rule}",
        "enum": f"must be one of {', '.join(allowed)}",
        "type": f"must be of type {' or '.join(allowed)}",
        "pattern": "must start with a letter or digit and hold letters, digits and '_' only",
        "maxLength": f"must have at most {rule} letters",
        "minItems": f"needs at least {rule} entries",
        "uniqueItems": "must not repeat entries",
        "minProperties": f"needs at least {rule} entries",
        "oneOf": "fits none of the allowed forms",
    }.get(str(error.validator), error.message)
    about = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    return f"{where}: {shown} {words}.{' It is: ' + about if about else ''}"


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _fill(schema_: dict[str, Any], instance: dict[str, Any]) -> None:
    """Fill defaults of an object's schema, deeply."""
    for name, rule in schema_.get("properties", {}).items():
        if "default" in rule:
            instance.setdefault(name, copy.deepcopy(rule["default"]))
        if isinstance(instance.get(name), dict) and "properties" in rule:
            _fill(rule, instance[name])


def swept_label(label: str, values: dict[str, Any]) -> str:
    """Label of one member of a sweep, such as ``alg1_eta_0p005``: a dot is p and a minus m."""
    parts = [label]
    for name, value in values.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if value is None:
            text = "default"  # which null stands for
        parts += [name, re.sub(r"[^A-Za-z0-9_]", "", text.replace(".", "p").replace("-", "m"))]
    return "_".join(parts)


def _sweeps(kind: str, study: dict[str, Any], choice: str) -> Iterator[str]:
    """Put the members of every sweep in its place; yields what is wrong.

    ``sweep: {eta: [0.01, 0.1], balance: [1, 2]}`` stands for four entries with these parameters.
    """
    entries: dict[str, Any] = {}
    for label, entry in study[kind].items():
        sweep = entry.get("sweep") if isinstance(entry, dict) else None
        if sweep is None:
            entries[label] = entry
            continue
        where = f"{kind}.{label}.sweep"
        lists = isinstance(sweep, dict) and all(isinstance(v, list) and v for v in sweep.values())
        if not (lists and sweep):
            yield f"  {where}: {sweep!r} must map parameters to lists, none of them empty."
            continue
        if label == "identity":
            yield f"  {where}: `identity` is what slowdowns are taken against; leave it as it is."
            continue
        if label in study["sweeps"]:
            yield f"  {where}: another sweep is called '{label}'; labels of sweeps differ."
        count = math.prod(len(values) for values in sweep.values())
        if count > MOST_MEMBERS:
            yield f"  {where}: stands for {count:,} entries; {MOST_MEMBERS:,} are the most."
            continue
        rest = {key: value for key, value in entry.items() if key != "sweep"}
        rest.setdefault(choice, label)
        values = [[_number(value) for value in given] for given in sweep.values()]
        members = {}
        for chosen in itertools.product(*values):
            given = dict(zip(sweep, chosen, strict=True))
            member = swept_label(label, given)
            if member in members or member in entries or member in study[kind]:
                yield f"  {where}: two entries would be called '{member}'."
            members[member] = given
            entries[member] = copy.deepcopy(rest) | given
        study["sweeps"][label] = {"kind": kind, "parameters": list(sweep), "members": members}
    study[kind] = entries


def _members(study: dict[str, Any], kind: str, label: str) -> list[str]:
    """The labels that a label of the config stands for: itself, or the members of its sweep."""
    sweep = study["sweeps"].get(label)
    return list(sweep["members"]) if sweep and sweep["kind"] == kind else [label]


def _components(kind: str, study: dict[str, Any], dropped: set[str], shape: Shape) -> Iterator[str]:
    """Check and complete every entry of one kind; yields what is wrong."""
    rules = shape.kinds[kind]
    available = components(rules.folder)
    singular, choice = rules.singular, rules.choice
    folded: dict[str, str] = {}
    for label, entry in study[kind].items():
        where = f"{kind}.{label}"
        if not isinstance(label, str) or not LABEL.fullmatch(label):
            yield f"  {where}: a label starts with a letter and holds letters, digits and '_' only."
            continue
        if len(label) > LONGEST:
            yield f"  {where}: a label has at most {LONGEST} letters, for it names files."
            continue
        twin = folded.setdefault(label.lower(), label)
        if twin != label:
            yield (
                f"  {where}: differs from '{twin}' in capitals alone, and some disks take their "
                "files for the same. Rename one."
            )
            continue
        if not isinstance(entry, dict):
            yield f"  {where}: {entry!r} must be a mapping of parameters; {{}} for the defaults."
            continue
        name = entry.setdefault(choice, label)
        if not isinstance(name, str) or name not in available:
            yield (
                f"  {where}: no {singular} named '{name}'{_near(str(name), list(available))}. "
                f"There are: {', '.join(available)}. Files in src/immunization/{rules.folder}/ "
                "add more."
            )
            continue
        parameters = available[name].parameters
        for key in entry:
            entry[key] = _number(entry[key], parameters.get(key))
        rule = {
            "type": "object",
            "additionalProperties": False,
            "properties": parameters | rules.shared | {choice: {"type": "string"}},
            "required": [key for key, value in parameters.items() if "default" not in value],
        }
        wrong = [f"  {_describe(error)}" for error in _errors(rule, entry, where)]
        wrong += _not_finite(entry, where)
        yield from wrong
        if wrong:
            continue
        _fill(rule, entry)
        for key in FILES & entry.keys():
            entry[key] = _expanded(entry[key])
            if isinstance(entry[key], str) and re.search(r"[{}\x00-\x1f]", entry[key]):
                yield (
                    f"  {where}.{key}: {entry[key]!r} holds braces or control characters, which "
                    "Snakemake takes for its own. Rename the file, or link to it."
                )
        for key in sorted(entry.keys() - FILES):
            for text in _texts(entry[key]):
                if re.search(r"[{}]", text):
                    yield (
                        f"  {where}.{key}: {text!r} holds braces, which Snakemake takes for its "
                        "own. Give it another name, in the file too."
                    )
        shared = {key: entry.pop(key) for key in rules.shared}
        chosen = entry.pop(choice)
        study[kind][label] = {choice: chosen, "parameters": dict(entry), **shared}
        if kind == "methods":
            yield from _overrides(where, study, study[kind][label], parameters, dropped, shape)


def _texts(value: Any) -> Iterator[str]:
    """All strings in a value of a config."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*_texts(key), *_texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _overrides(
    where: str,
    study: dict[str, Any],
    method: dict[str, Any],
    parameters: dict[str, Any],
    dropped: set[str],
    shape: Shape,
) -> Iterator[str]:
    """Turn a method's overrides into parameters for each data set, or network.

    Those of one that an overlay removed are left out with it.
    """
    over = shape.over
    given = method.pop("overrides")
    overrides = {
        member: values
        for label, values in given.items()
        if values is not None and label not in dropped
        for member in _members(study, over, label)
    }
    rule = {"type": "object", "additionalProperties": False, "properties": parameters}
    wrong = []
    for dataset, values in overrides.items():
        if dataset not in study[over]:
            known = list(study[over])
            what = "network" if over == "networks" else "data set"
            wrong.append(f"  {where}.overrides: no {what} '{dataset}'{_near(dataset, known)}.")
        path = f"{where}.overrides.{dataset}"
        wrong += [f"  {_describe(error)}" for error in _errors(rule, values, path)]
        wrong += _not_finite(values, path)
    yield from wrong
    if not wrong:
        method["parameters"] = {
            dataset: method["parameters"] | overrides.get(dataset, {}) for dataset in study[over]
        }


def _stand_ins(study: dict[str, Any]) -> None:
    """Which label stands for each method of the paper, where the config leaves it open."""
    for use in ("r_ill_only", "imma", "opt_kappa", "alg1"):
        chosen = study["replication"].setdefault(use, {})
        found: dict[str, str] = {}
        for label, method in study["methods"].items():
            if method["use"] == use:
                profiles = {p.get("profile") for p in method["parameters"].values()}
                for profile in ("released", "paper", "corrected"):
                    if profiles & {None, profile}:
                        found.setdefault(profile, label)
        for profile, label in found.items():
            chosen.setdefault(profile, label)


def _semantics(study: dict[str, Any]) -> Iterator[str]:
    """What a schema can't say."""
    if study["methods"].get("identity", {}).get("use") != "identity":
        yield "  methods: `identity: {}` is missing; every slowdown is taken against it."
    for label, figure in study["figures"].items():
        if isinstance(figure["datasets"], list):
            for name in figure["datasets"]:
                if _members(study, "datasets", name)[0] not in study["datasets"]:
                    known = [*study["datasets"], *study["sweeps"]]
                    yield f"  figures.{label}.datasets: no data set '{name}'{_near(name, known)}."
    for use, profiles in study["replication"].items():
        for profile, label in profiles.items():
            if label not in study["methods"]:
                known = list(study["methods"])
                yield f"  replication.{use}.{profile}: no method '{label}'{_near(label, known)}."


def _roles(study: dict[str, Any]) -> Iterator[str]:
    """What a schema can't say of a study of networks."""
    if study["methods"].get("identity", {}).get("use") != "identity":
        yield "  methods: `identity: {}` is missing; every ratio is taken against it."
    goals = study["attack"]
    if goals["lower_target"] >= goals["target"]:
        yield (
            f"  attack.lower_target: {goals['lower_target']:g} should be less than attack.target, "
            f"{goals['target']:g}."
        )
    known = list(study["images"])
    named = {"primary": [study["primary"]], "harmful": study["harmful"], "third": study["third"]}
    seen: dict[str, str] = {}
    for role, labels in named.items():
        for label in labels:
            if label not in known:
                yield f"  {role}: no image data set '{label}'{_near(label, known)}."
            if label in seen:
                yield f"  {role}: '{label}' is already {seen[label]}; one data set has one role."
            seen[label] = role


def figure_datasets(study: dict[str, Any], figure: str) -> list[str]:
    """Data sets that a figure of a resolved study is drawn for; the first member of a sweep stands
    for it."""
    wanted = study["figures"][figure]["datasets"]
    if isinstance(wanted, list):
        return [_members(study, "datasets", name)[0] for name in wanted]
    return [name for name in study["datasets"] if wanted == "all" or has_pairs(study, name)]


def engine(entry: dict[str, Any]) -> str:
    """Which of `ENGINES` runs an attacker of a resolved study."""
    traits = components("attacks")[entry["use"]].traits
    if traits.get("PREDICTS"):
        return "nonlinear"
    exact = traits.get("EIGENBASIS") and entry["parameters"]["loss"] == "squared"
    return "simulated" if exact else "trained"


def has_pairs(study: dict[str, Any], dataset: str) -> bool:
    """Whether a data set of a resolved study has many ordered pairs (for heat maps)."""
    parameters = study["datasets"][dataset]["parameters"]
    return parameters.get("pairs") == "all"
