"""Features and labels from files, by the command line and in a study."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import immunization as im
from immunization.linear.own_tasks.feature_file import read_features, read_labels
from immunization.runtime.errors import UserError
from immunization.tools import assess, immunize


@pytest.fixture(scope="module")
def files(raw, tmp_path_factory):
    """The publisher's features in every format, with labels."""
    folder = tmp_path_factory.mktemp("files")
    x, y, z, c = raw
    np.save(folder / "benign.npy", x)
    np.savez(folder / "benign.npz", features=x, labels=y)
    save_file({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, folder / "benign.safetensors")
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(16)]).assign(label=y)
    frame.to_parquet(folder / "benign.parquet")
    pd.DataFrame({"embedding": list(x)}).to_parquet(folder / "lists.parquet")
    pd.DataFrame({"label": y}).to_csv(folder / "benign.csv", index=False)
    np.save(folder / "harmful.npy", z)
    names = np.array(["red", "green", "blue", "grey"])
    pd.DataFrame({"label": names[c]}).to_csv(folder / "harmful.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("name", "array", "without"),
    [
        ("benign.npy", None, []),
        ("benign.npz", None, []),
        ("benign.npz", "features", []),
        ("benign.safetensors", "x", []),
        ("benign.parquet", None, ["label"]),
        ("lists.parquet", None, []),
    ],
)
def test_every_format_gives_the_same_features_in_their_dtype(raw, files, name, array, without):
    read = read_features(files / name, array, without=without)
    assert read.dtype == torch.float32
    assert np.array_equal(read.numpy(), raw[0])


@pytest.mark.parametrize(
    ("name", "column"),
    [("benign.csv", None), ("benign.npz", "labels"), ("benign.safetensors", "y"),
     ("benign.parquet", "label")],
)  # fmt: skip
def test_every_format_gives_the_same_labels(raw, files, name, column):
    assert np.array_equal(read_labels(files / name, column), raw[1])


def test_what_is_no_file_of_features_is_one_message(files, tmp_path):
    (tmp_path / "cut.npy").write_bytes((files / "benign.npy").read_bytes()[:-100])
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "x.pt").write_bytes(b"pickle")
    np.savez(tmp_path / "two.npz", a=np.eye(3), b=np.eye(4))
    (tmp_path / "numbers.csv").write_text("3\n1\n2\n")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    cases = [
        (read_features, "gone.npy", "there is no such file"),
        (read_features, "cut.npy", "cannot be read as .npy"),
        (read_features, "objects.npy", "cannot be read as .npy"),
        (read_features, "x.pt", "pickles, which can run code.*numpy.save"),
        (read_features, "two.npz", "has several arrays; name one of a, b"),
        (read_labels, "numbers.csv", "where the name of the column should stand"),
        (read_labels, "two.csv", "has several columns; name one of a, b"),
    ]
    for read, name, told in cases:
        with pytest.raises(UserError, match=told):
            read(tmp_path / name)
    with pytest.raises(UserError, match="has no column 'lable'"):
        read_features(files / "benign.parquet", without=["lable"])


def test_a_misspelt_option_or_command_has_a_near_one(files, monkeypatch, capsys):
    from immunization.__main__ import main

    monkeypatch.chdir(files)
    for words, told in (
        (["assess", "benign.npy", "harmful.npy", "--harmfull-labels", "x"], "'--harmful-labels'"),
        (["asess"], "did you mean 'assess'"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert told in capsys.readouterr().err


def test_two_commands_make_and_assess_a_layer(files, tmp_path, capsys, monkeypatch, raw):
    monkeypatch.chdir(files)
    out = str(tmp_path / "layer.safetensors")
    immunize.main(["benign.npy", "harmful.npy", "--out", out])
    assert "Extractor by multiplicative" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assess.main(
        ["benign.npz", "harmful.npy", "--benign-labels", ":labels", "--harmful-labels",
         "harmful.csv", "--extractor", out, "--budget", "50", "--json", "--html", str(page)]
    )  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["ratios"]["rir"] == pytest.approx(told["ratios"]["limit"], rel=1e-2)
    assert "<table>" in page.read_text()
    layer = im.Extractor.load(out)
    assert np.isfinite(layer.transform(raw[0])).all()


def test_a_wrong_width_is_found_by_the_check_before_anything_runs(files, tmp_path, monkeypatch):
    np.save(tmp_path / "narrow.npy", np.random.default_rng(0).normal(size=(50, 5)))
    (tmp_path / "s.yaml").write_text(
        "study: s\ndatasets:\n"
        f"  mine: {{source: features, path: {files / 'benign.npy'}, harmful_path: narrow.npy}}\n"
        f"  gone: {{source: features, path: {files / 'benign.npy'}, harmful_path: gone.npy}}\n"
        "methods: {identity: {}}\nattacks: {gradient_descent: {}}\n"
    )
    command = [sys.executable, "-m", "immunization", "check", "s.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "datasets.gone.harmful_path: there is no file gone.npy" in done.stderr
    text = (tmp_path / "s.yaml").read_text()
    (tmp_path / "s.yaml").write_text("\n".join(x for x in text.splitlines() if "gone" not in x))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "datasets.mine: the benign task has 16 features and the harmful one 5" in done.stderr
    assert "Traceback" not in done.stderr
