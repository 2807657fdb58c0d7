"""The plan of the house: which room may know which, as docs/architecture.md draws it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
MAY_KNOW = {
    "api": {"linear", "networks", "reporting", "study", "runtime"},
    "__main__": {"runtime"},
    "stages": {"reporting", "study", "runtime"},
    "tools": {
        "api",
        "stages",
        "linear",
        "networks",
        "reporting",
        "study",
        "data",
        "runtime",
    },
    "linear": {"reporting", "study", "data", "runtime", "hessian_spectrum"},
    "networks": {"reporting", "study", "data", "runtime", "hessian_spectrum"},
    "reporting": {"study", "runtime"},
    "study": {"runtime"},
    "data": {"runtime"},
    "runtime": set(),
    "hessian_spectrum": set(),
}
HEAVY = {"torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "pyarrow", "PIL", "timm"}


def modules():
    """Every module of ours, by dotted name."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module):
    """Of the house; the package itself is no room."""
    parts = module.split(".")
    if parts[0] == "hessian_spectrum":
        return parts[0]
    return parts[1] if len(parts) > 1 else None


def imported(path, *, at_once):
    """Modules of ours that a file imports; at once, or also inside functions and for types."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree)
    if at_once:
        skipped = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            for inner in ast.walk(node)
        }
        nodes = (node for node in ast.walk(tree) if id(node) not in skipped)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return {name for name in found if name in MODULES}


def test_every_arrow_between_rooms_is_allowed():
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imported(path, at_once=False)
        if room(module) and room(other) not in (room(module), None)
        and room(other) not in MAY_KNOW[room(module)]
    ]  # fmt: skip
    assert not wrong, wrong


def test_no_modules_import_each_other_in_a_circle():
    todo = {module: imported(path, at_once=True) - {module} for module, path in MODULES.items()}
    while ready := [module for module, others in todo.items() if not others]:
        for module in ready:
            del todo[module]
        for others in todo.values():
            others.difference_update(ready)
    assert not todo, todo


def test_at_most_twelve_entries_lie_at_the_top_and_each_is_in_the_plan():
    entries = {
        path.stem
        for path in (SRC / "immunization").iterdir()
        if path.name not in ("__pycache__", "py.typed")
    }
    assert len(entries) <= 12
    assert entries - {"__init__"} == set(MAY_KNOW) - {"hessian_spectrum"}
    plan = (ROOT / "docs" / "architecture.md").read_text()
    for module, path in MODULES.items():
        if path.name == "__init__.py" and module != "immunization":
            lines = re.findall(rf"^\| `{re.escape(place(path))}` \| .+ \|$", plan, re.MULTILINE)
            assert len(lines) == 1, place(path)


def place(path):
    """A package as the plan names it."""
    return path.parent.relative_to(SRC).as_posix().removeprefix("immunization/") + "/"


def test_the_plan_draws_the_arrows_that_there_are():
    plan = (ROOT / "docs" / "architecture.md").read_text()
    graph = re.search(r"```mermaid\nflowchart TD\n(.*?)```", plan, re.DOTALL)[1]
    drawn = {
        (start.strip(), end.strip())
        for starts, ends in re.findall(r"^ *([\w &]+?) --> ([\w &]+)$", graph, re.MULTILINE)
        for start in starts.split("&")
        for end in ends.split("&")
    }
    there = {
        (room(module), room(other))
        for module, path in MODULES.items()
        for other in imported(path, at_once=False)
        if room(module) and room(other) not in (room(module), None)
    }
    assert drawn == there


def test_what_the_snakefile_imports_is_light():
    text = (ROOT / "workflow" / "rules" / "common.smk").read_text()
    lines = re.findall(r"^from immunization.*$", text, re.MULTILINE)
    assert len(lines) > 5
    code = "\n".join([*lines, "import sys", "print(*sys.modules)"])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert not {name.split(".")[0] for name in done.stdout.split()} & HEAVY


@pytest.mark.parametrize("stage", ["tables", "figure", "report", "manifest", "study"])
def test_stages_that_compute_nothing_start_without_torch(stage):
    code = f"import sys, immunization.stages.{stage}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "torch" not in {name.split(".")[0] for name in done.stdout.split()}
