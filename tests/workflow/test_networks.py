"""A real miniature study of networks through real Snakemake."""

import copy
import json
import re
import shutil

import pandas as pd
import pytest
import yaml

from immunization.reporting.text import format_number
from immunization.runtime.files.io import read_table, read_tensors
from immunization.study.components import components
from tests.networks.conftest import write_folder
from tests.studies import run_stage

from .conftest import ROOT, Workflow

MINIATURE = {
    "study": "mini",
    "seeds": [0, 1],
    "device": "cpu",
    "datasets": {
        "benign": {"source": "image_folder", "path": "pictures/benign"},
        "harm": {"source": "image_folder", "path": "pictures/harm"},
        "other": {"source": "image_folder", "path": "pictures/other"},
    },
    "primary": "benign",
    "harmful": ["harm"],
    "third_tasks": ["other"],
    "networks": {
        "resnet": {"name": "test_resnet", "epochs": 2, "batch": 20},
        "vit": {
            "name": "test_vit", "arguments": {"patch_size": 8}, "epochs": 2, "batch": 20,
            "optimiser": "adamw", "learning_rate": 0.001,
        },
    },
    "methods": {
        "identity": {},
        "alg1_paper": {"use": "alg1", "profile": "paper", "steps": 3},
        "alg1_corrected": {
            "use": "alg1", "batch": 64, "steps": 3, "overrides": {"vit": {"eta": 0.001}},
        },
        "optimum": {},
    },
    "attacks": {
        "linear_probe": {"steps": 12, "batch": 16},
        "last_stage": {"batch": 16, "learning_rates": [0.001, 0.01], "sweep": {"steps": [3]}},
        "scratch": {"steps": 2, "batch": 16, "learning_rates": [0.001]},
    },
    "spectrum": {
        "rows": 400, "groups": 3, "group_rows": 20, "density_rows": 16, "density_steps": 4,
        "probe_rows": 60, "probe_products": 40,
    },
}  # fmt: skip


def checkout(folder):
    workflow = Workflow(folder)
    for place, (name, classes, rows) in enumerate(
        (("benign", 4, 30), ("harm", 5, 24), ("other", 3, 16))
    ):
        write_folder(folder / "pictures" / name, classes, rows, place, side=40)
    workflow.configure(copy.deepcopy(MINIATURE))
    return workflow


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workflow = checkout(tmp_path_factory.mktemp("networks"))
    workflow.first = workflow.run()
    assert workflow.first.code == 0, workflow.first.output
    return workflow


def test_the_study_ends_with_every_file_and_one_job_a_method_and_attacker(done):
    jobs = done.first.jobs
    assert jobs == {
        "study": 1, "prepare": 3, "pretrain": 2, "immunize": 4, "spectrum": 1, "attack": 3,
        "tables": 1, "figure_fine_tuning": 1, "figure_slowdown": 1, "figure_spectra": 1,
        "figure_density": 1, "report_page": 1, "manifest": 1,
    }  # fmt: skip
    names = set(done.results())
    tables = ("table3", "spectra", "attacks", "resistance", "hessians", "claims")
    assert {f"tables/{t}.{s}" for t in tables for s in ("csv", "md", "tex")} <= names
    figures = components("networks/figures")
    assert {
        f"figures/{f}.{n}-harm.{s}"
        for f in figures for n in ("resnet", "vit") for s in ("svg", "png", "txt")
    } <= names  # fmt: skip
    page = (done.folder / "results/mini/report.html").read_text()
    assert "resnet against harm" in page
    for words in ("Best linear probe against best linear probe", "claims, ", "θ₀ has"):
        assert words in page
    assert not re.search(r"\bnan\b", re.sub(r"data:image[^\"]*", "", page), re.IGNORECASE)
    # Nothing unfinished is left of pre-training and immunization.
    progress = done.folder / "results" / "mini" / "progress"
    for stage in ("pretrain", "immunize"):
        assert not [p for p in (progress / stage).rglob("*") if p.is_file()]


def test_every_number_of_the_tables_is_that_of_the_spectra(done):
    base = done.folder / "results" / "mini"
    spectra = read_table(base / "spectrum" / "spectra.parquet")
    assert spectra.attrs["provenance"]["parameters"]["group_rows"] == 20
    assert len(spectra) == 2 * 4 * 2 * 3  # networks, methods, seeds, roles
    assert (spectra["eigenvalues"].map(len) == spectra["rank"]).all()
    assert (spectra["eigenvalues"].map(lambda v: v[-1] / v[0]) == spectra["kappa"]).all()
    table = pd.read_csv(base / "tables" / "table3.csv").set_index(["network", "method"])
    wide = spectra.set_index(["network", "method", "seed", "role"])["kappa"]
    for network in ("resnet", "vit"):
        ratio = [
            wide[network, "optimum", s, "H"] / wide[network, "identity", s, "H"] for s in (0, 1)
        ]
        assert table.loc[(network, "optimum"), "full_i_mean"] == pytest.approx(sum(ratio) / 2)
        # The closed form keeps answers on D_P.
        assert table.loc[(network, "optimum"), "accuracy_p_lost"] == pytest.approx(0, abs=0.03)
    assert table["published_rir"].isna().all()  # other data than the paper's
    told = pd.read_csv(base / "tables" / "spectra.csv")
    shown = (base / "tables" / "spectra.md").read_text().splitlines()
    place = [cell.strip() for cell in shown[0].split("|")].index("κ")
    cells = [line.split("|")[place].strip() for line in shown[2:]]
    assert cells == [format_number(value) for value in told["kappa"]]
    curves = read_table(base / "attack" / "scratch.curves.parquet")
    assert set(curves["method"]) == {"identity"}
    assert set(curves["role"]) == {"H", "T"}


def test_immunized_networks_share_the_trunk_and_hold_their_seeds(done):
    base = done.folder / "results" / "mini"
    tensors, metadata = read_tensors(base / "immunized" / "alg1_corrected" / "vit.harm.safetensors")
    assert metadata["seeds"] == [0, 1]
    assert metadata["provenance"]["parameters"]["eta"] == 0.001
    assert all(n.startswith(("seed0.tail", "seed0.head", "seed1.")) for n in tensors)


def test_a_second_call_does_nothing_and_a_new_attacker_runs_its_own_job(done, tmp_path):
    assert "Nothing to be done" in done.run().output
    folder = tmp_path / "copy"
    shutil.copytree(done.folder, folder, copy_function=shutil.copy2)
    own = Workflow.__new__(Workflow)
    own.folder = folder
    config = copy.deepcopy(MINIATURE)
    config["attacks"]["frozen"] = {
        "use": "last_stage", "batch_norm": "frozen", "steps": 2, "batch": 16,
        "learning_rates": [0.01],
    }  # fmt: skip
    own.configure(config)
    run = own.run("-n")
    assert run.jobs["attack"] == 1
    assert "immunize" not in run.jobs
    assert "spectrum" not in run.jobs
    module = folder / "src" / "immunization" / "networks" / "figures" / "spectra.py"
    module.write_text(module.read_text() + "\nMORE = 1\n")
    own.configure(copy.deepcopy(MINIATURE))
    assert own.run("-n").jobs == {"figure_spectra": 1, "report_page": 1, "manifest": 1}


def test_threads_are_recorded_and_cores_change_nothing(done):
    _, metadata = read_tensors(done.folder / "results/mini/pretrained/resnet.safetensors")
    assert metadata["provenance"]["parameters"]["threads"] == 1
    assert "Nothing to be done" in done.run("--cores", "1").output
    try:
        done.configure(copy.deepcopy(MINIATURE) | {"threads": 2})
        run = done.run("-n")
    finally:
        done.configure(copy.deepcopy(MINIATURE))
    assert [run.jobs[rule] for rule in ("pretrain", "immunize", "attack")] == [2, 4, 3]


def test_the_workflow_of_networks_passes_snakemakes_own_lint(done):
    run = done.run("--lint")
    assert run.code == 0, run.output
    assert "Congratulations" in run.output


def test_both_studies_that_ship_are_complete(tmp_path):
    workflow = Workflow(tmp_path / "w")
    for name, immunize in (("deepnets", 7), ("imagenet", 7)):
        run = workflow.run("-n", config=f"config/{name}.yaml")
        assert run.code == 0, run.output
        assert run.jobs["immunize"] == immunize
        assert run.jobs["pretrain"] == 2


def test_missing_data_stop_the_papers_study_with_what_to_fetch(tmp_path):
    workflow = Workflow(tmp_path / "w")
    run = workflow.run(
        "--show-failed-logs", "results/imagenet/images/stanford_cars.safetensors",
        config="config/imagenet.yaml",
    )  # fmt: skip
    assert run.code != 0
    assert "stanford_cars/cars_train/*.jpg" in run.output
    assert "Traceback" not in run.output.split("stanford_cars' is not on this machine")[0][-2000:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"primary": "bening"}, ["primary: no image data set 'bening'", "'benign'"]),
        ({"harmful": ["benign"]}, ["'benign' is already primary"]),
        ({"attack": {"target": 0.6}}, ["attack.lower_target: 0.7 should be less than", "0.6"]),
        ({"third_tasks": ["cars"]}, ["third_tasks: no image data set 'cars'"]),
        ({"networks": {"r": {"use": "resnt"}}}, ["networks.r: no family of networks", "'resnet'"]),
        ({"methods": {"alg1": {}}}, ["`identity: {}` is missing"]),
        (
            {"methods": {"identity": {}, "alg1": {"overrides": {"cnn": {"eta": 1}}}}},
            ["methods.alg1.overrides: no network 'cnn'"],
        ),
        ({"attacks": {"lora": {"rank": 0}}}, ["attacks.lora.rank: 0 must be at least 1"]),
        ({"size": 2}, ["size: 2 must be at least 8"]),
        ({"images": {}}, ["'images' (now called 'datasets')"]),
    ],
)
def test_a_wrong_key_is_named_with_its_remedy(change, words):
    from immunization.runtime.errors import UserError
    from immunization.study.resolve import resolve

    with pytest.raises(UserError) as error:
        resolve(copy.deepcopy(MINIATURE) | change)
    for word in words:
        assert word in str(error.value), str(error.value)


def test_every_key_and_parameter_of_networks_is_documented():
    from immunization.study.kinds import NETWORKS, schema
    from tests.study.test_config import keys

    text = (ROOT / "config" / "networks.md").read_text()
    for name, rule in keys(schema(NETWORKS)):
        assert f"`{name}`" in text, f"config/networks.md does not explain {name}"
        assert rule["description"] in text, name
    for kind in NETWORKS.components.values():
        for component in components(kind.folder).values():
            assert f"`{component.name}`" in text, component.path
            for parameter, rule in component.parameters.items():
                assert rule["description"] in text, (component.path, parameter)
                assert f"`{parameter}`" in text, (component.path, parameter)


def test_the_guide_to_networks_draws_every_rule():
    rules = set()
    for path in (ROOT / "workflow" / "rules" / "networks").glob("*.smk"):
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE))
    text = (ROOT / "docs" / "networks.md").read_text()
    graph = re.search(r"```mermaid\n(.*?)```", text, re.DOTALL)[1]
    for rule in rules - {"report_page"}:
        assert rule in graph
    config = yaml.safe_load((ROOT / "config" / "deepnets.yaml").read_text())
    assert set(config["networks"]) == {"resnet18", "vit"}


def test_tables_figures_and_the_report_by_hand_are_those_of_the_workflow(
    done, tmp_path, monkeypatch
):
    """Their command lines, in this process, on the files of the finished study."""
    base = done.folder / "results" / "mini"
    here = tmp_path / "mini"
    made = ("tables", "figures", "report.html", ".report.html.seal")
    shutil.copytree(base, here, ignore=shutil.ignore_patterns(*made))
    monkeypatch.chdir(tmp_path)  # the study lies elsewhere by now
    study = here / "study.json"
    run_stage("tables", study)
    labels = list(json.loads(study.read_text())["order"]["figures"])
    for label in labels:
        run_stage("figure", study, label)
    run_stage("report", study)
    found = [
        path
        for name in ("tables", "figures", "report.html")
        for path in sorted((here / name).rglob("*")) or [here / name]
        if path.suffix != ".seal"
    ]
    assert len(found) == 6 * 3 + len(labels) * 2 * 3 + 1
    for path in found:
        assert path.read_bytes() == (base / path.relative_to(here)).read_bytes(), path
