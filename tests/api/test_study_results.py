"""A study of a user's own features, and what is read back of it."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import immunization as im
from immunization.linear.files import load_task_set
from immunization.tools import export, report
from tests.studies import run_study


@pytest.fixture(scope="module")
def study(raw, tmp_path_factory):
    """Two files with several classes, the classes of one file, and digits."""
    folder = tmp_path_factory.mktemp("own")
    x, y, z, c = raw
    np.save(folder / "benign.npy", x)
    np.save(folder / "harmful.npy", z)
    pd.DataFrame({"label": y}).to_csv(folder / "benign.csv", index=False)
    names = np.array(["red", "green", "blue", "grey"])[c]
    pd.DataFrame(z).rename(columns=str).assign(colour=names).to_parquet(folder / "one.parquet")
    pd.DataFrame({"label": names}).to_csv(folder / "harmful.csv", index=False)
    two = {
        "source": "features", "path": str(folder / "benign.npy"),
        "labels": str(folder / "benign.csv"), "harmful_path": str(folder / "harmful.npy"),
        "harmful_labels": str(folder / "harmful.csv"),
    }  # fmt: skip
    raw_config = {
        "study": "own",
        "seeds": [0, 1],
        "datasets": {
            "two": two,
            "joint": two | {"scale": "joint", "test_fraction": 0.0},
            "within": two | {"scale": "within", "test_fraction": 0.0},
            "classes": {
                "source": "features", "path": str(folder / "one.parquet"),
                "label_column": "colour", "task": "digit",
                "pairs": [["red", "blue"], ["blue", "red"]],
            },
            "digits": {"pairs": [[0, 1]], "rows_per_class": 60},
        },
        "methods": {"identity": {}, "optimum": {}, "erase": {}},
        "attacks": {"gradient_descent": {}, "least_squares": {}, "kernel_ridge": {}},
        "attack": {"budget": 100, "curve_steps": 50},
        "figures": {"limit": {}},
    }  # fmt: skip
    run_study(folder / "results", raw_config)
    return im.load_study(folder / "results")


def raw_rows(study, dataset, raw):
    """A user's rows of D_P and D_H under the first seed, as the arrays have them."""
    x, _, z, _ = raw
    if dataset in ("joint", "within"):
        return x.astype(float), z.astype(float)
    whole = z.astype(float)
    if dataset == "digits":
        from sklearn.datasets import load_digits

        whole = load_digits().data
    tasks = load_task_set(study.tasks_file(dataset))
    return [whole[tasks.tasks[k].train_rows.numpy()] for k in tasks.task_index[0, 0].tolist()]


@pytest.mark.parametrize("dataset", ["joint", "within", "classes", "digits"])
def test_an_extractor_of_a_study_gives_its_kappa_from_raw_inputs(study, raw, dataset):
    """Scaling included, recomputed by numpy from the user's own arrays."""
    layer = study.extractor("optimum", dataset, seed=0)
    spectra = study_frame(study, "spectra")
    said = ("benign", "harmful") if dataset == "within" else (None, None)
    for role, rows, name in zip("PH", raw_rows(study, dataset, raw), said, strict=True):
        row = spectra[
            (spectra["dataset"] == dataset) & (spectra["method"] == "optimum")
            & (spectra["seed"] == 0) & (spectra["pair"] == 0) & (spectra["role"] == role)
        ].iloc[0]  # fmt: skip
        values = np.linalg.svd(layer.transform(rows, name), compute_uv=False)[: row["rank"]]
        assert (values[0] / values[-1]) ** 2 == pytest.approx(row["kappa"], rel=1e-5)


def study_frame(study, name):
    return pd.read_parquet(study.folder / "spectrum" / f"{name}.parquet")


def test_several_classes_share_one_theta_and_an_accuracy_of_the_largest_score(study):
    steps = study._paths.attack("two", "simulated")[0]
    frame = pd.read_parquet(steps)
    frame = frame[(frame["attack"] == "least_squares") & (frame["role"] == "H")]
    one = frame[(frame["method"] == "identity") & (frame["seed"] == 0)]
    assert len(one) == 4
    assert (one["accuracy_end"] == one["accuracy_end"].iloc[0]).all()
    assert one["accuracy_end"].iloc[0] > 0.7
    erased = frame[(frame["method"] == "erase") & (frame["seed"] == 0)]
    assert erased["accuracy_end"].iloc[0] < 0.4
    assert [h.split(": ")[1] for _, h in study.pairs("two")] == ["blue", "green", "grey", "red"]
    best = study_frame(study, "ratios")
    best = best[(best["dataset"] == "two") & (best["seed"] == 0)].set_index("method")["accuracy_h"]
    assert best["erase"].max() < 0.4  # and not the share of the rest, which guessing gets
    exact = one["accuracy_end"].iloc[0]
    assert np.allclose(best["identity"], exact)
    thetas = [study.theta("optimum", "two", pair=k) for k in range(4)]
    assert all((theta == thetas[0]).all() for theta in thetas)
    assert study.pairs("classes") == [("red", "blue"), ("blue", "red")]


def test_the_report_says_what_a_task_is(study):
    page = study.report.read_text()
    assert page.count("Each task is a file") == 3  # two, joint, within
    assert page.count("A task is the inputs of one class") == 2  # classes, digits


def test_tables_and_figures_are_read_and_misspelt_names_have_near_ones(study):
    assert set(study.tables["ratios"]["method"]) == {"identity", "optimum", "erase"}
    assert "ratios" in study.tables
    assert study.figure("limit", "two")._repr_svg_().lstrip().startswith("<?xml")
    with pytest.raises(im.UserError, match="did you mean 'ratios'"):
        study.tables["ratio"]
    with pytest.raises(im.UserError, match="did you mean 'optimum'"):
        study.extractor("optimun", "two")
    with pytest.raises(im.UserError, match="has no pair"):
        study.extractor("optimum", "classes", pair=("red", "grey"))
    with pytest.raises(im.UserError, match="has seeds 0, 1"):
        study.extractor("optimum", "two", seed=7)


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
@pytest.mark.parametrize("dataset", ["within", "classes", "digits"])
def test_an_exported_layer_loads_by_its_cards_own_lines(
    study, dataset, suffix, tmp_path, capsys, monkeypatch
):
    out = tmp_path / f"layer.{suffix}"
    export.main([str(study.folder), "--method", "optimum", "--dataset", dataset, "--out", str(out)])
    assert capsys.readouterr().out.split() == [
        str(tmp_path / name) for name in (out.name, "layer.md", "layer.check.npz")
    ]
    card = (tmp_path / "layer.md").read_text()
    assert "What it withstands" in card
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], scope)
    assert scope["module"].weight.shape[0] == scope["layer"].width


def test_report_prints_verdicts_and_tables_for_programs(study, capsys):
    report.main([str(study.folder)])
    told = capsys.readouterr().out
    assert "verdict" in told
    assert "report.html" in told
    report.main([str(study.folder), "--json"])
    assert len(json.loads(capsys.readouterr().out)["ratios"]) == 15


def test_a_folder_without_a_study_is_one_message(tmp_path):
    with pytest.raises(im.UserError, match=r"holds no study\.json"):
        im.load_study(tmp_path)
