"""Results that are not what a study asks for, however they came there, are made anew, and told."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from immunization.runtime.files.checksums import read_seal, sidecar_path
from immunization.runtime.files.io import write_text
from tests import HANG

from .conftest import MINIATURE, ROOT, Workflow, plain_environment
from .test_faults import SMALL

AFTER_ATTACKS = {"tables", "figure_limit", "figure_frontier", "report_page", "manifest"}


def planned(workflow: Workflow, *arguments: str) -> tuple[set[str], str]:
    """Rules that a run would run, and what it says."""
    run = workflow.run("-n", *arguments)
    assert run.code == 0, run.output
    return set(run.jobs), run.output


def verify(workflow: Workflow) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "immunization", "verify", "results/mini"],
        cwd=workflow.folder, env=plain_environment() | {"PYTHONPATH": "src"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_snakemakes_notes_the_same_study_is_complete(workflow):
    shutil.rmtree(workflow.folder / ".snakemake")
    assert planned(workflow)[0] == set()


def test_without_snakemakes_notes_another_config_is_noticed(workflow):
    """`.snakemake` was lost, or results were copied without it."""
    shutil.rmtree(workflow.folder / ".snakemake")
    config = copy.deepcopy(MINIATURE)
    config["attack"]["budget"] = 100
    workflow.configure(config)
    jobs, told = planned(workflow)
    assert jobs == {"study", "attack"} | AFTER_ATTACKS
    assert "results/mini: some results do not match this study's config, code or data" in told
    assert "made with different settings, for example results/mini/" in told
    workflow.configure(MINIATURE | {"seeds": [3, 4]})
    shutil.rmtree(workflow.folder / ".snakemake")
    assert {"prepare", "immunize", "spectrum", "attack", "study"} <= planned(workflow)[0]
    # Who asks for dates alone gets them.
    assert planned(workflow, "--rerun-triggers", "mtime")[0] == set()
    workflow.configure(config)
    target = "results/mini/attack/digits.simulated.steps.parquet"
    assert workflow.run("--", target).jobs == {"attack": 1}
    assert workflow.run("-n", "--", target).jobs == {}


def test_without_snakemakes_notes_other_code_is_noticed(workflow):
    shutil.rmtree(workflow.folder / ".snakemake")
    module = workflow.folder / "src/immunization/linear/methods/optimum.py"
    before = module.stat()
    module.write_text(module.read_text() + "\nMORE = 1\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    jobs, told = planned(workflow)
    assert jobs == {"immunize", "spectrum", "attack"} | AFTER_ATTACKS
    assert "made by different code, for example results/mini/immunized/optimum/" in told


def rolled_back(path: Path, text: str) -> None:
    """Put an older version of a file in place: whole, sealed, made by the same rule, and dated as
    it was."""
    seal, before = read_seal(path), path.stat()
    write_text(path, text, seal["provenance"])
    beside = sidecar_path(path)
    own = json.loads(beside.read_text()) | {k: seal[k] for k in ("made_by", "inputs")}
    beside.write_text(json.dumps(own))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_older_file_with_a_seal_of_its_own_is_not_mixed_with_newer_ones(workflow):
    base = workflow.folder / "results" / "mini"
    table = base / "tables/ratios.csv"
    before = (base / "report.html").read_bytes()
    rolled_back(table, re.sub(r"\d\.\d+", "1.25", table.read_text()))
    assert "rewritten since the sums were taken" in verify(workflow).stdout
    run = workflow.run()  # which is what verify says
    assert run.code == 0, run.output
    assert set(run.jobs) == {"report_page", "manifest"}
    assert "made from different inputs" in run.output
    assert verify(workflow).returncode == 0
    assert (base / "report.html").read_bytes() != before


def test_a_file_from_a_backup_of_another_config_is_made_anew(workflow):
    path = workflow.folder / "results/mini/tasks/diabetes.safetensors"
    kept = [path.read_bytes(), sidecar_path(path).read_bytes(), path.stat()]
    config = copy.deepcopy(MINIATURE)
    config["datasets"]["diabetes"]["test_fraction"] = 0.3
    workflow.configure(config)
    assert workflow.run("--", "results/mini/tasks/diabetes.safetensors").code == 0
    path.write_bytes(kept[0])
    sidecar_path(path).write_bytes(kept[1])
    os.utime(path, ns=(kept[2].st_atime_ns, kept[2].st_mtime_ns))
    jobs, told = planned(workflow, "--", "results/mini/tasks/diabetes.safetensors")
    assert jobs == {"prepare"}
    assert "made with different settings" in told


def test_a_file_whose_seal_was_left_behind_is_made_anew(workflow):
    sidecar_path(workflow.folder / "results/mini/tables/steps.csv").unlink()
    jobs, told = planned(workflow)
    assert jobs == {"tables", "report_page", "manifest"}
    assert "1 without the hidden .seal file that records what made them" in told
    assert "for example results/mini/tables/steps.csv" in told


def test_code_that_changes_while_a_study_runs_makes_no_result(tmp_path):
    workflow = Workflow(tmp_path / "study")
    workflow.configure(SMALL)
    process = workflow.start()
    workflow.wait_for_stage("immunization.stages.prepare")
    module = workflow.folder / "src/immunization/linear/attacks/adam.py"
    module.write_text(module.read_text() + "\nMORE = 1\n")
    assert process.wait(timeout=HANG) != 0
    told = (workflow.folder / "out.txt").read_text()
    assert (
        "immunization.linear.attack: has changed, or what it imports has, since Snakemake read"
        in told
    )
    assert not list((workflow.folder / "results/mini").glob("attack/*trained*.parquet"))
    jobs = planned(workflow)[0]
    assert "attack" in jobs
    assert not {"prepare", "immunize"} & jobs


def test_a_damaged_drawing_or_sentence_is_not_put_into_the_report(workflow):
    base = workflow.folder / "results" / "mini"
    (base / "report.html").unlink()
    for name in ("limit.digits.txt", "limit.digits.svg"):
        path = base / "figures" / name
        seal, whole, before = sidecar_path(path).read_bytes(), path.read_bytes(), path.stat()
        path.write_text(path.read_text() + " ")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        run = workflow.run("--", "results/mini/report.html")
        assert run.code != 0
        assert f"{name}: damaged" in run.output
        jobs = planned(workflow, "--", "results/mini/report.html")[0]
        assert jobs == {"figure_limit", "report_page"}
        path.write_bytes(whole)
        sidecar_path(path).write_bytes(seal)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


OWN = {
    "own": {
        "source": "csv_table", "path": "own.csv", "split_column": "part", "primary_values": ["p"],
        "harmful_values": ["h"], "primary_target": "y", "harmful_target": "z",
    }
}  # fmt: skip


def test_an_edited_table_is_read_again_also_where_its_date_is_older(workflow):
    rows = range(40)
    table = pd.DataFrame(
        {"part": ["p" if i % 2 else "h" for i in rows], "a": [i * 3 % 11 + 0.5 for i in rows],
         "b": [i * i % 7 for i in rows], "y": [i % 5 for i in rows], "z": [i % 3 for i in rows]}
    )  # fmt: skip
    own = workflow.folder / "own.csv"
    table.to_csv(own, index=False)
    os.utime(own, (1e9, 1e9))
    workflow.configure(copy.deepcopy(MINIATURE) | {"datasets": OWN})
    target = "results/mini/tasks/own.safetensors"
    assert workflow.run("--", target).code == 0
    assert planned(workflow, "--", target)[0] == set()
    table.assign(a=table["a"] + 10).to_csv(own, index=False)
    os.utime(own, (1e9, 1e9))
    assert planned(workflow, "--", target)[0] == {"prepare"}


IMAGES = {
    "study": "mini", "seeds": [0], "device": "cpu", "size": 8, "primary": "own",
    "harmful": ["binary"], "third_tasks": ["digits"],
    "datasets": {
        "own": {"source": "image_folder", "path": "pictures"},
        "binary": {"source": "mnist"}, "digits": {"source": "mnist"},
    },
    "networks": {"resnet": {}},
    "methods": {"identity": {}}, "attacks": {"linear_probe": {}},
}  # fmt: skip


def test_a_picture_that_is_added_to_a_folder_is_read_and_told_of(workflow):
    from PIL import Image

    for number in range(12):
        path = workflow.folder / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 9, 9)).save(path)
    # Whatever lies beside them, under any name.
    Path(os.fsdecode(os.fsencode(workflow.folder / "pictures") + b"/\xff.txt")).write_text("x")
    (workflow.folder / "pictures" / "nowhere.txt").symlink_to("absent")
    workflow.configure(IMAGES)
    target = "results/mini/images/own.safetensors"

    def sums() -> str:
        seal = read_seal(workflow.folder / target)
        return seal["provenance"]["files"]["own"]["pictures"]

    run = workflow.run("--", target)
    assert run.code == 0, run.output
    first = sums()
    assert planned(workflow, "--", target)[0] == set()
    Image.new("RGB", (8, 8), (99, 9, 9)).save(path)
    run = workflow.run("--", target)
    assert run.code == 0, run.output
    assert run.jobs == {"prepare": 1}
    assert sums() != first


def test_files_in_the_working_folder_are_no_modules(workflow):
    for name in ("random", "torch", "immunization", "json"):
        (workflow.folder / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    target = "results/mini/tasks/digits.safetensors"
    done = subprocess.run(
        [str(Path(sys.executable).parent / "snakemake"), "--cores", "1", "--configfile",
         "study.yaml", "--force", target],
        cwd=workflow.folder, env=plain_environment(), capture_output=True, text=True, check=False,
        timeout=HANG,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def other_checkout(folder: Path) -> Path:
    """A package of the same name that is not this one."""
    shutil.copytree(ROOT / "src", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "immunization" / "runtime" / "seeding.py").write_text(
        "raise SystemExit('not this one')\n"
    )
    return folder


def test_another_checkout_that_is_earlier_on_the_path_is_not_used(workflow, tmp_path):
    other = other_checkout(tmp_path / "other")
    target = "results/mini/tasks/digits.safetensors"
    snakemake = workflow.command("--force", "--", target)
    path = os.pathsep.join([str(other), str(workflow.folder / "src")])
    environment = plain_environment() | {"PYTHONPATH": path}
    done = subprocess.run(
        snakemake, cwd=workflow.folder, env=environment, capture_output=True, text=True,
        check=False, timeout=HANG,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    code = (
        "import sys, immunization\nfrom snakemake.cli import main\n"
        f"main({snakemake[3:]!r})\n"
    )  # as a plugin that imports it does
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workflow.folder, env=environment, capture_output=True,
        text=True, check=False, timeout=HANG,
    )  # fmt: skip
    assert done.returncode != 0
    assert "which is not the one of this workflow" in done.stdout + done.stderr


def test_no_bytecode_is_written_that_a_full_disk_could_cut(workflow):
    for folder in list(workflow.folder.rglob("__pycache__")):
        shutil.rmtree(folder)
    run = workflow.run("--force", "--", "results/mini/tasks/digits.safetensors")
    assert run.jobs == {"prepare": 1}, run.output
    assert not list(workflow.folder.rglob("__pycache__"))


EDITS = {
    "a docstring of a stage": (
        "linear/attack.py", ('"""Run the attackers', '"""Use the attackers'), set()
    ),
    "a stage's command line": (
        "stages/attack.py", ("from __future__", "MORE = 1\nfrom __future__"), set()
    ),
    "a comment of a method": (
        "linear/methods/optimum.py", ("from __future__", "# here\nfrom __future__"), set()
    ),
    "a message": (
        "linear/tasks.py", ("no training rows (an empty class)", "no rows to train on"), set()
    ),
    "a lock": ("runtime/jobs/run_lock.py", ("timeout=0)", "timeout=0.0)"), set()),
    "what resumes": (
        "runtime/jobs/resumable.py", ("from __future__", "MORE = 1\nfrom __future__"), set()
    ),
    "the config's loader": ("study/load.py", ("2**18", "2**19"), set()),
    "an attacker": (
        "linear/attacks/least_squares.py", ("from __future__", "MORE = 1\nfrom __future__"),
        {"attack"} | AFTER_ATTACKS,
    ),
    "a method": (
        "linear/methods/optimum.py", ("PARAMETERS", "MORE = 1\nPARAMETERS"),
        {"immunize", "spectrum", "attack"} | AFTER_ATTACKS,
    ),
    "what attackers repair": (
        "linear/attacker_view.py", ("from __future__", "MORE = 1\nfrom __future__"),
        {"attack"} | AFTER_ATTACKS,
    ),
    "a table": (
        "linear/tables/steps.py", ("from __future__", "MORE = 1\nfrom __future__"),
        {"tables", "report_page", "manifest"},
    ),
    "a figure": (
        "linear/figures/limit.py", ("CAPTION", "MORE = 1\nCAPTION"),
        {"figure_limit", "report_page", "manifest"},
    ),
    "a template": (
        "linear/page.html.jinja", ("{% extends", "{# x #}{% extends"), {"report_page", "manifest"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_only_what_depends_on_an_edit_runs_again(workflow, what):
    name, (old, new), expected = EDITS[what]
    path = workflow.folder / "src" / "immunization" / name
    text = path.read_text()
    assert old in text, name
    path.write_text(text.replace(old, new, 1))
    assert planned(workflow)[0] == expected
