"""Check a study's config and fill in every default, with messages for people.

Needs no torch: the Snakefile imports it. There are two kinds of study, linear ones and studies of
networks, which have a key `networks`. The top level of each is described by a file in
`schemas/`; what a data set, method, attacker or figure may be told stands in its own
file (see `immunization.study.components`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from immunization.runtime.errors import UserError
from immunization.runtime.spelling import near_spelling
from immunization.study.components import (
    code_allowed,
    component,
    components,
    is_path,
    needs_permission,
)
from immunization.study.derived import sweep_members
from immunization.study.kinds import LINEAR, StudyKind, kind_of, schema
from immunization.study.semantics import linear_semantics, network_semantics, stand_ins
from immunization.study.sweeps import expand_sweeps
from immunization.study.validation import (
    as_number,
    describe,
    expanded_path,
    fill_defaults,
    not_finite,
    schema_errors,
    unprintable,
)

LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
LONGEST = 100
"""Letters of a label: with suffixes, names of files stay within 255 bytes."""
FILES = {"path", "harmful_path", "labels", "harmful_labels", "weights"}
"""Parameters that may name a file of the user's, which is then an input of a rule."""
CODE = "module"
"""Parameter that names code, as package.file:function or file.py:function."""


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
    shape = kind_of(raw)
    study = copy.deepcopy(raw)
    for key in set(study) - set(shape.components):
        study[key] = as_number(study[key])
    for key, place in (study["data"] if isinstance(study.get("data"), dict) else {}).items():
        study["data"][key] = expanded_path(place)
    problems = list(unprintable(study))
    dropped = {}
    for kind in shape.components:
        entries = study.get(kind)
        if isinstance(entries, dict):
            dropped[kind] = {label for label, entry in entries.items() if entry is None}
            study[kind] = {k: entry for k, entry in entries.items() if entry is not None}
    problems += [f"  {describe(error)}" for error in schema_errors(schema(shape), study, path="")]
    problems += list(not_finite(study))
    if not problems:
        fill_defaults(schema(shape), study)
        study["sweeps"] = {}
        for kind, rule in shape.components.items():
            if rule.swept:
                problems += list(expand_sweeps(kind, study, rule.name_key))
        for kind in shape.components:
            problems += list(_components(kind, study, dropped.get(shape.override_by, set()), shape))
    if not problems:
        if shape is LINEAR:
            stand_ins(study)
        problems += list(linear_semantics(study) if shape is LINEAR else network_semantics(study))
    if problems:
        raise UserError("the config is not right:\n" + "\n".join(problems))
    return study


def _components(
    kind: str, study: dict[str, Any], dropped: set[str], shape: StudyKind
) -> Iterator[str]:
    """Check and complete every entry of one kind; yields what is wrong."""
    rules = shape.components[kind]
    available = components(rules.folder)
    singular, choice = rules.singular, rules.name_key
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
        if kind == "networks" and "module" in entry:
            entry.setdefault(choice, "module")
        name = entry.setdefault(choice, label)
        if isinstance(name, str) and is_path(name):
            name = entry[choice] = expanded_path(name)
            if not code_allowed():
                yield f"  {where}.{choice}: {needs_permission(name)}"
                continue
        elif not isinstance(name, str) or name not in available:
            yield (
                f"  {where}: no {singular} named "
                f"'{name}'{near_spelling(str(name), list(available))}. There are: "
                f"{', '.join(available)}. Files in src/immunization/{rules.folder}/ add more."
            )
            continue
        try:
            parameters = component(rules.folder, name).parameters
        except UserError as error:
            yield f"  {where}.{choice}: {error}"
            continue
        for key in entry:
            entry[key] = as_number(entry[key], parameters.get(key))
        rule = {
            "type": "object",
            "additionalProperties": False,
            "properties": parameters | rules.shared | {choice: {"type": "string"}},
            "required": [key for key, value in parameters.items() if "default" not in value],
        }
        wrong = [f"  {describe(error)}" for error in schema_errors(rule, entry, where)]
        wrong += not_finite(entry, where)
        yield from wrong
        if wrong:
            continue
        fill_defaults(rule, entry)
        if CODE in parameters and not code_allowed():
            yield f"  {where}.{CODE}: {needs_permission(entry[CODE])}"
        for key in FILES & entry.keys():
            entry[key] = expanded_path(entry[key])
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
    shape: StudyKind,
) -> Iterator[str]:
    """Turn a method's overrides into parameters for each data set, or network.

    Those of one that an overlay removed are left out with it.
    """
    over = shape.override_by
    given = method.pop("overrides")
    overrides = {
        member: values
        for label, values in given.items()
        if values is not None and label not in dropped
        for member in sweep_members(study, over, label)
    }
    rule = {"type": "object", "additionalProperties": False, "properties": parameters}
    wrong = []
    for dataset, values in overrides.items():
        if dataset not in study[over]:
            known = list(study[over])
            what = "network" if over == "networks" else "data set"
            wrong.append(
                f"  {where}.overrides: no {what} '{dataset}'{near_spelling(dataset, known)}."
            )
        path = f"{where}.overrides.{dataset}"
        wrong += [f"  {describe(error)}" for error in schema_errors(rule, values, path)]
        wrong += not_finite(values, path)
    yield from wrong
    if not wrong:
        method["parameters"] = {
            dataset: method["parameters"] | overrides.get(dataset, {}) for dataset in study[over]
        }
