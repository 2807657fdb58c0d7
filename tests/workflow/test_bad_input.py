"""What a user gets wrong stops the study early, with one message, and loses nothing."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from immunization.runtime.errors import UserError
from tests.studies import run_stage, write_study

from .conftest import MINIATURE, Workflow


def changed(**parts):
    config = copy.deepcopy(MINIATURE)
    for name, value in parts.items():
        config[name] = config[name] | value if isinstance(config.get(name), dict) else value
    return config


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"sedes": [1]}, ["'sedes'", "did you mean 'seeds'"]),
        ({"methods": {"alg9": {}}}, ["no method named 'alg9'"]),
        ({"methods": {"alg1": {"eta": -1}}}, ["methods.alg1.eta", "greater than 0"]),
        ({"datasets": {"a/../b": {}}}, ["datasets.a/../b", "letters, digits"]),
    ],
)
def test_a_wrong_config_stops_before_any_job_and_touches_nothing(workflow, parts, words):
    before = workflow.results()
    workflow.configure(changed(**parts))
    run = workflow.run()
    assert run.code != 0
    for word in words:
        assert word in run.output, run.output
    assert run.output.count("the config is not right") == 1
    assert "Traceback" not in run.output
    assert workflow.results() == before


def table(path, **columns):
    random = np.random.default_rng(0)
    data = {"part": ["p"] * 30 + ["h"] * 30} | {c: random.normal(size=60) for c in "xyuv"}
    pd.DataFrame(data | columns).to_csv(path, index=False)


def with_table(**parameters):
    mine = {
        "source": "csv_table",
        "path": "table.csv",
        "split_column": "part",
        "primary_values": ["p"],
        "harmful_values": ["h"],
        "primary_target": "u",
        "harmful_target": "v",
    }
    config = copy.deepcopy(MINIATURE)
    config["datasets"] = {"mine": mine | parameters, "diabetes": {"test_fraction": 0.25}}
    return config


BAD = [
    ({}, {"harmful_target": "w"}, ["table.csv", "'w' is missing"]),
    ({"x": [np.nan] + [1.0] * 59}, {}, ["table.csv", "'x'", "row 2", "missing or infinite"]),
    ({"y": [np.inf] + [1.0] * 59}, {}, ["table.csv", "'y'", "row 2", "missing or infinite"]),
    ({}, {"harmful_values": ["none"]}, ["empty class"]),
    ({"u": [3.0] * 60}, {}, ["'u'", "constant"]),
]


@pytest.mark.parametrize(("columns", "parameters", "words"), BAD)
def test_bad_data_stop_with_the_place(tmp_path, monkeypatch, columns, parameters, words):
    monkeypatch.chdir(tmp_path)
    table("table.csv", **columns)
    study = write_study(tmp_path / "s", with_table(**parameters))
    with pytest.raises(UserError) as error:
        run_stage("prepare", study, "mine")
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "s/tasks/mine.safetensors").exists()


def test_bad_data_stop_a_study_with_the_place_before_the_first_job(tmp_path):
    columns, parameters, words = BAD[1]
    workflow = Workflow(tmp_path / "w")
    table(workflow.folder / "table.csv", **columns)
    workflow.configure(with_table(**parameters))
    run = workflow.run("--keep-going")
    assert run.code != 0
    for word in words:
        assert word in run.output, run.output
    assert "Traceback" not in run.output
    assert not (workflow.folder / "results/mini/tasks/mine.safetensors").exists()
    assert not (workflow.folder / "results/mini/tasks/diabetes.safetensors").exists()


@pytest.mark.slow
def test_an_edited_table_is_prepared_anew(tmp_path):
    workflow = Workflow(tmp_path / "w")
    path = workflow.folder / "table.csv"
    table(path)
    config = with_table()
    del config["datasets"]["diabetes"]
    workflow.configure(config)
    assert workflow.run().code == 0
    assert "Nothing to be done" in workflow.run().output
    table(path, x=np.linspace(0, 1, 60))
    assert workflow.run("-n").jobs["prepare"] == 1


def test_a_mirror_that_is_no_folder_stops(tmp_path):
    workflow = Workflow(tmp_path / "w")
    config = copy.deepcopy(MINIATURE)
    config["data"] = {"mirror": "no/such/folder"}
    workflow.configure(config)
    run = workflow.run()
    assert run.code != 0
    assert "data.mirror: there is no folder no/such/folder" in run.output


def test_an_altered_download_stops_with_both_checksums(finished, tmp_path):
    workflow = Workflow(tmp_path / "w")
    folder = workflow.folder / "mirror" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"cut short")
    config = copy.deepcopy(MINIATURE)
    config["datasets"] = {"mnist": {"pairs": [[0, 1]]}}
    config["data"] = {"mirror": "mirror"}
    workflow.configure(config)
    run = workflow.run()
    assert run.code != 0
    for word in ("train-images-idx3-ubyte.gz: wrong checksum", "440fcabf", "Replace it"):
        assert word in run.output, run.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_asked_for_and_absent_stops_with_the_remedy(workflow):
    before = workflow.results()
    config = copy.deepcopy(MINIATURE) | {"device": "cuda"}
    config["methods"]["optimum"] = {"budget": 2}
    workflow.configure(config)
    run = workflow.run()
    assert run.code != 0
    assert "torch sees no GPU here" in run.output
    assert "Set `device: cpu`" in run.output
    kept = workflow.results()
    assert all(
        kept.get(n) == v for n, v in before.items() if n.startswith(("tasks", "immunized/alg1"))
    )


@pytest.mark.slow
def test_an_output_cut_short_is_named_and_made_anew_by_the_next_run(workflow):
    """A file from a bad disk, newer than what it was made from."""
    path = workflow.folder / "results/mini/immunized/alg1/digits.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    run = workflow.run()
    assert run.code != 0
    assert "alg1/digits.safetensors: damaged" in run.output
    assert "Run the same command again" in run.output
    run = workflow.run()
    assert run.code == 0, run.output
    assert run.jobs["immunize"] == 1
    assert path.read_bytes() == whole


def test_a_method_that_diverges_is_told_from_a_crash(workflow):
    before = workflow.results()
    config = copy.deepcopy(MINIATURE)
    config["methods"]["alg1"] = {"profile": "paper", "steps": 60, "eta": 1e6}
    workflow.configure(config)
    run = workflow.run()
    assert run.code != 0
    assert "diverged" in run.output
    assert "Lower its eta" in run.output
    untouched = [n for n in before if n.startswith(("tasks/", "immunized/optimum"))]
    assert all(workflow.results()[n] == before[n] for n in untouched)
