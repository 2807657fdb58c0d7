"""Who holds a study: what runs no job is let through; notes of the dead and of the living."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from immunization import holder
from immunization.errors import UserError
from immunization.holder import Holder, idle

SRC = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize(
    "words",
    ["-n", "-np", "--dry-run", "--unlock", "--report out.html", "--report=out.zip", "--lint",
     "--summary", "-S", "--dag mermaid-js", "--cores 2 -n"],
)  # fmt: skip
def test_looking_runs_no_job(words):
    assert idle(words.split())


@pytest.mark.parametrize(
    "words",
    ["--cores 2", "--cores all --configfile config/new.yaml", "--delete-all-output",
     "--until immunize", "--touch", "--keep-going", "-j 4", "--forceall", "-Rimmunize",
     "-Uimmunize", "--report out.zip --report-after-run"],
)  # fmt: skip
def test_what_writes_or_deletes_results_has_to_hold_the_study(words):
    assert not idle(words.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def release(taken):
    taken._leave(os.getpid())
    os.close(taken._handle)


def note(folder, **changes):
    """What a killed Snakemake leaves."""
    taken = Holder("s", "results/s", folder / ".snakemake", print)
    taken.take()
    text = json.loads(taken.note.read_text()) | changes
    os.close(taken._handle)
    taken.note.write_text(json.dumps(text))
    return taken.note


def test_a_note_goes_when_its_process_ends(folder):
    code = (
        "from pathlib import Path\nfrom immunization.holder import Holder\n"
        "h = Holder('s', 'results/s', Path('.snakemake'), print); h.take()\n"
        "assert h.note.is_file()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SRC)}, check=True
    )
    assert not (folder / ".snakemake/immunization/s.holder").exists()


def test_locks_of_a_killed_snakemake_go_and_those_of_another_study_stay(folder):
    note(folder)
    locks = folder / ".snakemake" / "locks"
    locks.mkdir()
    for number, study in enumerate(("s", "other")):
        (locks / f"{number}.output.lock").write_text(f"results/{study}/a.csv\n")
        (locks / f"{number}.input.lock").write_text("src/a.py\n")
    told = []
    taken = Holder("s", "results/s", folder / ".snakemake", told.append)
    taken.take()
    release(taken)
    assert "was killed; going on where it stopped" in told[0]
    assert sorted(path.name for path in locks.iterdir()) == ["1.input.lock", "1.output.lock"]


def test_a_note_from_another_machine_is_not_taken_for_dead(folder):
    path = note(folder, host="elsewhere", boot="another")
    before = path.read_text()
    taken = Holder("s", "results/s", folder / ".snakemake", print)
    with pytest.raises(UserError, match=r"on elsewhere.*IMMUNIZATION_TAKE_OVER=elsewhere in front"):
        taken.take()
    assert path.read_text() == before


def test_who_knows_that_another_machine_is_gone_takes_over_and_waits_for_its_jobs(
    folder, monkeypatch
):
    locks = folder / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/s/a.csv\n")
    note(folder, host="login1", boot="another", remote=True)
    asked = []
    monkeypatch.setattr(holder, "leftover_jobs", lambda: asked.append(1) or [])
    taken = Holder("s", "results/s", folder / ".snakemake", print)
    monkeypatch.setenv(holder.TAKE_OVER, "login2")
    with pytest.raises(UserError, match="on login1"):
        taken.take()
    monkeypatch.setenv(holder.TAKE_OVER, "login1")
    taken.take()
    release(taken)
    assert asked
    assert not list(locks.iterdir())


def test_a_note_that_was_removed_amid_taking_it_is_not_held(folder, monkeypatch):
    """The holder before ends between the opening of the note and the lock on it."""
    first = Holder("s", "results/s", folder / ".snakemake", print)
    first.take()
    flock, calls = holder.fcntl.flock, []

    def late(handle, how):
        calls.append(handle)
        if len(calls) == 1:
            release(first)
        flock(handle, how)

    monkeypatch.setattr(holder.fcntl, "flock", late)
    second = Holder("s", "results/s", folder / ".snakemake", print)
    second.take()
    assert len(calls) == 2
    assert second._is_note(second._handle)
    third = Holder("s", "results/s", folder / ".snakemake", print)
    with pytest.raises(UserError, match="being made by another"):
        third.take()
    release(second)


def test_a_container_on_this_machine_may_have_another_name_each_time(folder):
    note(folder, host="0f3b7c")
    taken = Holder("s", "results/s", folder / ".snakemake", print)
    taken.take()
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
    assert holder.leftover_jobs() == ["1", "5"]


def test_a_controller_that_does_not_answer_is_no_proof_that_no_job_is_left(folder, monkeypatch):
    fake_squeue(folder, monkeypatch, "#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(holder, "SQUEUE_TRIES", 2)
    monkeypatch.setattr(holder.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="SLURM does not answer"):
        holder.leftover_jobs()
