"""The registry and the fingerprints that decide what reruns."""

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from immunization.runtime.record import fingerprint as module
from immunization.runtime.record.fingerprint import closure, fingerprint
from immunization.study.components import components, import_component


def names(*modules):
    return {path.name for path in closure(*modules)}


def test_a_closure_holds_what_a_module_imports_and_no_other_component():
    files = names("immunization.linear.immunize", "immunization.linear.methods.optimum")
    assert {"immunize.py", "optimum.py", "tasks.py", "generalized.py"} <= files
    assert not {"alg1.py", "imma.py", "attack.py", "heat_map.py", "tables.py"} & files


def test_tables_figures_and_the_report_do_not_import_torch():
    for stage in ("tables", "figure", "report", "figures.convergence", "figures.heat_map"):
        for path in closure(f"immunization.{stage}"):
            tree = ast.parse(path.read_text())
            top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
            imported = {alias.name for n in top if isinstance(n, ast.Import) for alias in n.names}
            imported |= {n.module for n in top if isinstance(n, ast.ImportFrom)}
            assert not {name for name in imported if name.split(".")[0] == "torch"}, path


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of the package, and a way to read it anew."""
    shutil.copytree(module.SOURCE, tmp_path / "src")
    monkeypatch.setattr(module, "SOURCE", tmp_path / "src")

    def forget():
        for kept in (module._tree, module._imports, module._digest, fingerprint):
            kept.cache_clear()

    forget()
    yield tmp_path / "src", forget
    forget()


EDITS = {
    "code": ("hessian_spectrum/generalized.py", "", "\nMORE = 1\n", True),
    "comment": ("hessian_spectrum/generalized.py", "", "\n# changed\n", False),
    "docstring": ("immunization/methods/optimum.py", '"""', '"""Changed. ', False),
    "message": ("immunization/tasks.py", "no training rows (", "none (", False),
    "help": ("immunization/attack.py", 'help="output of prepare"', 'help="tasks"', False),
    "description": (
        "immunization/methods/_budget.py", '"description": "', '"description": "Changed. ', False
    ),
    "lock": ("immunization/holder.py", "", "\nMORE = 1\n", False),
    "another method": ("immunization/methods/alg1.py", "", "\nMORE = 1\n", False),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_the_fingerprint_changes_with_what_may_change_a_number(source, what):
    folder, forget = source
    name, old, new, changes = EDITS[what]
    modules = (
        "immunization.linear.immunize",
        "immunization.linear.attack",
        "immunization.linear.methods.optimum",
    )
    before = fingerprint(*modules)
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else text + new)
    forget()  # kept for the life of a process
    assert (fingerprint(*modules) != before) == changes


def test_calls_of_calls_are_told_apart():
    words = [list(module._words(ast.parse(text))) for text in ("f(a)(k=1)", "f(a, k=1)()")]
    assert words[0] != words[1]


def test_relative_imports_are_followed(source):
    folder, forget = source
    methods = folder / "immunization" / "methods"
    (methods / "own.py").write_text("from ._helper import value\nfrom ..attacks import _more\n")
    (methods / "_helper.py").write_text("value = 1\n")
    (folder / "immunization" / "attacks" / "_more.py").write_text("")
    assert {"own.py", "_helper.py", "_more.py"} <= names("immunization.linear.methods.own")
    before = fingerprint("immunization.linear.methods.own")
    (methods / "_helper.py").write_text("value = 2\n")
    forget()
    assert fingerprint("immunization.linear.methods.own") != before


def test_every_module_outside_of_fingerprints_is_there_and_has_a_reason():
    for name, reason in module.OUTSIDE.items():
        assert (module.SOURCE / "immunization" / f"{name}.py").is_file()
        assert reason


@pytest.mark.parametrize("name", ["python3.12", "python3.13", "python3.14"])
def test_another_python_computes_the_same_fingerprint(name):
    """As in a conda environment, whose Python is not Snakemake's."""
    code = "from immunization.runtime.record.fingerprint import *; print(fingerprint('immunization.linear.attack'))"
    try:
        done = subprocess.run(
            [name, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": str(module.SOURCE)},
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no {name} here")
    assert done.stdout.strip() == fingerprint("immunization.linear.attack")


def test_components_are_files_and_helpers_are_not():
    methods = components("linear/methods")
    assert {
        "identity", "r_ill_only", "imma", "opt_kappa", "alg1", "optimum", "multiplicative", "erase"
    } == set(methods)  # fmt: skip
    assert all(isinstance(c.path, Path) for c in methods.values())
    assert components("linear/datasets")["mnist"].parameters.keys() >= {"pixels", "task", "pairs"}


def test_annotated_parameters_are_read_and_computed_ones_refused(tmp_path):
    from immunization.runtime.errors import UserError
    from immunization.study.components import _read

    path = tmp_path / "some.py"
    path.write_text('"""S."""\nPARAMETERS: dict[str, dict] = {"a": {"default": 1}}\n')
    assert _read("linear/methods", path).parameters == {"a": {"default": 1}}
    path.write_text("PARAMETERS = dict(a=1)\n")
    with pytest.raises(UserError, match="must be a literal"):
        _read("linear/methods", path)


def test_what_does_not_exist_is_refused():
    with pytest.raises(KeyError, match="no_such"):
        import_component("linear/methods", "no_such")
    with pytest.raises(ValueError, match="datasets, methods"):
        components("things")
