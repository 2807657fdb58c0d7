"""Config files read as plain data: no code is run, and nothing is read as what it is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from immunization.runtime.errors import UserError
from immunization.study.validation import NUMBER


class OddYaml(Exception):
    """What YAML allows and reads as something else than it looks like."""


class Plain(yaml.SafeLoader):
    """YAML's safe loader, which refuses what it would read in silence as something else, and what
    would unfold into more than `MOST_VALUES`."""

    def get_single_node(self) -> yaml.Node | None:
        """The document, not yet made into values."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _unfolded(node, {}, ())
        return node

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        """Text that is meant as text: a config's 1e-3 is text to YAML, and a number to us."""
        if node.style in ("'", '"') and NUMBER.fullmatch(node.value):
            raise OddYaml(
                f"line {node.start_mark.line + 1}: {node.value!r} stands in quotes, as text does, "
                "and would be taken for a number. Take the quotes away."
            )
        return str(super().construct_yaml_str(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text, each of them once."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.tag in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"):
                raise OddYaml(
                    f"line {line}: the key {key.value!r} is {key.tag.rsplit(':', 1)[1]} to YAML. "
                    "Put it in quotes."
                )
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise OddYaml(
                    f"line {line}: the key {key.value!r} stands in line {seen[key.value]} too, and "
                    "only the last would count. Remove one."
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number that looks like what it is."""
        text = str(node.value)
        line = node.start_mark.line + 1
        if re.fullmatch(r"[-+]?0[0-7_]+", text):
            raise OddYaml(
                f"line {line}: {text} is octal to YAML, {int(text.replace('_', ''), 8)}. Write the "
                "number without leading zeros, or put text in quotes."
            )
        if ":" in text:
            raise OddYaml(
                f"line {line}: {text} is a number of base 60 to YAML. Put text in quotes."
            )
        if len(text) > 100:  # Python itself refuses to write out some thousand digits
            raise OddYaml(f"line {line}: {text[:20]}… is too large for a whole number.")
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number that looks like what it is."""
        if ":" in str(node.value):
            raise OddYaml(
                f"line {node.start_mark.line + 1}: {node.value} is a number of base 60 to YAML. "
                "Put text in quotes."
            )
        return float(super().construct_yaml_float(node))


MOST_BYTES = 2**18
"""Of a config file; one of a thousand methods has a third of it, and YAML is read slowly."""


MOST_VALUES = 100_000
"""That a config may unfold into: aliases of aliases make billions of a few lines."""


DEEPEST = 30
"""Levels of a config; a study has seven."""


def _unfolded(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node has with its aliases written out.

    Raises:
        OddYaml: for too many, for one that holds itself, and for too many levels.
    """
    where = f"line {node.start_mark.line + 1}"
    if id(node) in above:
        raise OddYaml(f"{where}: this part holds itself. Write it out.")
    if len(above) > DEEPEST:
        raise OddYaml(f"{where}: more than {DEEPEST} levels. A study has seven.")
    if id(node) not in known:
        items: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            items = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            items = node.value
        count = 1 + sum(_unfolded(item, known, (*above, id(node))) for item in items)
        if count > MOST_VALUES:
            raise OddYaml(
                f"{where}: stands for more than {MOST_VALUES:,} values, aliases written out."
            )
        known[id(node)] = count
    return known[id(node)]


def load(path: Path) -> dict[str, Any]:
    """A config file as plain data.

    Raises:
        UserError: when it is missing, malformed, or would make Snakemake run code.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and read but once
            raise UserError(f"{path}: is no file. A config is one.")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise UserError(f"{path}: more than {MOST_BYTES:,} bytes, too large for a config.")
        loader = Plain(text.decode("utf-8"))
        try:
            raw = loader.get_single_data()
        finally:
            loader.dispose()
    except OddYaml as error:
        raise UserError(f"{path}, {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from error
    except RecursionError:
        raise UserError(f"{path}: more than {DEEPEST} levels. A study has seven.") from None
    except (yaml.YAMLError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: not plain YAML ({reason}). Tags such as !!python/name are refused: they name "
            "code."
        ) from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a config maps keys to values; this holds {type(raw).__name__}.")
    if "__use_yte__" in raw:
        raise UserError(
            f"{path}: the key __use_yte__ makes Snakemake run the Python in this file. Studies are "
            "plain data: write the values out, or use `sweep`. Look at files of others with "
            "`immunization check` first."
        )
    return raw


def merged(paths: list[Path]) -> dict[str, Any]:
    """Several config files, laid over each other as Snakemake does."""

    def lay(under: dict[str, Any], over: dict[str, Any]) -> None:
        for key, value in over.items():
            if isinstance(value, dict) and isinstance(under.get(key), dict):
                lay(under[key], value)
            else:
                under[key] = value

    config: dict[str, Any] = {}
    for path in paths:
        lay(config, load(path))
    return config
