"""One network of every family of timm, cut by `use: timm`; docs/networks.md says which are not."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "test_", "atto", "femto", "nano", "pico", "_xxs", "xxsmall", "_xs", "tiny", "_t", "mini", "_s0",
    "_b0", "_0", "small", "_s", "18", "26", "lite", "x0", "050", "b1", "_m",
)  # fmt: skip
"""Parts of names, of the smallest networks first."""


def smallest(names):
    """The network of a family that is likely the smallest, by its name."""
    ranks = {name: next((i for i, part in enumerate(SMALL) if part in name), 99) for name in names}
    return min(sorted(names), key=lambda name: (ranks[name], len(name)))


@pytest.mark.slow
def test_every_family_that_the_guide_does_not_name_is_cut():
    from immunization.networks.backbones import timm as family
    from immunization.networks.optional_packages import require
    from immunization.runtime.errors import UserError
    from immunization.study.components import component

    timm = require("timm")
    guide = (ROOT / "docs" / "networks.md").read_text().split("## Networks of timm")[1]
    named = set(re.findall(r"\w+", guide.split("| --- | --- |")[1])) | {"vision_transformer"}
    rules = component("networks/backbones", "timm").parameters
    defaults = {key: rule.get("default") for key, rule in rules.items()}
    lost = {}
    cut = 0
    for module in sorted(set(timm.list_modules()) - named):
        names = timm.list_models(module=module)
        if not names:
            continue
        name = smallest(names)
        size = timm.get_pretrained_cfg(name).input_size[-1]
        try:
            family.build(defaults | {"name": name}, size)
            cut += 1
        except UserError as error:
            lost[module] = str(error)
    assert not lost
    assert cut >= 75
