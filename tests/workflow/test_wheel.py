"""The wheel: what it carries, and the miniature study run from it without a checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from immunization.tools import new
from tests.workflow.conftest import MINIATURE, ROOT, plain_environment


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Built from what git would have: a copy without what builds leave."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with FileLock(base / "wheel.lock"):
        out = base / "wheel"
        if not out.exists():
            source = base / "source"
            left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
            for name in ("src", "workflow", "config", "envs", "profiles"):
                shutil.copytree(ROOT / name, source / name, ignore=left_out)
            for name in ("Snakefile", "pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, source)
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
            subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_it_carries_the_packages_the_workflow_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("immunization", "hessian_spectrum", "snakemake_logger_plugin_immunization"):
        for path in (ROOT / "src" / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT / "src").as_posix() in names
    for folder in ("workflow", "config", "envs", "profiles"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"immunization/_workflow/{path.relative_to(ROOT).as_posix()}" in names
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {
        "immunization", "hessian_spectrum", "snakemake_logger_plugin_immunization",
    }  # fmt: skip
    assert wheel.stat().st_size < 2_000_000


@pytest.fixture
def installed(wheel, tmp_path):
    """Unpacked where pip would put it; runs a command there, away from the checkout."""
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site),
         str(wheel)], check=True, capture_output=True,
    )  # fmt: skip
    here = tmp_path / "here"
    here.mkdir()
    (here / "mini.yaml").write_text(yaml.safe_dump(MINIATURE, sort_keys=False))

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "immunization", *words], cwd=here, capture_output=True,
            env=plain_environment() | {"PYTHONPATH": str(site)}, text=True, check=False,
        )  # fmt: skip

    return run, here, site


def test_the_miniature_runs_from_it_and_gives_the_checkouts_tables(installed, finished):
    run, here, site = installed
    done = run("run", "mini.yaml", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Done. The report: results/mini/report.html" in done.stderr
    assert len((done.stdout + done.stderr).encode()) < 5000
    assert done.stderr.count(" done in ") == 14
    for path in (finished.folder / "results" / "mini" / "tables").glob("[!.]*"):
        assert (here / "results" / "mini" / "tables" / path.name).read_bytes() == path.read_bytes()
    seal = json.loads((here / "results/mini/tasks/.digits.safetensors.seal").read_text())
    assert str(site) not in json.dumps(seal)
    again = run("run", "mini.yaml")
    assert again.returncode == 0
    assert " done in " not in again.stderr
    assert run("verify", "results/mini").returncode == 0
    assert "verdict" in run("report", "results/mini").stdout
    assert "mini: 3 methods" in run("check", "mini.yaml").stdout
    out = run(
        "export", "results/mini", "--method", "optimum", "--dataset", "digits", "--out", "l.npz"
    )
    assert out.returncode == 0, out.stderr
    assert run("new", "method", "mine").returncode == 0
    assert "It holds" in run("check-plugin", "method", "mine.py").stdout


def test_studies_that_come_along_and_mistakes_are_told_without_a_checkout(installed):
    run, here, _ = installed
    dry = run("run", "default", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "43 jobs would run" in dry.stderr
    assert len(dry.stderr.encode()) < 6000
    gone = run("run", "papr")
    assert gone.returncode == 2
    assert "did you mean 'paper'" in gone.stderr
    target = run("run", "--configfile", "mini.yaml", "results/mini/report.html")
    assert target.returncode == 2
    assert "results/mini/report.html is no config file" in target.stderr
    config = yaml.safe_load((here / "mini.yaml").read_text())
    config["methods"]["own"] = {"use": "gone.py"}
    (here / "own.yaml").write_text(yaml.safe_dump(config))
    refused = run("run", "own.yaml")
    assert refused.returncode == 2
    assert "would run with your rights" in refused.stderr
    missing = run("run", "own.yaml", "--allow-code", "-n")
    assert missing.returncode == 2
    assert "gone.py: there is no such file" in missing.stderr


def test_a_package_beside_the_installed_one_brings_a_method(wheel, tmp_path):
    """Both in one environment, where the workflow and its jobs find them by different paths."""
    source = tmp_path / "author"
    (source / "authors").mkdir(parents=True)
    (source / "authors" / "__init__.py").write_text('"""Mine."""\n')
    new.write("method", "stretch", source / "authors")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "authors"\nversion = "1.2"\n'
        '[project.entry-points."immunization.methods"]\nstretch = "authors.stretch"\n'
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    (site,) = (tmp_path / "v" / "lib").glob("python*/site-packages")
    # All else that is installed here, behind the environment's own.
    (site / "more.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    for what in (str(wheel), str(source)):
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
             "--no-build-isolation", "--target", str(site), what], check=True, capture_output=True,
        )  # fmt: skip
    raw = MINIATURE | {"methods": {"identity": {}, "stretch": {"strength": 5}}, "figures": {}}
    raw["datasets"] = {"diabetes": {"test_fraction": 0.25}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    command = [str(tmp_path / "v" / "bin" / "python"), "-m", "immunization", "run", "s.yaml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "immunize stretch: done" in done.stderr
    record = (tmp_path / "results/mini/provenance.json").read_text()
    assert '"authors": "1.2"' in record
    assert str(tmp_path) not in record


@pytest.mark.slow
def test_a_new_environment_needs_the_wheel_alone(wheel, tmp_path):
    """pip resolves what it declares; minutes, most of them torch."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", f"{wheel}[workflow]"], check=True
    )
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(MINIATURE, sort_keys=False))
    command = tmp_path / "venv" / "bin" / "immunization"
    done = subprocess.run(
        [str(command), "run", "mini.yaml"], cwd=tmp_path, env=plain_environment(), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    code = "import immunization as im, numpy as np; print(im.assess(im.Task(np.eye(9, 3)), im.Task(np.eye(9, 3) + 1)).ratios['rir'])"  # noqa: E501
    subprocess.run([str(python), "-W", "error", "-c", code], cwd=tmp_path, check=True)
