"""Data sets: tasks mean what they say, and bad data stop with the place and a remedy."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch

from hessian_spectrum import factor_condition, probe_spectrum
from immunization.data.download import Place
from immunization.data.mnist_files import read_idx
from immunization.linear.attacks import (
    conjugate_gradients,
    gradient_descent,
    least_squares,
    nesterov,
)
from immunization.linear.attacks._objective import AttackPlan
from immunization.linear.attacks._quadratic import Quadratic
from immunization.linear.datasets import csv_table, diabetes, digits, house_prices, mnist
from immunization.linear.datasets._labelled import Labelled
from immunization.linear.files import load_task_set, save_task_set
from immunization.runtime.errors import UserError

from .conftest import defaults, task_set

NOWHERE = Place(None, None)


def test_one_vs_rest_is_balanced_and_its_tasks_share_no_rows():
    source = digits.load({}, NOWHERE)
    tasks = task_set(source, "one_vs_rest", seeds=(0, 1))
    for s in range(2):
        for b, (p, h) in enumerate(tasks.pair_names):
            pair = [tasks.tasks[i] for i in tasks.task_index[s, b].tolist()]
            rows = {}
            for task, own, other in zip(pair, (int(p), int(h)), (int(h), int(p)), strict=True):
                for part in ("train", "test"):
                    labels = getattr(task, f"{part}_labels")
                    index = getattr(task, f"{part}_rows").numpy()
                    assert labels.sum() == 0
                    truth = source.labels[index]
                    assert ((truth == own) == (labels.numpy() > 0)).all()
                    assert other not in truth
                    rows[part, own] = set(index.tolist())
                assert not rows["train", own] & rows["test", own]
            assert not rows["train", int(p)] & rows["train", int(h)]


def test_digit_tasks_hold_all_rows_of_a_class_and_are_shared_between_pairs():
    tasks = task_set(digits.load({}, NOWHERE))
    assert len(tasks.tasks) == 10
    assert len(tasks.pair_names) == 90
    total = sum(len(t.train_rows) + len(t.test_rows) for t in tasks.tasks)
    assert total == 1797
    assert float(tasks.features(torch.arange(1797)).max()) == 1.0


def test_seeds_draw_different_splits_and_the_same_seed_the_same():
    source = digits.load({}, NOWHERE)
    first, again, other = (task_set(source, seeds=(s,)) for s in (0, 0, 1))
    assert torch.equal(first.tasks[3].train_rows, again.tasks[3].train_rows)
    assert not torch.equal(first.tasks[3].train_rows, other.tasks[3].train_rows)


def test_diabetes_targets_and_sex_are_not_among_the_features():
    source = diabetes.load({}, NOWHERE)
    assert source.primary.features.shape == (235, 8)
    assert source.harmful.features.shape == (207, 8)
    for part in (source.primary, source.harmful):
        assert np.allclose(part.features.std(0, ddof=1), 1)
        correlations = part.features.T @ part.target / (len(part.target) - 1)
        assert np.abs(correlations).max() < 0.9


def test_pairs_that_do_not_exist_and_too_few_negatives_are_refused(source):
    with pytest.raises(UserError, match=r"\[0, 9\].*classes are \[0, 1, 2, 3\]"):
        task_set(source, pairs=[[0, 9]])
    two = Labelled(source.inputs[:80], source.labels[:80])
    with pytest.raises(UserError, match="negatives"):
        task_set(two, "one_vs_rest")


def test_a_class_without_training_rows_is_refused():
    labels = np.array([0, 0, 1, 1])
    source = Labelled(np.ones((4, 3)), labels, test=np.array([False, False, True, True]))
    with pytest.raises(UserError, match="class 1 has no training rows"):
        task_set(source)


def test_non_finite_inputs_are_refused_with_their_place(source):
    inputs = source.inputs.copy()
    inputs[50, 4] = np.inf
    with pytest.raises(UserError, match=r"task '1'.*row 50, column 4"):
        task_set(Labelled(inputs, source.labels), test_fraction=0.01)


def test_a_task_set_survives_its_file(source, tmp_path):
    before = task_set(source, "one_vs_rest", rows_per_class=14)
    save_task_set(tmp_path / "t.safetensors", before)
    after = load_task_set(tmp_path / "t.safetensors")
    assert after.pair_names == before.pair_names
    assert torch.equal(after.task_index, before.task_index)
    for one, two in zip(after.tasks, before.tasks, strict=True):
        assert one.name == two.name
        assert torch.equal(one.train_rows, two.train_rows)
        assert torch.equal(one.test_labels, two.test_labels)
    for name, tensor in before.statistics.items():
        assert torch.equal(after.statistics[name], tensor)


# A CSV table of a user


def table(tmp_path, **columns):
    random = np.random.default_rng(0)
    data = {
        "group": ["a"] * 20 + ["b"] * 20,
        "x": random.normal(size=40),
        "colour": random.choice(["red", "green"], 40),
        "p": random.normal(size=40),
        "h": random.normal(size=40),
    }
    data |= columns
    path = tmp_path / "table.csv"
    pd.DataFrame({k: v for k, v in data.items() if v is not None}).to_csv(path, index=False)
    return defaults("datasets", "csv_table") | {
        "path": str(path),
        "split_column": "group",
        "primary_values": ["a"],
        "harmful_values": ["b"],
        "primary_target": "p",
        "harmful_target": "h",
        "categories": ["colour"] if "colour" in data and data["colour"] is not None else [],
    }


def holed(value):
    values = np.linspace(0, 1, 40)
    values[25] = value
    return values


def test_a_csv_table_becomes_two_standardised_parts(tmp_path):
    parts = csv_table.load(table(tmp_path), NOWHERE)
    assert parts.columns == ["x", "colour=green", "colour=red"]
    assert parts.primary.features.shape == (20, 3)
    assert parts.primary.name == "p where group is a"
    built = parts.build("mine", {"rows": None, "test_fraction": 0.25, "tolerance": None}, [0, 1])
    assert [len(t.train_rows) for t in built.tasks] == [15] * 4


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"h": None}, ["table.csv", "'h' is missing", "group, x, colour, p"]),
        ({"x": holed(np.nan)}, ["table.csv", "'x'", "row 27", "missing or infinite", "zero"]),
        ({"x": holed(np.inf)}, ["table.csv", "'x'", "row 27", "missing or infinite"]),
        ({"group": ["a"] * 40}, ["'b'", "empty class", "'group'", "these occur: 'a'"]),
        ({"p": [1.0] * 40}, ["'p'", "constant", "Choose another"]),
        ({"colour": ["red"] * 39 + [None]}, ["'colour'", "row 41", "missing or infinite"]),
        ({"x": None, "colour": None}, ["no feature columns"]),
        ({"p": ["text"] * 40}, ["'p'", "text ('text'), not numbers"]),
    ],
)
def test_a_bad_csv_table_is_refused_with_its_place(tmp_path, columns, words):
    with pytest.raises(UserError) as error:
        csv_table.load(table(tmp_path, **columns), NOWHERE)
    for word in words:
        assert word in str(error.value), str(error.value)


def test_missing_values_may_be_filled_with_zero_and_infinite_ones_may_not(tmp_path):
    csv_table.load(table(tmp_path, x=holed(np.nan)) | {"missing": "zero"}, NOWHERE)
    with pytest.raises(UserError, match="infinite"):
        csv_table.load(table(tmp_path, x=holed(np.inf)) | {"missing": "zero"}, NOWHERE)


def test_missing_targets_are_never_filled_and_parts_may_not_overlap(tmp_path):
    with pytest.raises(UserError, match="'p', row 27"):
        csv_table.load(table(tmp_path, p=holed(np.nan), group=["b"] * 20 + ["a"] * 20)
                       | {"missing": "zero"}, NOWHERE)  # fmt: skip
    with pytest.raises(UserError, match="both D_P and D_H"):
        csv_table.load(table(tmp_path) | {"harmful_values": ["a", "b"]}, NOWHERE)


def test_a_task_of_rank_one_or_of_nothing_is_refused(tmp_path):
    source = csv_table.load(table(tmp_path, colour=None), NOWHERE)
    with pytest.raises(UserError, match=r"task 'p where group is a'.*rank 1"):
        source.build("mine", {"rows": None, "test_fraction": 0.0, "tolerance": None}, [0])
    source = csv_table.load(table(tmp_path, colour=None, x=[1.0] * 40), NOWHERE)
    with pytest.raises(UserError, match="The feature matrix is zero"):
        source.build("mine", {"rows": None, "test_fraction": 0.0, "tolerance": None}, [0])


def test_a_csv_file_that_is_absent_or_empty_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        csv_table.load(table(tmp_path) | {"path": str(tmp_path / "none.csv")}, NOWHERE)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UserError, match="not a readable CSV"):
        csv_table.load(table(tmp_path) | {"path": str(tmp_path / "empty.csv")}, NOWHERE)


def test_an_idx_file_that_is_cut_short_is_refused(tmp_path):
    images = np.zeros((2, 28, 28), np.uint8)
    whole = b"\0\0\x08\x03" + np.array(images.shape, ">i4").tobytes() + images.tobytes()
    path = tmp_path / "images.gz"
    for bytes_ in (gzip.compress(whole)[:-9], gzip.compress(whole[:-5]), b"text"):
        path.write_bytes(bytes_)
        with pytest.raises(UserError, match=r"images\.gz: not a whole IDX file"):
            read_idx(path)
    path.write_bytes(gzip.compress(whole))
    assert read_idx(path).shape == (2, 28, 28)


# The paper's data, where they are at hand


@pytest.mark.data
def test_house_prices_have_the_known_ranks_and_condition_numbers(public_data):
    source = house_prices.load({}, Place(public_data, public_data))
    expected = {None: ((74, 254.1), (76, 209.0)), 200: ((74, 7732.4), (74, 208019))}
    for rows, known in expected.items():
        built = source.build(
            "house", {"rows": rows, "test_fraction": 0.0, "tolerance": None}, [0, 1]
        )
        problem = built.problem(1)
        for task, (rank, kappa) in zip((problem.primary, problem.harmful), known, strict=True):
            factor = task.range_factor(0)
            assert factor.rank == rank
            assert factor_condition(factor) == pytest.approx(kappa, rel=2e-4)


@pytest.mark.data
def test_attackers_of_house_prices_take_the_known_numbers_of_steps(public_data):
    """On the first 200 rows, to a loss gap of 0.1 %."""
    source = house_prices.load({}, Place(public_data, public_data))
    problem = source.build(
        "house", {"rows": 200, "test_fraction": 0.0, "tolerance": None}, [0]
    ).problem(0)
    task = problem.harmful
    spectrum = probe_spectrum(task.factor, task.targets, task.ranks, problem.identity())
    quadratic = Quadratic.build(spectrum.eigenvalues, spectrum.coefficients)
    plan = AttackPlan(20_000, 1e-3, [0, 1])
    one = torch.ones(1, 1, dtype=torch.float64)
    for family, parameters, known in (
        (gradient_descent, {"step": "inverse_l", "factor": one}, 309),
        (gradient_descent, {"step": "line_search", "factor": one}, 148),
        (nesterov, {"momentum": "schedule"}, 45),
        (conjugate_gradients, {}, 16),
        (least_squares, {"ridge": 0 * one}, 1),
    ):
        assert family.attack(quadratic, parameters, plan).steps.tolist() == [[known]]


@pytest.mark.data
def test_mnist_is_read_whole_and_keeps_its_own_split(public_data):
    parameters = defaults("datasets", "mnist")
    source = mnist.load(parameters, Place(public_data, public_data))
    assert source.inputs.shape == (70_000, 784)
    assert int(source.test.sum()) == 10_000
    normalised = source.inputs[:60_000].astype(float).mean() * source.scale + source.shift
    assert abs(normalised) < 1e-3
    built = source.build("mnist", parameters | {"pairs": [[0, 1]], "rows_per_class": 50}, [0])
    assert [len(t.train_rows) for t in built.tasks] == [50, 50]
    assert [len(t.test_rows) for t in built.tasks] == [980, 1135]
