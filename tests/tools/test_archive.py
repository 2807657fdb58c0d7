"""Sums, provenance, checks and archives of a study, on files that stages wrote."""

import json
import os
import shlex
import shutil
import subprocess

import pytest
import torch
import yaml

from immunization.runtime.errors import UserError
from immunization.runtime.files.io import write_tensors, write_text
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.record import sums
from immunization.runtime.record.provenance import provenance
from immunization.stages import manifest
from immunization.study.whole import FORMAT
from immunization.tools import archive, check, unpack, verify


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished study with one table, one file of tensors, a public file and one of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMMUNIZATION_STUDY", json.dumps({"config": "c" * 64, "seeds": [0, 1]}))
    public = tmp_path / "mirror" / "set" / "data.csv"
    public.parent.mkdir(parents=True)
    public.write_text("a\n1\n")
    (tmp_path / "mine.csv").write_text("b\n2\n")
    base = tmp_path / "results" / "s"
    (tmp_path / "pictures").mkdir()
    raw = {
        "study": "s",
        "datasets": {"own": {"source": "csv_table", "path": "mine.csv"}},
        "more": {"cats": {"source": "image_folder", "path": "pictures"}},
    }
    whole = {"format": FORMAT, "config": {"study": "s"}, "order": {}, "raw": raw}
    write_text(base / "study.json", json.dumps(whole), provenance([], {}))
    record = provenance(["immunization.linear.methods.optimum"], {"budget": 2})
    record["files"] = {
        "public": {"set/data.csv": verify_sha(public)},
        "own": {"mine.csv": verify_sha(tmp_path / "mine.csv")},
    }
    write_tensors(base / "theta.safetensors", {"a": torch.ones(3)}, {"provenance": record})
    write_text(base / "tables" / "ratios.csv", "x\n1\n", record)
    finish(base)
    return base


def verify_sha(path):
    from immunization.runtime.files.checksums import sha256

    return sha256(path)


class Paths:
    """Where the files of this study lie."""

    def __init__(self, base):
        self.results, self.provenance = str(base), str(base / "provenance.json")
        self.sums = str(base / "SHA256SUMS")
        names = ("study.json", "theta.safetensors", "tables/ratios.csv")
        self.files = [str(base / name) for name in names]

    def everything(self):
        return self.files


def finish(base):
    manifest.run(Stage("manifest", {}, (), Paths(base)))


def checked(*arguments):
    with pytest.raises(SystemExit) as done:
        verify.main(list(map(str, arguments)))
    return done.value.code


def test_provenance_groups_files_by_what_made_them(folder):
    told = json.loads((folder / "provenance.json").read_text())["results"]
    by_files = {tuple(group["files"]): group["provenance"] for group in told}
    made = by_files["tables/ratios.csv", "theta.safetensors"]
    assert made["config"] == "c" * 64
    assert made["seeds"] == [0, 1]
    assert made["modules"] == ["immunization.linear.methods.optimum"]
    assert made["kappa"].startswith("non-zero spectrum")


def test_a_file_without_a_seal_stops_the_manifest(folder):
    (folder / "tables" / ".ratios.csv.seal").unlink()
    with pytest.raises(UserError, match=r"ratios\.csv: has no checksum"):
        finish(folder)


def test_what_is_missing_damaged_or_newer_is_told_apart(folder, capsys):
    assert checked(folder) == 0
    (folder / "study.json").unlink()
    write_text(folder / "tables" / "ratios.csv", "x\n2\n")
    path = folder / "theta.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert checked(folder, "--repair") == 1
    told = capsys.readouterr().out
    assert "study.json: missing" in told
    assert "ratios.csv: rewritten since the sums were taken" in told
    assert "It was renamed to theta.safetensors.damaged" in told
    assert (folder / "tables" / "ratios.csv").is_file()


def test_provenance_is_verified_too(folder):
    path = folder / "provenance.json"
    path.write_text(path.read_text().replace("optimum", "optimal"))
    assert list(sums.verify(folder)) == ["provenance.json"]
    path.unlink()
    assert sums.verify(folder) == {"provenance.json": "missing; the next snakemake makes it"}


def test_without_a_checkout_there_is_no_archive(folder, tmp_path):
    with pytest.raises(UserError, match="is no checkout"):
        archive.contents(folder, tmp_path, [])


def test_sums_that_lead_out_or_are_cut_are_refused(folder):
    for line in (f"{'0' * 64}  ../x\n", f"{'0' * 64}  /x\n", "0123  a\n", "\n"):
        (folder / "SHA256SUMS").write_text(line)
        with pytest.raises(UserError, match="line 1: not a sum"):
            sums.verify(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="snakemake to the end"):
        sums.verify(folder)


def test_an_archive_has_data_own_files_and_a_config_that_names_them(folder, tmp_path):
    archive.main([str(folder), "--out", "s.tar.gz", "--data", "nowhere", "mirror"])
    archive.main(["--extract", "s.tar.gz", "--into", "new"])
    new = tmp_path / "new"
    config = yaml.safe_load((new / "config" / "archived.yaml").read_text())
    assert config["data"] == {"mirror": "data"}
    own = config["datasets"]["own"]["path"]
    assert (new / own).read_text() == "b\n2\n"
    assert (new / "data" / "set" / "data.csv").read_text() == "a\n1\n"
    assert (new / "archived/s/tables/ratios.csv").is_file()
    assert not (new / "archived/s/theta.safetensors").exists()
    assert (new / "Snakefile").is_file()
    how = (new / "REGENERATE.md").read_text()
    assert "results/s" in how
    assert "not taken along" in how
    assert "- `pictures`" in how
    assert os.access(new / "envs" / "pin.sh", os.X_OK)
    assert not os.access(new / "Makefile", os.X_OK)
    archive.main([str(folder), "--out", "all.tar.gz", "--data", "mirror", "--extractors"])
    assert unpack.extract(tmp_path / "all.tar.gz", tmp_path / "all") > 0
    assert (tmp_path / "all/archived/s/theta.safetensors").is_file()
    command = next(line for line in how.splitlines() if "diff -r" in line).strip()
    shutil.copytree(folder, new / "results" / "s", dirs_exist_ok=True)
    assert subprocess.run(shlex.split(command), cwd=new, check=False).returncode == 0
    (new / "archived/s/tables/more.csv").write_text("x")
    done = subprocess.run(
        shlex.split(command), cwd=new, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == "Only in archived/s/tables: more.csv\n"


def test_no_archive_is_made_of_changed_data_or_a_damaged_study(folder):
    with pytest.raises(UserError, match="a file that the study was made from is in"):
        archive.main([str(folder), "--data", "nowhere"])
    path = folder.parents[1] / "mirror" / "set" / "data.csv"
    path.write_text("changed")
    own = folder.parents[1] / "mine.csv"
    for told in ("has changed since", "is gone"):
        own.write_text("b\n3\n") if told != "is gone" else own.unlink()
        with pytest.raises(UserError, match=rf"mine\.csv: what .* {told}"):
            archive.main([str(folder), "--data", "mirror"])
    own.write_text("b\n2\n")
    with pytest.raises(UserError, match="is not the file that the study was made from"):
        archive.main([str(folder), "--data", "mirror"])
    (folder / "tables" / "ratios.csv").write_text("y")
    with pytest.raises(UserError, match="Repair the study first"):
        archive.main([str(folder), "--data", "mirror"])
    for arguments, told in (([], "Name the study"), (["--extract", "x"], "--into FOLDER")):
        with pytest.raises(UserError, match=told):
            archive.main(arguments)


def test_a_config_is_checked_without_snakemake(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(
        "study: mini\ndatasets: {digits: {}}\nmethods: {identity: {}}\n"
        "attacks: {gradient_descent: {}}\n"
    )
    check.main([str(path)])
    assert "mini: 1 methods, 1 attackers, seeds 0, 1, 2" in capsys.readouterr().out
    check.main(["--snakemake", "--cores", "2", "--configfile", str(path)])
    with pytest.raises(UserError, match="cannot be read"):
        check.main([str(tmp_path / "absent.yaml")])
