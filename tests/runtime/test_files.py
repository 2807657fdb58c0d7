"""Atomic writes and readable complaints about files."""

import contextlib
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from immunization.linear.files import open_extractors, save_extractors
from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.files import checksums
from immunization.runtime.files.atomic import atomic, remove_drafts
from immunization.runtime.files.io import (
    read_csv,
    read_json,
    read_table,
    read_tensors,
    write_table,
    write_tensors,
    write_text,
)
from tests import HANG

SRC = Path(__file__).parents[2] / "src"


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
    with pytest.raises(UserError, match=r"is damaged and was renamed to x\.safetensors\.damaged"):
        read_tensors(path)


def test_an_unreadable_file_is_not_called_unwritable(tmp_path):
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


def test_metadata_of_a_hundred_thousand_levels_end_in_one_message(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, path, {"json": "[" * 100_000})
    with pytest.raises(UserError, match="cannot be read"):
        read_tensors(path)
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / "x.json")


def test_extractors_that_are_not_finite_are_named(tmp_path):
    theta = torch.eye(2, dtype=torch.float64).expand(3, 2, 2).clone()
    theta[1, 0, 0] = float("nan")
    path = tmp_path / "x.safetensors"
    about = {"dataset": "d", "code": "", "parameters": {"label": "a"}}
    save_extractors(path, {0: theta}, {0: 0}, about)
    with pytest.raises(UserError, match=r"x\.safetensors: 'theta.0' holds values that are not"):
        open_extractors(str(path)).theta(0)
    assert open_extractors(str(path)).theta(0, pairs=[0, 2]).shape == (2, 2, 2)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, umask):
    code = (
        "from pathlib import Path\n"
        "from immunization.runtime.files.io import write_text\n"
        "from immunization.runtime.jobs.run_lock import RunLock\n"
        "write_text('a/x.txt', 'x')\nh = RunLock(Path('a'))\nh.acquire()\n"
        "import shutil; shutil.copy('a/.run.json', 'a/note')"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(SRC)},
        umask=umask, check=True,
    )  # fmt: skip
    for name in ("x.txt", ".x.txt.seal", ".run.lock", "note"):
        assert stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) == 0o666 & ~umask, name


WRITER = """
import os, sys, time
from immunization.runtime.files.io import atomic
with atomic("shared/x.txt") as temporary:
    temporary.write_text(sys.argv[1] * 1000)
    print(os.getpid(), flush=True)
    sys.stdin.readline()
"""


def test_two_containers_of_one_name_do_not_remove_each_others_work(tmp_path):
    """Each has a process 2 of its own, and cannot see the other's."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    tried = subprocess.run([*apart, "true"], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip("namespaces may not be made here")
    (tmp_path / "shared").mkdir()
    writers = [
        subprocess.Popen(
            [*apart, sys.executable, "-c", WRITER, name], cwd=tmp_path, text=True,
            env=os.environ | {"PYTHONPATH": str(SRC)}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in "ab"
    ]  # fmt: skip
    assert len({writer.stdout.readline() for writer in writers}) == 1  # one number
    for writer, name in zip(writers, "ab", strict=True):
        writer.communicate("\n", timeout=HANG)
        assert writer.returncode == 0
        assert (tmp_path / "shared" / "x.txt").read_text() == name * 1000
    assert sorted(p.name for p in (tmp_path / "shared").iterdir()) == [".x.txt.seal", "x.txt"]


def test_drafts_go_from_a_given_age_on_and_nothing_else(tmp_path):
    for name in (".x.csv.draft-1.csv", ".y.csv.draft-2.csv", "draft-3.csv", ".x.csv.seal"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".x.csv.draft-1.csv", (0, 0))
    remove_drafts(tmp_path, seconds=3600)
    remove_drafts(tmp_path / "absent")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".x.csv.seal", ".y.csv.draft-2.csv", "draft-3.csv"]


def test_a_seal_that_cannot_be_read_moves_nothing(tmp_path):
    """A folder in its place, or a process with too many open files, is no damage."""
    path = tmp_path / "x.txt"
    write_text(path, "x")
    checksums.sidecar_path(path).unlink()
    checksums.sidecar_path(path).mkdir()
    with pytest.raises(UserError, match=r"\.x\.txt\.seal: the seal of .* cannot be read"):
        read_json(path)
    assert path.read_text() == "x"
    shutil.rmtree(checksums.sidecar_path(path))
    write_text(path, "{}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, hard), hard))
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(path, os.O_RDONLY))
        with pytest.raises(UserError, match=r"Too many open files.*Nothing was moved"):
            checksums.verify_or_quarantine(path)
    finally:
        for handle in opened:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert read_json(path) == {}


@pytest.mark.parametrize("inputs", [[1], 7, "x"])
def test_a_seal_of_another_form_fits_no_file(tmp_path, inputs):
    path = tmp_path / "x.txt"
    write_text(path, "x")
    beside = checksums.sidecar_path(path)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"inputs": inputs}))
    assert checksums.read_seal(path)["sha256"] == checksums.UNREADABLE


def test_what_was_set_aside_before_stays(tmp_path):
    path = tmp_path / "x.txt"
    for text in ("first", "second", "third"):
        write_text(path, "whole")
        path.write_text(text)
        with pytest.raises(UserError, match="renamed to"):
            checksums.verify_or_quarantine(path)
    kept = {p.name: p.read_text() for p in tmp_path.glob("*.damaged*")}
    assert kept == {
        "x.txt.damaged": "first", "x.txt.damaged2": "second", "x.txt.damaged3": "third"
    }  # fmt: skip


def test_a_seal_names_what_was_read_before_and_no_finished_pieces(tmp_path, monkeypatch):
    for name in ("in/a.txt", "progress/piece.txt", "unsealed.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name == "unsealed.txt":
            (tmp_path / name).write_text("{}")
        else:
            write_text(tmp_path / name, "{}")
        read_json(tmp_path / name)
    monkeypatch.setenv(environment.MADE_BY, "c0de.a5ced immunization.runtime.errors")
    write_text(tmp_path / "out" / "x.txt", "x")
    seal = json.loads((tmp_path / "out" / ".x.txt.seal").read_text())
    assert seal["made_by"] == "c0de.a5ced"
    own = {n: d for n, d in seal["inputs"].items() if not n.startswith("../../")}
    assert own == {"../in/a.txt": checksums.sha256(tmp_path / "in" / "a.txt")}
