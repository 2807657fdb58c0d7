"""Archives: hostile ones are refused whole, ours hold no secrets and give the same study again."""

import copy
import io
import os
import shutil
import subprocess
import sys
import tarfile

import pandas as pd
import pytest
import yaml

from immunization.runtime.errors import UserError
from immunization.tools import unpack

from .conftest import MINIATURE, ROOT, Workflow, plain_environment


def packed(path, *members, data=b"x"):
    """An archive with members of any kind."""
    with tarfile.open(path, "w:gz") as found:
        for member in members:
            if member.size:
                found.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
                found.offset += 512
            elif member.isfile():
                member.size = len(data)
                found.addfile(member, io.BytesIO(data))
            else:
                found.addfile(member)
    return path


def member(name, kind=tarfile.REGTYPE, link=""):
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


def sized(name, size):
    """A member whose head tells a size that it has not."""
    found = member(name)
    found.size = size
    return found


def told_of(name, **headers):
    """A member with headers of its own, as the PAX format has them."""
    found = member(name)
    found.pax_headers = headers
    return found


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([member("../outside")], "leads out"),
        ([member("a/../../outside")], "leads out"),
        ([member("/tmp/outside")], "leads out"),
        ([member("a\\..\\outside")], "leads out"),
        ([member("a", tarfile.SYMTYPE, "/etc"), member("a/passwd")], "link or a device"),
        ([member("a", tarfile.LNKTYPE, "/etc/passwd")], "link or a device"),
        ([member("a", tarfile.CHRTYPE)], "link or a device"),
        ([member("a", tarfile.FIFOTYPE)], "link or a device"),
        ([member("a"), member("a")], "is listed twice"),
        ([sized("a", -1024), member("b")], "has -1024 bytes|not a whole archive"),
        ([sized("a", -(2**60)), sized("b", 2**60)], "bytes, or holes|not a whole archive"),
        ([told_of("a", path="b\0c")], "no name for a file|not a whole archive"),
        ([told_of("a", **{"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**60)})], "or holes"),
        ([member("a/" * 3000 + "b")], "folders deep|no name for a file"),
        ([member("a/" * 100 + "b")], "lies more than 40 folders deep"),
        ([member("é" * 600)], "no name for a file"),
    ],
)
def test_a_hostile_archive_is_refused_whole(tmp_path, members, told):
    path = packed(tmp_path / "a.tar.gz", member("fine"), *members)
    with pytest.raises(UserError, match=told):
        unpack.extract(path, tmp_path / "into")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz"]


def test_an_archive_of_endless_zeros_is_refused_before_it_is_unpacked(tmp_path):
    path = packed(tmp_path / "bomb.tar.gz", member("zeros"), data=bytes(50 * 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match="unpacks to more than"):
        unpack.extract(path, tmp_path / "into", most=2**20)
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("name", ["m" * 2**20, "m"])
def test_endless_heads_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch, name):
    """One head of a great length, or many."""
    monkeypatch.setattr(unpack._Guarded, "left", 2**18)
    path = packed(
        tmp_path / "bomb.tar.gz", *(member(f"{name}{n}") for n in range(1000)[:: len(name)])
    )
    assert path.stat().st_size < 2**18
    with pytest.raises(UserError, match="the heads of its members take more than"):
        unpack.extract(path, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_an_archive_with_a_flipped_bit_is_refused_wherever_it_is(tmp_path):
    """Also in a header, where it looks like the end of the archive."""
    path = packed(tmp_path / "a.tar.gz", *(member(f"m{n}") for n in range(5)), data=b"abc" * 99)
    whole = path.read_bytes()
    for place in range(20, len(whole), 3):  # behind the name in the header, which nobody reads
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(UserError):
            unpack.extract(path, tmp_path / "into")
        assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]
    path.write_bytes(whole)
    assert unpack.extract(path, tmp_path / "into") == 5


def test_a_full_disk_leaves_nothing_of_an_archive(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount here")
    try:
        path = packed(tmp_path / "a.tar.gz", member("a"), data=os.urandom(200_000))
        with pytest.raises(UserError, match="the disk is full"):
            unpack.extract(path, disk / "into")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_cut_archive_and_a_full_folder_are_told(tmp_path):
    path = packed(tmp_path / "a.tar.gz", member("a"), data=os.urandom(10000))
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.tar\.gz: not a whole archive"):
        unpack.extract(cut, tmp_path / "into")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for place in ("full", "full/mine"):
        with pytest.raises(UserError, match="is not an empty folder"):
            unpack.extract(path, tmp_path / place)
    # What another extraction of the same name is at work on, or a killed one left, stays.
    (tmp_path / ".into.unpacking-other").mkdir()
    assert unpack.extract(path, tmp_path / "into") == 1
    assert (tmp_path / ".into.unpacking-other").is_dir()


def archived(folder):
    """Names in an archive of the study there, and what is said while it is made."""
    done = subprocess.run(
        [sys.executable, "-m", "immunization", "archive", "results/mini", "--out", "a.tar.gz"],
        cwd=folder, env=plain_environment() | {"PYTHONPATH": "src"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with tarfile.open(folder / "a.tar.gz") as found:
        return set(found.getnames()), done.stdout


@pytest.mark.parametrize("git", [True, False])
def test_an_archive_takes_no_secrets_backups_or_what_links_lead_to(workflow, tmp_path, git):
    folder = workflow.folder
    (tmp_path / "secret").write_text("of somebody")

    def run(*words):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)

    if git:
        run("init")
        run("add", "Snakefile", "src", "workflow", "config", "envs", "profiles")
    secret = (
        "profiles/slurm/token.txt", "src/.env", "src/immunization/linear/tasks.py~",
        "config/.config.yaml.swp", "workflow/notes.orig",
    )  # fmt: skip
    for name in secret:
        (folder / name).write_text("token")
    (folder / "config" / "link.yaml").symlink_to(tmp_path / "secret")
    names, told = archived(folder)
    assert not names & {*secret, "config/link.yaml"}
    for name in (*secret, "config/link.yaml"):
        assert f"not taken: {folder / name}" in told
    assert {"Snakefile", "profiles/slurm/config.yaml", "src/immunization/linear/tasks.py"} <= names
    assert {"workflow/rules/common.smk", "src/immunization/linear/page.html.jinja"} <= names
    if git:  # a method of one's own that is not committed yet, and that made results
        run("rm", "--cached", "src/immunization/linear/methods/optimum.py")
        assert "src/immunization/linear/methods/optimum.py" in archived(folder)[0]


def test_the_study_is_archived_and_regenerated_to_identical_tables(tmp_path):
    """Also with a table of the user's own, under its name."""
    workflow = Workflow(tmp_path / "study")
    own = workflow.folder / "my table.csv"
    rows = range(40)
    pd.DataFrame(
        {"part": ["p" if i % 2 else "h" for i in rows], "a": [i * 3 % 11 + 0.5 for i in rows],
         "b": [i * i % 7 for i in rows], "y": [i % 5 for i in rows], "z": [i % 3 for i in rows]}
    ).to_csv(own, index=False)  # fmt: skip
    config = copy.deepcopy(MINIATURE) | {"seeds": [0]}
    config["datasets"] = {
        "own": {
            "source": "csv_table", "path": own.name, "split_column": "part",
            "primary_values": ["p"], "harmful_values": ["h"], "primary_target": "y",
            "harmful_target": "z",
        },
    }  # fmt: skip
    config["methods"] = {"identity": {}, "optimum": {}}
    config["attacks"] = {"gradient_descent": {}}
    config["figures"] = {"limit": {}}
    workflow.configure(config)
    run = workflow.run()
    assert run.code == 0, run.output
    environment = plain_environment() | {"PYTHONPATH": "src"}

    def python(folder, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=folder, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    shutil.copy(ROOT / "Makefile", workflow.folder)
    code, told = python(
        workflow.folder, "immunization", "archive", "results/mini", "--out", "a.tar.gz"
    )
    assert code == 0, told
    first = (workflow.folder / "a.tar.gz").read_bytes()
    assert (
        python(workflow.folder, "immunization", "archive", "results/mini", "--out", "b.tar.gz")[0]
        == 0
    )
    assert (workflow.folder / "b.tar.gz").read_bytes() == first
    new = tmp_path / "new"
    code, told = python(
        workflow.folder, "immunization", "archive", "--extract", "a.tar.gz", "--into", str(new)
    )
    assert code == 0, told
    # Elsewhere: the old checkout is gone.
    shutil.move(workflow.folder, tmp_path / "gone")
    assert yaml.safe_load((new / "config/archived.yaml").read_text())["study"] == "mini"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/archived.yaml"],
        cwd=new, env=plain_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert python(new, "immunization", "verify", "results/mini")[0] == 0
    compare = ["diff", "-r", "--exclude=.*", "archived/mini/tables", "results/mini/tables"]
    assert " ".join(compare).replace("=.*", "='.*'") in (new / "REGENERATE.md").read_text()
    assert subprocess.run(compare, cwd=new, check=False).returncode == 0
    module = new / "src/immunization/linear/methods/optimum.py"
    module.write_text(module.read_text() + "\nMORE = 1\n")
    code, told = python(new, "immunization", "archive", "results/mini", "--out", "c.tar.gz")
    assert code == 2
    assert "immunization.linear.methods.optimum: has changed" in told
    pack = ("immunization", "archive", "results/mini", "--out", "c.tar.gz", "--changed-code")
    assert python(new, *pack)[0] == 0
    table = new / "archived/mini/tables/ratios.csv"
    table.write_text(table.read_text().replace("own", "0wn"))
    done = subprocess.run(compare, cwd=new, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "diff -r '--exclude=.*' archived/mini/tables/ratios.csv" in done.stdout
