"""Real miniature studies through real Snakemake: what runs, what reruns, what comes out."""

import copy
import html
import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml

from immunization.runtime.files.io import read_table, read_tensors
from immunization.study.layout import layout
from immunization.study.load import merged
from immunization.study.resolve import resolve
from tests import HANG
from tests.studies import run_stage

from .conftest import MINIATURE, ROOT, Workflow


def test_the_study_yields_every_output_and_one_job_a_method(finished):
    assert finished.first.jobs == {
        "study": 1, "prepare": 2, "immunize": 3, "spectrum": 1, "attack": 2, "tables": 1,
        "figure_limit": 1, "figure_frontier": 1, "report_page": 1, "manifest": 1,
    }  # fmt: skip
    names = set(finished.results())
    assert {"report.html", "study.json", "spectrum/ratios.parquet", "tables/ratios.tex"} <= names
    assert {
        f"figures/limit.{d}.{s}" for d in MINIATURE["datasets"] for s in ("svg", "png", "txt")
    } <= names
    for rule in ("prepare/digits", "immunize/alg1", "spectrum", "attack/digits.simulated"):
        assert (finished.folder / "logs" / "mini" / f"{rule}.log").is_file()
        assert (finished.folder / "logs" / "mini" / "benchmark" / f"{rule}.jsonl").is_file()


def test_every_number_can_be_traced(finished):
    base = finished.folder / "results" / "mini"
    ratios = read_table(base / "spectrum" / "ratios.parquet")
    assert len(ratios) == 3 * 2 * (2 + 1)  # methods, seeds, pairs of the two data sets
    record = ratios.attrs["provenance"]
    assert {"code", "parameters", "kappa", "immunization", "device", "commit"} <= set(record)
    assert record["seeds"] == [0, 1]
    assert len(record["config"]) == 64
    assert {"torch", "numpy", "pandas"} <= set(record["packages"])
    told = json.loads((base / "provenance.json").read_text())["results"]
    files = {name for group in told for name in group["files"]}
    summed = {line[66:] for line in (base / "SHA256SUMS").read_text().splitlines()}
    assert summed == files | {"provenance.json"}
    assert {group["provenance"]["config"] for group in told} == {record["config"]}
    assert all(group["provenance"]["kappa"] == record["kappa"] for group in told)
    _, metadata = read_tensors(base / "immunized" / "alg1" / "diabetes.safetensors")
    assert metadata["parameters"]["profile"] == "paper"
    assert metadata["parameters"]["steps"] == 5
    assert metadata["seeds"] == [0, 1]
    assert (ratios.loc[ratios["method"] == "alg1", "code"] == metadata["code"]).all()
    spectra = read_table(base / "spectrum" / "spectra.parquet")
    assert (spectra["eigenvalues"].map(len) == spectra["rank"]).all()
    recomputed = spectra["eigenvalues"].map(lambda v: v[-1] / v[0])
    assert (recomputed - spectra["kappa"]).abs().max() <= 1e-9 * spectra["kappa"].max()


def test_optimum_reaches_every_finite_limit(finished):
    ratios = read_table(finished.folder / "results/mini/spectrum/ratios.parquet")
    best = ratios[ratios["method"] == "optimum"]["optimality"].dropna()
    assert len(best) > 0
    assert best.min() >= 0.999


def test_tables_figures_and_the_report_by_hand_are_those_of_the_workflow(
    finished, tmp_path, monkeypatch
):
    """Their commands, in this process, on the files of the finished study, which lie elsewhere."""
    base, here = finished.folder / "results" / "mini", tmp_path / "mini"
    made = ("tables", "figures", "report.html", "*.seal", "SHA256SUMS", "provenance.json")
    shutil.copytree(base, here, ignore=shutil.ignore_patterns(*made))
    study = here / "study.json"
    run_stage("study", study)
    run_stage("tables", study)
    for label in MINIATURE["figures"]:
        run_stage("figure", study, label)
    run_stage("report", study)
    for name in ("study.json", "report.html", "tables", "figures"):
        for path in sorted((here / name).rglob("*")) or [here / name]:
            if path.suffix != ".seal":
                same = path.read_bytes() == (base / path.relative_to(here)).read_bytes()
                assert same, path


def test_a_second_call_does_nothing(finished):
    run = finished.run()
    assert run.code == 0
    assert "Nothing to be done" in run.output


@pytest.mark.slow
def test_results_are_the_same_bits_in_two_runs_and_on_two_threads(finished, tmp_path):
    config = copy.deepcopy(MINIATURE)
    del config["datasets"]["digits"]
    found = []
    for threads in (1, 2):
        workflow = Workflow(tmp_path / str(threads))
        workflow.configure(config | {"threads": threads})
        assert workflow.run().code == 0
        found.append(workflow.results())
    one, two = found
    assert one.keys() == two.keys()
    different = [n for n in one if one[n] != two[n]]
    assert not different
    # What is shared between data sets changes none of them.
    whole = finished.results()
    alone = [n for n in one if n.startswith(("tasks/", "attack/", "figures/"))]
    assert [n for n in alone if n.endswith((".svg", ".txt")) and one[n] != whole[n]] == []


def test_a_changed_figure_module_reruns_that_figure_and_the_report_only(workflow):
    module = workflow.folder / "src" / "immunization" / "linear" / "figures" / "limit.py"
    module.write_text(module.read_text() + "\nMORE = 1\n")
    run = workflow.run()
    assert run.code == 0, run.output
    assert run.jobs == {"figure_limit": 1, "report_page": 1, "manifest": 1}


def test_a_changed_numerical_module_reruns_what_imports_it(workflow):
    module = workflow.folder / "src" / "hessian_spectrum" / "immunizability.py"
    module.write_text(module.read_text() + "\nMORE = 1\n")
    run = workflow.run("-n")
    assert {"immunize", "spectrum"} <= set(run.jobs)


def test_a_new_method_runs_its_own_job_and_what_follows(workflow):
    config = copy.deepcopy(MINIATURE)
    config["methods"]["corrected"] = {"use": "alg1", "profile": "corrected", "steps": 5}
    workflow.configure(config)
    run = workflow.run("-n")
    assert run.code == 0, run.output
    assert run.jobs == {
        "study": 1, "immunize": 1, "spectrum": 1, "attack": 2, "tables": 1,
        "figure_limit": 1, "figure_frontier": 1, "report_page": 1, "manifest": 1,
    }  # fmt: skip


def test_a_method_attack_and_figure_of_a_users_own_take_one_file_each(workflow):
    source = workflow.folder / "src" / "immunization" / "linear"
    (source / "methods" / "doubled.py").write_text(
        '"""θ = 2I, which changes no condition number."""\n\n'
        'PARAMETERS = {"factor": {"type": "number", "default": 2, "description": "scale"}}\n\n\n'
        "def immunize(problem, parameters):\n"
        '    return parameters["factor"] * problem.identity()\n'
    )
    (source / "figures" / "plain.py").write_text(
        '"""A plain figure."""\n\nfrom matplotlib.figure import Figure\n\n'
        'CAPTION = "Nothing to see."\n\n\n'
        "def draw(results, dataset):\n    return Figure()\n"
    )
    config = copy.deepcopy(MINIATURE)
    config["methods"]["doubled"] = {}
    config["figures"]["plain"] = {}
    workflow.configure(config)
    run = workflow.run()
    assert run.code == 0, run.output
    assert run.jobs["immunize"] == 1
    ratios = read_table(workflow.folder / "results/mini/spectrum/ratios.parquet")
    assert ratios.loc[ratios["method"] == "doubled", "rir"].to_numpy() == pytest.approx(1)
    assert "Nothing to see." in (workflow.folder / "results/mini/report.html").read_text()


def test_snakemakes_own_report_has_captions_as_html_and_zip(workflow):
    for name in ("report.html", "report.zip"):
        run = workflow.run("--report", name)
        assert run.code == 0, run.output
    text = html.unescape((workflow.folder / "report.html").read_text())
    assert "Held-out accuracy on the harmful task" in text
    assert "condition numbers after immunization over" in text
    with zipfile.ZipFile(workflow.folder / "report.zip") as archive:
        assert any(name.endswith("report.html") for name in archive.namelist())


def test_the_workflow_passes_snakemakes_own_lint(finished):
    run = finished.run("--lint")
    assert run.code == 0, run.output
    assert "Congratulations" in run.output


def test_the_default_and_the_papers_study_are_complete(tmp_path):
    workflow = Workflow(tmp_path / "w")
    default = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "2"],
        cwd=workflow.folder, capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert default.returncode == 0, default.stderr
    run = workflow.run("-n", config="config/paper.yaml")
    assert run.code == 0, run.output
    assert run.jobs["immunize"] == 14


@pytest.mark.parametrize(
    "names", [("paper", "paper_subset"), ("config", "ladder"), ("config", "house_prices")]
)
def test_every_overlay_that_ships_makes_a_study(names):
    study = resolve(merged([ROOT / "config" / f"{name}.yaml" for name in names]))
    assert len(layout(study, "results/x").methods) == 14


def test_environments_constraints_and_the_package_agree():
    """Every pin of envs/ names a package of pyproject.toml at the version of the constraints."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        re.split(r"[<>=\[; ]", line)[0].lower()
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for line in group
    }
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    pins = {name.lower(): version for name, version in pins.items()}
    assert declared <= set(pins), declared - set(pins)
    conda = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        for line in yaml.safe_load(path.read_text())["dependencies"]:
            name, version = line.split("=")
            if name == "python":
                continue
            name = conda.get(name, name)
            assert name in declared, (path.name, name)
            assert pins[name].startswith(version), (path.name, name, version, pins[name])
