"""Atomic writes and readable complaints about files."""

import pandas as pd
import pytest
import torch

from immunization.errors import UserError
from immunization.files import (
    atomic,
    read_csv,
    read_json,
    read_table,
    read_tensors,
    write_table,
    write_tensors,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.txt"]


def test_tensors_and_their_metadata_survive_their_file(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).mT, "b": torch.tensor([1])}
    write_tensors(tmp_path / "x.safetensors", tensors, {"seeds": [0], "κ": "defined"})
    back, metadata = read_tensors(tmp_path / "x.safetensors")
    assert torch.equal(back["a"], tensors["a"])
    assert metadata == {"seeds": [0], "κ": "defined"}


@pytest.mark.parametrize("keep", [0, 5, 60])
def test_a_cut_file_is_named_with_the_remedy(tmp_path, keep):
    tensors, table = tmp_path / "x.safetensors", tmp_path / "x.parquet"
    write_tensors(tensors, {"a": torch.ones(100)}, {})
    write_table(table, pd.DataFrame({"a": range(100)}))
    for path, read in ((tensors, read_tensors), (table, read_table)):
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(UserError, match=rf"{path.name}: damaged: it has {keep} bytes"):
            read(path)
        assert (tmp_path / f"{path.name}.damaged").stat().st_size == keep
        assert not path.exists()  # so that Snakemake makes it anew
        # Without a seal, as after a copy that left it behind, the format itself is looked at.
        (tmp_path / f"{path.name}.damaged").replace(path)
        with pytest.raises(UserError, match=f"{path.name}: cannot be read.*Delete it"):
            read(path)


def test_a_second_attempt_tells_of_what_the_first_set_aside(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged: it has"):
        read_tensors(path)
    with pytest.raises(UserError, match=r"was damaged, and set aside as x\.safetensors\.damaged"):
        read_tensors(path)


def test_a_file_that_cannot_be_read_is_not_taken_for_one_that_cannot_be_written(tmp_path):
    other = tmp_path / "other" / "source.csv"
    for error in (PermissionError(13, "Permission denied", str(other)), OSError(28, "No space")):
        place = pytest.raises(PermissionError) if error.errno == 13 else pytest.raises(UserError)
        with place, atomic(tmp_path / "out.tar"):
            raise error


@pytest.mark.parametrize(("read", "text"), [(read_json, '{"a": 1'), (read_csv, "")])
def test_a_cut_text_file_is_named_too(tmp_path, read, text):
    path = tmp_path / "cut"
    path.write_text(text)
    with pytest.raises(UserError, match=r"cut: cannot be read.*Delete it"):
        read(path)


def test_labels_of_a_table_stay_text(tmp_path):
    (tmp_path / "t.csv").write_text("dataset,method,value\nNA,007,\n")
    table = read_csv(tmp_path / "t.csv")
    assert table[["dataset", "method"]].to_numpy().tolist() == [["NA", "007"]]
    assert table["value"].isna().all()


def test_an_absent_file_is_named(tmp_path):
    for read in (read_tensors, read_table):
        with pytest.raises(UserError, match="nowhere"):
            read(tmp_path / "nowhere")
