"""The registry and the fingerprints that decide what reruns."""

import shutil
from pathlib import Path

import pytest

from immunization import fingerprint as module
from immunization.fingerprint import closure, fingerprint
from immunization.registry import components, load


def names(*modules):
    return {path.name for path in closure(*modules)}


def test_a_closure_holds_what_a_module_imports_and_no_other_component():
    files = names("immunization.immunize", "immunization.methods.optimum")
    assert {"immunize.py", "optimum.py", "tasks.py", "generalized.py"} <= files
    assert not {"alg1.py", "imma.py", "attack.py", "heat_map.py", "tables.py"} & files


def test_tables_figures_and_the_report_do_not_import_torch():
    import ast

    for stage in ("tables", "figure", "report", "figures.convergence", "figures.heat_map"):
        for path in closure(f"immunization.{stage}"):
            tree = ast.parse(path.read_text())
            top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
            imported = {alias.name for n in top if isinstance(n, ast.Import) for alias in n.names}
            imported |= {n.module for n in top if isinstance(n, ast.ImportFrom)}
            assert not {name for name in imported if name.split(".")[0] == "torch"}, path


def test_the_fingerprint_changes_with_the_source_of_an_import(tmp_path, monkeypatch):
    shutil.copytree(module.SOURCE, tmp_path / "src")
    monkeypatch.setattr(module, "SOURCE", tmp_path / "src")
    module._imports.cache_clear()
    fingerprint.cache_clear()
    before = fingerprint("immunization.methods.optimum")
    other = fingerprint("immunization.tables")
    file = tmp_path / "src" / "hessian_spectrum" / "generalized.py"
    file.write_text(file.read_text() + "\n# changed\n")
    fingerprint.cache_clear()  # kept for the life of a process
    assert fingerprint("immunization.methods.optimum") != before
    assert fingerprint("immunization.tables") == other
    module._imports.cache_clear()
    fingerprint.cache_clear()


def test_components_are_files_and_helpers_are_not():
    methods = components("methods")
    assert {
        "identity", "r_ill_only", "imma", "opt_kappa", "alg1", "optimum", "multiplicative", "erase"
    } == set(methods)  # fmt: skip
    assert all(isinstance(c.path, Path) for c in methods.values())
    assert components("datasets")["mnist"].parameters.keys() >= {"pixels", "task", "pairs"}


def test_annotated_parameters_are_read_and_computed_ones_refused(tmp_path):
    from immunization.errors import UserError
    from immunization.registry import _read

    path = tmp_path / "some.py"
    path.write_text('"""S."""\nPARAMETERS: dict[str, dict] = {"a": {"default": 1}}\n')
    assert _read("methods", path).parameters == {"a": {"default": 1}}
    path.write_text("PARAMETERS = dict(a=1)\n")
    with pytest.raises(UserError, match="must be a literal"):
        _read("methods", path)


def test_what_does_not_exist_is_refused():
    with pytest.raises(KeyError, match="no_such"):
        load("methods", "no_such")
    with pytest.raises(ValueError, match="datasets, methods"):
        components("things")
