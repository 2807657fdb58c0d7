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
    assert {"immunize.py", "optimum.py", "tasks.py", "immunizability.py"} <= files
    assert (
        not {"alg1.py", "imma.py", "attack.py", "heat_map.py", "plot.py", "attacker_view.py"}
        & files
    )


def test_tables_figures_and_the_report_do_not_import_torch():
    parts = [("reporting.draw",), ("linear.page",), ("networks.page",)]
    parts += [
        (f"{folder.replace('/', '.')}.{name}",)
        for folder in ("linear/tables", "networks/tables", "linear/figures", "networks/figures")
        for name in components(folder)
    ]
    for (stage,) in parts:
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
        for kept in (module._tree, module._imports, module._reexports, module._digest, fingerprint):
            kept.cache_clear()

    forget()
    yield tmp_path / "src", forget
    forget()


EDITS = {
    "code": ("hessian_spectrum/immunizability.py", "", "\nMORE = 1\n", True),
    "comment": ("hessian_spectrum/immunizability.py", "", "\n# changed\n", False),
    "docstring": ("immunization/linear/methods/optimum.py", '"""', '"""Changed. ', False),
    "message": ("immunization/linear/tasks.py", "no training rows (", "none (", False),
    "description": (
        "immunization/linear/methods/_kappa_budget.py", '"description": "',
        '"description": "Changed. ', False,
    ),
    "lock": ("immunization/runtime/jobs/run_lock.py", "", "\nMORE = 1\n", False),
    "claim": ("immunization/runtime/gpus/claims.py", "", "\nMORE = 1\n", False),
    "shutdown": ("immunization/runtime/jobs/shutdown.py", "", "\nMORE = 1\n", False),
    "unit": ("immunization/runtime/jobs/resumable.py", "", "\nMORE = 1\n", False),
    "logger": ("immunization/runtime/log.py", "", "\nMORE = 1\n", False),
    "plot": ("hessian_spectrum/plot.py", "", "\nMORE = 1\n", False),
    "facade": ("hessian_spectrum/__init__.py", '"""', '"""Changed. ', False),
    "what files hold": ("immunization/runtime/files/io.py", "", "\nMORE = 1\n", True),
    "threads": ("immunization/runtime/threads.py", "", "\nMORE = 1\n", True),
    "another method": ("immunization/linear/methods/alg1.py", "", "\nMORE = 1\n", False),
    "the other kind of study": ("immunization/networks/training.py", "", "\nMORE = 1\n", False),
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
    methods = folder / "immunization" / "linear" / "methods"
    (methods / "own.py").write_text("from ._helper import value\nfrom ..attacks import _more\n")
    (methods / "_helper.py").write_text("value = 1\n")
    (folder / "immunization" / "linear" / "attacks" / "_more.py").write_text("")
    assert {"own.py", "_helper.py", "_more.py"} <= names("immunization.linear.methods.own")
    before = fingerprint("immunization.linear.methods.own")
    (methods / "_helper.py").write_text("value = 2\n")
    forget()
    assert fingerprint("immunization.linear.methods.own") != before


def test_what_a_package_passes_on_is_looked_for_where_it_is_defined(source):
    folder, forget = source
    methods = folder / "immunization" / "linear" / "methods"
    (methods / "own.py").write_text("from hessian_spectrum import range_factor\n")
    found = names("immunization.linear.methods.own")
    assert {"own.py", "range_factor.py", "rank.py"} <= found
    assert not {"__init__.py", "plot.py", "tracking.py", "density.py"} & found
    (methods / "own.py").write_text("import hessian_spectrum\n")
    forget()
    assert {"__init__.py", "tracking.py"} <= names("immunization.linear.methods.own")


def test_what_stands_outside_of_fingerprints_is_there_and_has_a_reason():
    for name, reason in module.OUTSIDE.items():
        assert module._file(name) is not None, name
        assert reason
        assert closure(name) == []


@pytest.mark.parametrize("name", ["python3.12", "python3.13", "python3.14"])
def test_another_python_computes_the_same_fingerprint(name):
    """As in a conda environment, whose Python is not Snakemake's."""
    code = (
        "from immunization.runtime.record.fingerprint import fingerprint\n"
        "print(fingerprint('immunization.linear.attack'))"
    )
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
    assert _read("linear/methods", "some", path, "some").parameters == {"a": {"default": 1}}
    path.write_text("PARAMETERS = dict(a=1)\n")
    with pytest.raises(UserError, match="must be a literal"):
        _read("linear/methods", "some", path, "some")


def test_what_does_not_exist_is_refused():
    with pytest.raises(KeyError, match="no_such"):
        import_component("linear/methods", "no_such")
    with pytest.raises(ValueError, match="linear/datasets, linear/methods"):
        components("things")
