"""A user's CSV file: what a cell is, which columns are features, and how they are scaled."""

import bz2
import gzip
import lzma
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from hessian_spectrum import factor_condition, immunizability_limit
from immunization.data.download import Place
from immunization.linear.datasets import csv_table
from immunization.linear.datasets._paired import standardised_part
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_metadata
from tests.studies import run_stage, write_study

from .conftest import defaults

NOWHERE = Place(None, None)
N = 30


def frame(seed=0):
    random = np.random.default_rng(seed)
    data = pd.DataFrame({c: random.normal(size=2 * N).round(4) for c in "xyzuv"})
    data.insert(0, "part", ["p"] * N + ["h"] * N)
    data["x"] = (data.x * 5000 + 20000).round()
    return data


def config(path, **given):
    return defaults("datasets", "csv_table") | {
        "path": str(path), "split_column": "part", "primary_values": ["p"],
        "harmful_values": ["h"], "primary_target": "u", "harmful_target": "v",
    } | given  # fmt: skip


def loaded(data, tmp_path, **given):
    path = tmp_path / "t.csv"
    if isinstance(data, str):
        path.write_text(data)
    else:
        data.to_csv(path, index=False)
    return csv_table.load(config(path, **given), NOWHERE)


def refused(data, tmp_path, *words, **given):
    with pytest.raises(UserError) as error:
        loaded(data, tmp_path, **given)
    for word in words:
        assert word in str(error.value), str(error.value)


def column(parts, name="x"):
    place = parts.columns.index(name)
    return np.concatenate([parts.primary.features[:, place], parts.harmful.features[:, place]])


ODD = {
    "?": ("'?' is no number", {"na_values": ["?"], "missing": "zero"}),
    "n.a.": ("'n.a.' is no number", {"na_values": ["n.a."], "missing": "zero"}),
    "21000 m": ("with a unit", None),
    "$21000": ("is no number", None),
    "2020-01-05": ("looks like a date", None),
    "12:30": ("is no number", None),
    "1_000": ("is no number", None),
    "0x10": ("is no number", None),
    "-": ("is no number", {"na_values": ["-"], "missing": "zero"}),
}


@pytest.mark.parametrize("cell", ODD)
def test_one_odd_cell_among_numbers_is_refused_with_its_row(cell, tmp_path):
    words, remedy = ODD[cell]
    data = frame()
    data["x"] = [cell if i == 3 else f"{v:.0f}" for i, v in enumerate(data.x)]
    refused(data, tmp_path, "t.csv", "'x'", "row 5", words)
    if remedy:
        parts = loaded(data, tmp_path, **remedy)
        assert np.isfinite(parts.primary.features).all()


@pytest.mark.parametrize(
    ("style", "words", "remedy"),
    [
        (lambda v: f"{v:,.0f}", "thousands separator", {"thousands": ","}),
        (lambda v: f"{v:,.0f}".replace(",", "."), None, {"thousands": ".", "decimal": ","}),
        (lambda v: f"{v:,.0f}".replace(",", " "), "thousands separator", {"thousands": " "}),
        (lambda v: f"{v:.1f}".replace(".", ","), "decimal comma", {"decimal": ","}),
        (lambda v: f"{100 * v:.0f}%", "percentage", {"dtype": {"x": "percent"}}),
        (lambda v: f"{100 * v:.0f} %", "percentage", {"dtype": {"x": "percent"}}),
    ],
)
def test_numbers_in_another_style_are_refused_or_read_as_the_config_says(
    style, words, remedy, tmp_path
):
    data = frame()
    wanted = column(loaded(data, tmp_path))
    styled = data.assign(x=[style(v) for v in data.x])
    if words:
        refused(styled, tmp_path, "'x'", words)
    if "decimal" in remedy:
        others = {c: data[c].astype(str).str.replace(".", ",") for c in "yzuv"}
        styled = styled.assign(**others)
    found = column(loaded(styled, tmp_path, **remedy))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_dates_and_booleans_with_gaps_become_numbers_on_request(tmp_path):
    data = frame()
    days = pd.date_range("2020-01-31", periods=2 * N)[np.random.default_rng(0).permutation(2 * N)]
    data["when"] = days.strftime("%Y-%m-%d")
    refused(data, tmp_path, "'when'", "looks like a date")
    parts = loaded(data, tmp_path, dtype={"when": "date"}, scale="none")
    since = (days - pd.Timestamp("1970-01-01")).days
    np.testing.assert_array_equal(column(parts, "when"), since)
    flags = ["True" if i % 3 else "False" for i in range(2 * N)]
    flags[7] = ""
    data = frame().assign(flag=flags)
    refused(data, tmp_path, "'flag'", "row 9", "missing")
    parts = loaded(data, tmp_path, missing="zero", scale="none")
    expected = [0.0 if i % 3 == 0 or i == 7 else 1.0 for i in range(2 * N)]
    np.testing.assert_array_equal(column(parts, "flag"), expected)


def test_text_is_a_feature_where_named_and_encoded_alike_in_both_parts(tmp_path):
    data = frame()
    data["colour"] = ["red", "green"] * (N // 2) + ["blue", "red"] * (N // 2)
    refused(data, tmp_path, "'colour'", "text", "categories", "ignore")
    parts = loaded(data, tmp_path, categories=["colour"], scale="none")
    assert parts.columns[-3:] == ["colour=blue", "colour=green", "colour=red"]
    for value in ("blue", "green", "red"):
        np.testing.assert_array_equal(column(parts, f"colour={value}"), data.colour == value)
    ranks = column(
        loaded(data, tmp_path, categories=["colour"], encode="rank", scale="none"), "colour"
    )
    assert dict(zip(data.colour, ranks, strict=True)) == {"blue": 0, "green": 1, "red": 2}
    assert "colour" not in loaded(data, tmp_path, ignore=["colour"]).columns


def test_codes_with_leading_zeros_are_no_numbers_unless_named(tmp_path):
    data = frame().assign(zip=[f"{i % 7:05d}" for i in range(2 * N)])
    refused(data, tmp_path, "'zip'", "leading zero", "dtype")
    assert column(loaded(data, tmp_path, dtype={"zip": "number"}, scale="none"), "zip").max() == 6
    assert "zip=00003" in loaded(data, tmp_path, categories=["zip"]).columns


def test_repeated_nameless_and_row_number_columns_are_refused(tmp_path):
    data = frame()
    twice = data.to_csv(index=False).replace("part,x,y,z", "part,x,u,z", 1)
    refused(twice, tmp_path, "'u' stands twice")
    refused(data.to_csv(), tmp_path, "column 1 has no name")
    for ids in (range(2 * N), range(2 * N, 0, -1), np.cumsum(np.arange(2 * N) % 3 + 1)):
        counted = data.assign(id=list(ids))
        refused(counted, tmp_path, "'id'", "row number", "ignore")
        assert "id" not in loaded(counted, tmp_path, ignore=["id"]).columns
        assert loaded(counted, tmp_path, features=["id", "y"]).columns == ["id", "y"]


def test_identifiers_are_found_however_they_are_written(tmp_path):
    data = frame()
    shuffled = np.random.default_rng(0).permutation(2 * N)
    rising = np.arange(2 * N)
    spelt = {
        "floats": [f"{i}.0" for i in rising],
        "with a hole": ["" if i == 3 else f"{i}.0" for i in rising],
        "with a sign": [f"+{i + 1}" for i in rising],
        "in groups": [f"{100_000 + i:,}" for i in rising],
        "by part": [*range(N), *range(N)],
        "with ties": rising // 2,
        "in blocks": [*range(N, 2 * N), *range(N)],
        "shuffled": shuffled,
        "of many digits": [10**18 + 7 * i for i in rising],
    }
    for name, ids in spelt.items():
        refused(data.assign(key=ids), tmp_path, "'key'", "ignore")
        assert len(loaded(data.assign(key=ids), tmp_path, ignore=["key"]).columns) == 3, name
    for name in ("id", "Unnamed: 0"):
        refused(data.assign(**{name: 3 * shuffled}), tmp_path, f"'{name}'", "ignore")
    kept = data.assign(flag=rising // 40, count=shuffled // 3)  # ordered, of two values; repeated
    assert loaded(kept, tmp_path).columns[-2:] == ["flag", "count"]


def test_groups_of_digits_have_no_leading_zero_and_their_own_mark(tmp_path):
    data = frame()
    data["y"] = [f"0,{436 + i}" for i in range(2 * N)]
    refused(data, tmp_path, "'y'", "decimal comma", thousands=",")
    refused(frame(), tmp_path, "both '.'", thousands=".")
    refused(frame(), tmp_path, "both ','", thousands=",", decimal=",")
    wanted = column(loaded(frame(), tmp_path))
    for mark, given in (("\u00a0", " "), ("\u202f", " "), ("\u2009", " "), ("\u2019", "'")):
        styled = frame()
        styled["x"] = [f"{v:,.0f}".replace(",", mark) for v in styled.x]
        refused(styled, tmp_path, "'x'", "thousands separator")
        np.testing.assert_allclose(column(loaded(styled, tmp_path, thousands=given)), wanted)


def test_cells_that_mean_two_things_are_refused(tmp_path):
    data = frame()
    data["y"] = ["0.5" if i == 3 else f"{i}%" for i in range(2 * N)]
    refused(data, tmp_path, "'y'", "row 5", "'0.5' is no percent", dtype={"y": "percent"})
    data["y"] = ["now" if i == 3 else f"2024-05-{1 + i % 28:02d}" for i in range(2 * N)]
    refused(data, tmp_path, "'y'", "row 5", "'now' is no date", dtype={"y": "date"})
    given = {"dtype": {"y": "date"}, "scale": "none"}
    data["y"] = [
        f"2024-05-{1 + i % 28:02d}T12:00:00{'Z' if i % 2 else '+02:00'}" for i in range(60)
    ]
    assert set(np.round(column(loaded(data, tmp_path, **given), "y") % 1, 6)) == {
        0.5, round(10 / 24, 6),
    }  # fmt: skip
    refused(frame(), tmp_path, "'y' is in both `features`", features=["x", "y"], ignore=["y"])
    refused(frame(), tmp_path, "both `categories`", categories=["y"], dtype={"y": "date"})
    data = frame().assign(c=["a", "b"] * N).rename(columns={"y": "c=a"})
    refused(data, tmp_path, "two features are called 'c=a'", categories=["c"])


def test_a_missing_value_of_the_config_is_one_however_it_is_written(tmp_path):
    data = frame()
    data["x"] = ["-999.0" if i == 3 else f"{v:.1f}" for i, v in enumerate(data.x)]
    refused(data, tmp_path, "'x'", "row 5", "missing", na_values=["-999"])
    data["x"] = data.x.replace("-999.0", " ? ")
    refused(data, tmp_path, "'x'", "row 5", "missing", na_values=[" ? "])


@pytest.mark.parametrize("size", [1e-170, 1e-300, 1e155, 1e300])
def test_the_scale_of_a_column_changes_nothing(size, tmp_path):
    plain = loaded(frame(), tmp_path)
    data = frame()
    data["y"] *= size
    found = loaded(data, tmp_path)
    np.testing.assert_allclose(found.primary.features, plain.primary.features, rtol=1e-9)


def test_no_row_for_training_and_a_line_end_for_a_separator_are_refused(tmp_path):
    data = frame().iloc[[0, 1, N, N + 1]]
    parts = loaded(data, tmp_path, test_fraction=0.9)
    with pytest.raises(UserError, match="leaves none for training"):
        parts.build("mine", config("", test_fraction=0.9), [0])
    for mark in "\r\n":
        refused(frame(), tmp_path, "`separator`", separator=mark)
    refused(frame().to_csv(index=False, sep=";"), tmp_path, "column 'part'")


def test_commas_at_row_ends_shift_nothing_and_other_lengths_are_refused(tmp_path):
    data = frame()
    head, *rows = data.to_csv(index=False).splitlines()
    plain = loaded(data, tmp_path)
    for lines in (
        [head, *(row + "," for row in rows)],
        [head + ",", *(row + "," for row in rows)],
        [head + ",,,", *(row + ",,," for row in rows)],
        [head + ",", *rows],
        [head, *rows, "", "  "],
    ):
        found = loaded("\n".join(lines) + "\n", tmp_path)
        np.testing.assert_array_equal(found.primary.features, plain.primary.features)
        np.testing.assert_array_equal(found.primary.target, plain.primary.target)
    longer = [head, *rows]
    longer[4] += ",7"
    refused("\n".join(longer), tmp_path, "row 5", "has 7 cells", "Quote")
    shorter = [head, *rows]
    shorter[4] = shorter[4].rsplit(",", 1)[0]
    refused("\n".join(shorter), tmp_path, "row 5", "5 cells")


@pytest.mark.parametrize(
    ("cells", "primary", "harmful", "message"),
    [
        (["1", "2"], [1], [2], None),
        (["1", "2"], ["1"], [2.0], None),
        (["007", "010"], ["007"], ["010"], None),
        (["007", "010"], [7], ["010"], "these occur: '007', '010'"),
        (["True", "False"], [True], [False], None),
        (["yes", "no"], [True], [False], "Quote values"),
        (["yes", "no"], ["yes"], ["no"], None),
        (["1.5", "2"], [1.5], [2], None),
        (["a", "b"], ["a"], ["c"], "no row has 'c'"),
        (["a ", "b"], ["a"], ["b"], None),
        (["1.10", "1.1"], [1.1], ["1.10"], None),
        (["9007199254740993", "9007199254740992"], [9007199254740993], [9007199254740992], None),
    ],
)
def test_values_of_the_split_column_are_compared_as_text(
    cells, primary, harmful, message, tmp_path
):
    data = frame().assign(part=[cells[0]] * N + [cells[1]] * N)
    given = {"primary_values": primary, "harmful_values": harmful}
    if message:
        refused(data, tmp_path, message, **given)
    else:
        assert len(loaded(data, tmp_path, **given).primary.target) == N


PACK = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "csv": gzip.compress,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_files_are_read_and_broken_ones_end_in_one_message(suffix, tmp_path):
    data = frame().to_csv(index=False).encode()
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(PACK[suffix](data))
    plain = csv_table.load(config(path), NOWHERE)
    assert plain.primary.features.shape == (N, 3)
    path.write_bytes(PACK[suffix](data)[:-20])
    with pytest.raises(UserError, match=f"t.{suffix}: not a readable CSV file"):
        csv_table.load(config(path), NOWHERE)


def test_a_zip_of_one_file_is_read_and_of_two_refused(tmp_path):
    path = tmp_path / "t.zip"
    for count in (1, 2):
        with zipfile.ZipFile(path, "w") as archive:
            for i in range(count):
                archive.writestr(f"{i}.csv", frame().to_csv(index=False))
        if count == 1:
            assert csv_table.load(config(path), NOWHERE).primary.features.shape == (N, 3)
    with pytest.raises(UserError, match="this holds 2"):
        csv_table.load(config(path), NOWHERE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"), (b"\n\n", "empty"), (b"a,b\n\xff\xfe1,2\n", "UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"), (b"a,b\n1,\0\n", "zero bytes"),
        (b'a,b\n"1,2\n', "CSV|cells|missing"), (b"\x89PNG\r\n\x1a\n\0\0", "UTF-8|zero bytes"),
    ],
)  # fmt: skip
def test_what_is_no_table_ends_in_one_message(content, words, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        csv_table.load(config(path), NOWHERE)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(frame().to_csv(index=False), encoding="utf-8-sig")
    assert csv_table.load(config(path), NOWHERE).columns == ["x", "y", "z"]


# Scales


def test_joint_scaling_is_fitted_on_training_rows_of_d_p_for_each_seed(tmp_path):
    data = frame()
    data.loc[N:, ["x", "y"]] = data.loc[N:, ["x", "y"]] * 3 + 7
    parts = loaded(data, tmp_path, test_fraction=0.4)
    built = parts.build("mine", config("", test_fraction=0.4), [0, 1])
    raw = data[["x", "y", "z"]].to_numpy()
    for s, seed in enumerate((0, 1)):
        p, h = (built.tasks[i] for i in built.task_index[s, 0].tolist())
        scaled = built.features(p.train_rows).numpy()
        np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(scaled.std(0, ddof=1), 1)
        told = built.info["scaling"][str(seed)]
        for task, start in ((p, 0), (h, N)):
            offset = int(p.train_rows.min()) // (2 * N) * 2 * N
            for rows in (task.train_rows, task.test_rows):
                own = (raw[rows.numpy() - offset] - told["mean"]) / told["deviation"]
                np.testing.assert_allclose(built.features(rows).numpy(), own, atol=1e-9)
            assert start <= int(task.train_rows.min()) - offset < start + N
        # Targets by their own training rows.
        assert float(h.train_labels.mean()) == pytest.approx(0, abs=1e-12)
    assert not torch.equal(built.inputs[: 2 * N], built.inputs[2 * N :])


def test_within_scales_each_part_by_itself_and_none_nothing(tmp_path):
    data = frame()
    within = loaded(data, tmp_path, scale="within")
    for part in (within.primary, within.harmful):
        np.testing.assert_allclose(part.features.std(0, ddof=1), 1)
    none = loaded(data, tmp_path, scale="none")
    np.testing.assert_array_equal(column(none), data.x)
    np.testing.assert_array_equal(none.primary.target, data.u[:N])


@pytest.mark.parametrize("value", [7.0, 0.1, 3.3])
@pytest.mark.parametrize("scale", ["joint", "within"])
def test_a_column_that_is_constant_in_d_p_is_zero_there(value, scale, tmp_path):
    data = frame()
    data["k"] = np.r_[np.full(N, value), np.random.default_rng(1).normal(size=N).round(3)]
    parts = loaded(data, tmp_path, scale=scale)
    assert (parts.primary.features[:, -1] == 0).all()
    problem = parts.build("mine", config(""), [0]).problem(0)
    p, h = problem.primary.range_factor(0), problem.harmful.range_factor(0)
    assert p.rank == 3
    assert immunizability_limit(p, h) == np.inf  # D_H uses a direction that D_P has not


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e8, 1.6e9])
@pytest.mark.parametrize("scale", ["joint", "within"])
def test_two_columns_that_are_one_up_to_an_offset_are_one_direction(offset, scale, tmp_path):
    data = frame()
    data["y"] = (data.y * 3600).round(3)
    data["again"] = data.y + offset
    parts = loaded(data, tmp_path, scale=scale)
    problem = parts.build("mine", config(""), [0]).problem(0)
    without = loaded(data.assign(again=data.y), tmp_path, scale=scale)
    exact = without.build("mine", config(""), [0]).problem(0)
    for role in ("primary", "harmful"):
        factor, wanted = (getattr(p, role).range_factor(0) for p in (problem, exact))
        assert factor.rank == wanted.rank == 3
        assert factor_condition(factor) == pytest.approx(factor_condition(wanted), rel=1e-5)


def test_house_prices_rule_for_text_stays_the_papers():
    data = pd.DataFrame({"a": ["x", "z", "y", "x"], "b": [1.0, 2, 3, 5], "t": [1.0, 2, 3, 4]})
    part = standardised_part(data, name="n", target="t", exclude=[], where="w")
    ranks = np.array([0.0, 2, 1, 0])
    np.testing.assert_allclose(part.features[:, 0], (ranks - 0.75) / ranks.std(ddof=1))


def test_columns_and_scales_are_recorded_with_theta_and_in_the_provenance(tmp_path):
    frame().to_csv(tmp_path / "t.csv", index=False)
    entry = {"source": "csv_table"} | config(tmp_path / "t.csv")
    raw = {"study": "own", "seeds": [0], "datasets": {"mine": entry},
           "methods": {"identity": {}}, "attacks": {"gradient_descent": {}}}  # fmt: skip
    study = write_study(tmp_path / "own", raw)
    run_stage("prepare", study, "mine")
    run_stage("immunize", study, "identity", device="cpu")
    theta = tmp_path / "own/immunized/identity/mine.safetensors"
    about = read_metadata(theta)
    assert about["columns"] == ["x", "y", "z"]
    assert about["scale"] == "joint"
    raw = frame()[["x", "y", "z"]][:N]
    np.testing.assert_allclose(about["scaling"]["0"]["mean"], raw.mean())
    np.testing.assert_allclose(about["scaling"]["0"]["deviation"], raw.std(ddof=1))
