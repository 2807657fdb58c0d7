"""Who holds a study: what runs no job is let through; notes of the dead and of the living."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import write_text
from immunization.runtime.jobs import run_lock
from immunization.runtime.jobs.run_lock import RunLock, is_dry_run

SRC = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize(
    "words",
    ["-n", "-np", "--dry-run", "--unlock", "--report out.html", "--report=out.zip", "--lint",
     "--summary", "-S", "--dag mermaid-js", "--cores 2 -n"],
)  # fmt: skip
def test_looking_runs_no_job(words):
    assert is_dry_run(words.split())


@pytest.mark.parametrize(
    "words",
    ["--cores 2", "--cores all --configfile config/new.yaml", "--delete-all-output",
     "--until immunize", "--touch", "--keep-going", "-j 4", "--forceall", "-Rimmunize",
     "-Uimmunize", "--report out.zip --report-after-run"],
)  # fmt: skip
def test_what_writes_or_deletes_results_has_to_hold_the_study(words):
    assert not is_dry_run(words.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def holder_of(folder, tell=print, **given):
    return RunLock(folder / "results" / "s", tell, **given)


def release(taken):
    taken.leave(os.getpid())


def note(folder, **changes):
    """What a killed Snakemake leaves."""
    taken = holder_of(folder)
    taken.acquire()
    text = json.loads(taken.note.read_text()) | changes
    release(taken)
    taken.note.write_text(json.dumps(text))
    return taken.note


def test_a_note_goes_when_its_process_ends(folder):
    code = (
        "from pathlib import Path\nfrom immunization.runtime.jobs.run_lock import RunLock\n"
        "h = RunLock(Path('results/s')); h.acquire()\nassert h.note.is_file()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SRC)}, check=True
    )
    assert not (folder / "results/s/.run.json").exists()


def test_what_a_killed_run_left_half_written_goes_and_its_results_stay(folder):
    path = note(folder)
    kept = path.parent / "tables" / "a.csv"
    write_text(kept, "x")
    draft = kept.with_name(".a.csv.draft-x1y2.csv")
    draft.write_text("half")
    (kept.parent / ".a.csv.draft-x1y2.csv.seal").write_text("half")
    told = []
    taken = holder_of(folder, told.append)
    taken.acquire()
    release(taken)
    assert "was killed; going on where it stopped" in told[0]
    assert sorted(p.name for p in kept.parent.iterdir()) == [".a.csv.seal", "a.csv"]


def test_a_study_is_held_from_wherever_one_comes_to_it(folder):
    """Through a link, or from another folder: the lock lies with the results."""
    first = holder_of(folder)
    first.acquire()
    (folder / "link").symlink_to(folder / "results" / "s")
    for act in ("acquire", "refuse_while_running"):
        with pytest.raises(UserError, match=f"being made by another.*process {os.getpid()}"):
            getattr(RunLock(folder / "link"), act)()
    release(first)
    RunLock(folder / "link").refuse_while_running()


def test_a_note_from_another_machine_is_not_taken_for_dead(folder):
    path = note(folder, host="elsewhere", boot="another")
    before = path.read_text()
    taken = holder_of(folder)
    with pytest.raises(UserError, match=r"on elsewhere.*IMMUNIZATION_TAKE_OVER=elsewhere in front"):
        taken.acquire()
    assert path.read_text() == before


def test_a_lock_of_a_machine_that_is_gone_can_be_taken_over(folder, monkeypatch):
    note(folder, host="login1", boot="another", remote=True)
    asked = []
    monkeypatch.setattr(run_lock, "leftover_jobs", lambda: asked.append(1) or [])
    taken = holder_of(folder)
    monkeypatch.setenv(environment.TAKE_OVER, "login2")
    with pytest.raises(UserError, match="on login1"):
        taken.acquire()
    monkeypatch.setenv(environment.TAKE_OVER, "login1")
    taken.acquire()
    release(taken)
    assert asked


@pytest.mark.parametrize("name", ["", ".run.lock/", ".run.json/"])
def test_what_cannot_be_written_is_named(folder, name):
    """A file in place of the folder, and folders in place of the lock and the note."""
    path = folder / "results" / "s" / name
    if name:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_text("")
    with pytest.raises(UserError, match=r"results/s: cannot be written \((File exists|Is a dir)"):
        holder_of(folder).acquire()


def test_a_container_on_this_machine_may_have_another_name_each_time(folder):
    note(folder, host="0f3b7c")
    taken = holder_of(folder)
    taken.acquire()
    release(taken)


def fake_squeue(folder, monkeypatch, text):
    (folder / "bin").mkdir()
    script = folder / "bin" / "squeue"
    script.write_text(text)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_only_living_jobs_of_this_folder_and_kind_are_waited_for(folder, monkeypatch):
    here = os.path.realpath(folder)
    lines = "\n".join(
        (f"1|RUNNING|immunization_a|{here}", f"2|COMPLETED|immunization_a|{here}",
         "3|RUNNING|immunization_b|/elsewhere", f"4|RUNNING|other|{here}",
         f"5|PENDING|immunization_a|{here}")
    )  # fmt: skip
    fake_squeue(folder, monkeypatch, f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    assert run_lock.leftover_jobs() == ["1", "5"]


def test_a_controller_that_does_not_answer_is_no_proof_that_no_job_is_left(folder, monkeypatch):
    fake_squeue(folder, monkeypatch, "#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(run_lock, "SQUEUE_TRIES", 2)
    monkeypatch.setattr(run_lock.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="SLURM does not answer"):
        run_lock.leftover_jobs()
