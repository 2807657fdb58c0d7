"""Every component fits the protocol of its kind."""

import inspect

import pytest

from immunization.linear import contracts as linear
from immunization.networks import contracts as networks
from immunization.reporting import contracts as reporting
from immunization.study.components import FOLDERS, components, import_component

PROTOCOLS = {
    "linear/datasets": linear.DatasetComponent,
    "linear/methods": linear.MethodComponent,
    "linear/attacks": linear.AttackerComponent,
    "networks/datasets": networks.DatasetComponent,
    "networks/backbones": networks.BackboneComponent,
    "networks/methods": networks.MethodComponent,
    "networks/attacks": networks.AttackerComponent,
} | {f"{wing}/{kind}": protocol for wing in ("linear", "networks") for kind, protocol in (
    ("tables", reporting.TableComponent), ("figures", reporting.FigureComponent))}  # fmt: skip
TRAITS = {
    "linear/attacks": {"EIGENBASIS", "GRID", "ROWS", "PREDICTS"},
    "networks/attacks": {"IMAGES", "MIRRORS", "CONTROL"},
    "linear/tables": {"REPORT"},
    "networks/tables": {"REPORT"},
}
"""Literals that the program reads; a file that spells one otherwise would pass for one without."""


def test_every_kind_of_component_has_a_protocol():
    assert set(PROTOCOLS) == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_component_declares_what_its_protocol_says(folder):
    for name, component in components(folder).items():
        module, protocol = import_component(folder, name), PROTOCOLS[folder]
        if component.traits.get("PREDICTS"):
            protocol = linear.PredictorComponent
        for literal in inspect.get_annotations(protocol):
            assert literal in component.traits, (component.path, literal)
        for function, wanted in vars(protocol).items():
            if inspect.isfunction(wanted) and not function.startswith("_"):
                own = list(inspect.signature(getattr(module, function)).parameters)
                known = list(inspect.signature(wanted).parameters)[1:]
                if folder.endswith("figures"):  # a data set, or a network and D_H
                    own, known = own[:1], known[:1]
                assert own == known, (component.path, function)


@pytest.mark.parametrize("folder", TRAITS)
def test_literals_that_the_program_reads_are_spelt_right(folder):
    """Near misses, such as MIRROR for MIRRORS, would be ignored in silence."""
    import difflib

    for component in components(folder).values():
        for trait in component.traits.keys() - TRAITS[folder]:
            assert not difflib.get_close_matches(trait, TRAITS[folder], cutoff=0.85), (
                component.path, trait,
            )  # fmt: skip
