"""What a user's arrays become, and what is refused rather than guessed."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import immunization as im


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, immunization as im; dir(im); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "pandas", "matplotlib", "sklearn", "scipy"}
    assert not {name.split(".")[0] for name in done.stdout.split()} & heavy


def test_every_public_name_can_be_had_and_others_are_refused():
    assert all(getattr(im, name) is not None for name in im.__all__)
    assert set(im.__all__) < set(dir(im))
    with pytest.raises(AttributeError, match="no attribute 'asses'"):
        _ = im.asses


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, pd.DataFrame])
def test_arrays_tensors_and_frames_are_one_task(make):
    values = [[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]
    task = im.Task(make(values), ["a", "b", "a"])
    assert torch.equal(task.features.double(), torch.tensor(values, dtype=torch.float64))
    assert task.classes == ["a", "b"]
    assert task.targets[:, 0].tolist() == [-1.0, 1.0, -1.0]


def test_the_dtype_of_features_is_kept_and_whole_numbers_are_exact():
    values = np.eye(4, 3)
    assert im.Task(values.astype(np.float16)).features.dtype == torch.float16
    assert im.Task(values.astype(np.uint8)).features.dtype == torch.float64
    assert im.Task(torch.eye(4, 3, dtype=torch.bfloat16)).features.dtype == torch.bfloat16


def test_several_classes_are_columns_against_the_rest():
    task = im.Task(np.eye(6, 3), [2, 0, 1, 2, 0, 1])
    assert task.targets.shape == (6, 3)
    assert (task.targets.argmax(1) == torch.tensor([2, 0, 1, 2, 0, 1])).all()
    assert (task.targets.sum(1) == -1).all()


def test_a_regression_target_is_standardised_and_test_rows_by_the_training_rows():
    y = np.array([1.5, 2.5, 6.0, 7.25])
    task = im.Task(np.eye(4, 3), y, test=(np.eye(2, 3), np.array([0.5, 9.0])))
    assert task.kind == "regression"
    assert np.allclose(task.targets[:, 0], (y - y.mean()) / y.std(ddof=1))
    assert np.allclose(task.test_targets[:, 0], (np.array([0.5, 9.0]) - y.mean()) / y.std(ddof=1))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0.0, 1.0, 2.0, 0.0], "Say which"),
        ([10, 20, 30, 40], "Say which"),
        (["a", "a", "a", "a"], "nothing to learn"),
        ([0, 1], "4 rows of features, and labels of shape"),
        ([0.5, float("nan"), 1.5, 2.5], "row 1 is nan"),
        ([1.5, 1.5, 1.5, 1.5], "the target is constant"),
        (["a", None, "b", "a"], "row 1 is missing"),
    ],
)
def test_labels_that_may_mean_two_things_or_nothing_are_refused(labels, told):
    with pytest.raises(im.UserError, match=told):
        im.Task(np.eye(4, 3), np.array(labels, dtype=object) if None in labels else labels)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (np.zeros(4), "shape .4,."),
        (np.array([["a", "b"]] * 4), "numbers are needed"),
        (np.array([[1, np.inf]] * 4), "row 0, column 1 is inf"),
        (np.zeros((0, 3)), "no data"),
        (np.ones((4, 3), dtype=complex), "numbers are needed"),
    ],
)
def test_features_that_are_no_finite_matrix_are_refused(features, told):
    with pytest.raises(im.UserError, match=told):
        im.Task(features)


def test_a_class_that_only_test_rows_have_is_refused():
    with pytest.raises(im.UserError, match="row 1 has the class 'c'"):
        im.Task(np.eye(4, 3), list("abab"), test=(np.eye(2, 3), ["a", "c"]))
