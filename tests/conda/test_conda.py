"""`snakemake --use-conda`, with a real solver on stub packages (see `stand_in.py`)."""

import ast
import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from immunization.runtime.record.fingerprint import PACKAGES, _file
from immunization.study.components import FOLDERS, components
from tests import HANG
from tests.workflow.conftest import MINIATURE, ROOT, Run, Workflow, plain_environment

from . import channel

rattler = pytest.importorskip("rattler")

TINY = copy.deepcopy(MINIATURE) | {"seeds": [0], "figures": {"limit": {}}}
TINY["datasets"] = {"digits": {"task": "digit", "pairs": [[0, 1]], "rows_per_class": 60}}
TINY["methods"] = {"identity": {}, "alg1": {"profile": "paper", "steps": 5}}
TINY["attacks"] = {"gradient_descent": {}}


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """An environment in which `conda` is the stand-in, with our channel."""
    channels = tmp_path_factory.mktemp("channels")
    channel.build(channels / "conda-forge", sys.executable)
    place = Path(__file__).parent / "bin"
    return plain_environment() | {
        "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
        "STAND_IN_CHANNELS": str(channels),
        "STAND_IN_PYTHON": sys.executable,
    }


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    found = Workflow(tmp_path / "w")
    found.configure(TINY)
    return found


def with_conda(workflow, environment, *arguments) -> Run:
    done = subprocess.run(
        workflow.command("--use-conda", *arguments), cwd=workflow.folder, env=environment,
        capture_output=True, text=True, check=False, timeout=HANG,
    )  # fmt: skip
    return Run(done.returncode, done.stdout + done.stderr)


def test_every_line_of_every_environment_is_a_strict_spec():
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        wanted = yaml.safe_load(path.read_text())
        assert wanted["channels"] == ["conda-forge"]
        for line in wanted["dependencies"]:
            rattler.MatchSpec(line, strict=True)


def imports(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself."""
    found = set()

    def walk(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.update({node.module, *(f"{node.module}.{a.name}" for a in node.names)})
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
                walk(node.body + node.orelse)
            elif isinstance(node, ast.ClassDef | ast.Try | ast.With):
                walk(node.body)

    walk(ast.parse(path.read_text()).body)
    return found


def needed_by(module: str) -> set[str]:
    """Packages that a module of ours needs to be imported, through whatever it imports of ours."""
    todo, seen, found = [module], set(), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        top = name.split(".")[0]
        if top not in PACKAGES:
            found.add(top)
            continue
        path = _file(name)
        if path is not None:
            todo += [*imports(path), name.rpartition(".")[0] or name]
    return found - set(sys.stdlib_module_names)


MODULES = {"spectrum": "spectra", "report": "page"}


def stages() -> list[tuple[str, str]]:
    """Environment and modules of every rule."""
    found = []
    for path in sorted((ROOT / "workflow/rules").rglob("*.smk")):
        text = path.read_text()
        names = re.findall(r"made_by:q\} (\w+)", text)
        environments = set(re.findall(r"envs/(\w+)\.yaml", text))
        assert len(environments) == len(names) == min(1, len(names)), path
        for name in names:
            (env,) = environments
            found.append((env, f"immunization.stages.{name}"))
            own = path.parent.name
            for wing in ("linear", "networks") if own == "rules" else (own,):
                module = f"immunization.{wing}.{MODULES.get(name, name)}"
                found += [(env, module)] if _file(module) else []
    assert len(found) > 15
    return found


def test_what_stages_and_components_import_is_in_their_environments():
    asked = stages()
    for folder in FOLDERS:
        wing, kind = folder.split("/")
        env = (
            "plotting"
            if kind in ("figures", "tables")
            else "networks"
            if wing == "networks"
            else "torch"
        )
        package = f"immunization.{wing}.{kind}"
        asked += [(env, f"{package}.{name}") for name in components(folder)]
    for env, module in asked:
        lines = yaml.safe_load((ROOT / "envs" / f"{env}.yaml").read_text())["dependencies"]
        named = {line.split("=")[0] for line in lines}
        known = {channel.IMPORTED.get(name, name) for name in named}
        needed = needed_by(module) | {"psutil"}  # by every stage that a Snakemake started
        assert needed <= known, f"{module} imports {needed - known}, not in envs/{env}.yaml"


def test_a_study_runs_in_its_environments_with_the_same_results(workflow, environment, tmp_path):
    """To the last bit, also on another number of threads."""
    plain = Workflow(tmp_path / "plain")
    plain.configure(TINY | {"threads": 2})
    assert plain.run().code == 0
    run = with_conda(workflow, environment)
    assert run.code == 0, run.output
    made = {
        path.name: path.read_text()
        for path in (workflow.folder / ".snakemake/conda").glob("*.yaml")
    }
    assert sorted(made.values()) == sorted(
        (ROOT / "envs" / name).read_text() for name in ("torch.yaml", "plotting.yaml")
    )
    assert workflow.results() == plain.results()


@pytest.mark.slow
def test_pin_files_are_made_from_the_environments_and_installed_from(workflow, environment):
    done = subprocess.run(
        ["bash", "envs/pin.sh"], cwd=workflow.folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for path in (workflow.folder / "envs").glob("*.yaml"):
        pinned = path.with_suffix("").with_suffix(".linux-64.pin.txt").read_text()
        for line in yaml.safe_load(path.read_text())["dependencies"]:
            name, version = line.split("=")
            assert f"/{name}-{version}" in pinned
    run = with_conda(workflow, environment)
    assert run.code == 0, run.output
    # Snakemake only warns of a pin file that does not work, and solves anew.
    assert "from pin file" not in run.output or "Failed" not in run.output, run.output


def test_a_pin_file_that_does_not_work_is_noticed(workflow, environment):
    pins = workflow.folder / "envs" / "torch.linux-64.pin.txt"
    pins.write_text("@EXPLICIT\nfile:///nowhere/linux-64/python-3.12.0-stub_0.tar.bz2\n")
    run = with_conda(workflow, environment, "--conda-create-envs-only")
    assert "Failed to install conda environment from pin file" in run.output


def test_an_environment_that_cannot_be_had_stops_the_study(workflow, environment):
    path = workflow.folder / "envs" / "torch.yaml"
    path.write_text(path.read_text().replace("numpy=2.4", "numpy=99"))
    run = with_conda(workflow, environment)
    assert run.code != 0
    assert "CreateCondaEnvironmentException" in run.output
    assert "No candidates were found for numpy" in run.output


def test_pin_files_that_are_there_agree_with_their_environments():
    for pins in (ROOT / "envs").glob("*.pin.txt"):
        text = pins.read_text()
        source = pins.with_name(pins.name.replace(".linux-64.pin.txt", ".yaml"))
        for line in yaml.safe_load(source.read_text())["dependencies"]:
            name, version = line.split("=")
            assert f"/{name}-{version}" in text, f"{pins.name} is older than {source.name}"


def test_without_conda_the_pins_are_refused_with_a_word(tmp_path):
    folder = tmp_path / "envs"
    shutil.copytree(ROOT / "envs", folder)
    done = subprocess.run(
        ["/bin/bash", "pin.sh"], cwd=folder, env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shutil.which("conda", path="/usr/bin:/bin") is None:
        assert done.returncode == 1
        assert "conda is not on PATH" in done.stderr
