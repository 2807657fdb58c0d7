"""What goes wrong on real machines, done for real: afterwards the same command ends with the
results of an undisturbed run, and nothing that was complete is computed again."""

import copy
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import MINIATURE, Workflow, plain_environment

SMALL = copy.deepcopy(MINIATURE) | {"seeds": [0], "figures": {"limit": {}}}
SMALL["datasets"] = {"digits": SMALL["datasets"]["digits"]}
SMALL["methods"] = {"identity": {}, "alg1": {"profile": "paper", "steps": 5}, "optimum": {}}
SMALL["attacks"] = {"gradient_descent": {}, "adam": {}}
KINDS = ("job", "snakemake", "group")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """Results of a small study, and how long it took."""
    workflow = Workflow(tmp_path_factory.mktemp("undisturbed"))
    workflow.configure(SMALL)
    started = time.monotonic()
    run = workflow.run()
    assert run.code == 0, run.output
    return workflow.results(), time.monotonic() - started


@pytest.fixture
def small(tmp_path) -> Workflow:
    """A checkout with the small study, not yet run."""
    workflow = Workflow(tmp_path / "small")
    workflow.configure(SMALL)
    return workflow


def kill(workflow: Workflow, process: subprocess.Popen, kind: str) -> None:
    """SIGKILL one thing."""
    if kind == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif kind == "snakemake":
        process.kill()
    else:
        for pid in workflow.stages()[:1]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it has just ended
                continue


def trial(workflow: Workflow, expected: dict[str, bytes], kind: str, moment: float) -> None:
    """Kill at a moment, run the same command again, compare."""
    process = workflow.start()
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        kill(workflow, process, kind)
    process.wait(timeout=120)
    before = workflow.complete()
    run = workflow.run()
    assert run.code == 0, (kind, moment, run.output)
    after = workflow.complete()
    again = [name for name, written in before.items() if after[name] != written]
    assert not again, (kind, moment, again)
    found = workflow.results()
    assert found.keys() == expected.keys(), (kind, moment)
    assert [n for n in found if found[n] != expected[n]] == [], (kind, moment)


@pytest.mark.parametrize(("kind", "share"), [("job", 0.3), ("snakemake", 0.5), ("group", 0.75)])
def test_a_kill(small, undisturbed, kind, share):
    expected, seconds = undisturbed
    trial(small, expected, kind, share * seconds)


@pytest.mark.slow
def test_twenty_four_kills_at_random_moments(undisturbed, tmp_path):
    expected, seconds = undisturbed
    draw = random.Random(7)
    for number in range(24):
        workflow = Workflow(tmp_path / str(number))
        workflow.configure(SMALL)
        trial(workflow, expected, KINDS[number % 3], draw.uniform(0.1, 0.95) * seconds)


def test_ctrl_c_ends_the_jobs_and_the_next_run_goes_on(small, undisturbed):
    process = small.start()
    pid = small.wait_for_stage("immunization.immunize")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=60) != 0
    assert not Path(f"/proc/{pid}").exists()
    run = small.run()
    assert run.code == 0, run.output
    assert small.results() == undisturbed[0]


def test_jobs_do_not_outlive_a_killed_snakemake(small):
    process = small.start()
    pid = small.wait_for_stage("immunization.attack")
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_a_second_snakemake_is_told_who_is_at_work_and_the_first_goes_on(small, undisturbed):
    process = small.start()
    small.wait_for_stage("immunization.prepare")
    second = small.run()
    assert second.code != 0
    assert "results/mini: is being made by another Snakemake" in second.output
    assert f"process {process.pid}" in second.output
    assert small.run("-n").code == 0  # looking is free
    assert process.wait(timeout=120) == 0
    assert small.results() == undisturbed[0]


@pytest.fixture
def disk(small):
    """The results folder as a disk of its own, of a size that can be changed; ends unmounted."""
    place = small.folder / "results"
    place.mkdir()

    def mount(*options: str) -> None:
        done = subprocess.run(
            ["mount", *options, str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")

    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mount("-t", "tmpfs", "-o", "size=200k", "tmpfs")
    yield mount
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_and_with_more_space_the_study_goes_on(small, disk, undisturbed):
    run = small.run()
    assert run.code != 0
    assert "the disk is full (no space left in results/mini" in run.output, run.output
    assert "Nothing that was finished is lost" in run.output
    before = small.complete()
    disk("-o", "remount,size=64m")
    run = small.run()
    assert run.code == 0, run.output
    assert all(small.complete()[name] == written for name, written in before.items())
    assert small.results() == undisturbed[0]


def test_a_read_only_folder_is_named_and_once_writable_the_study_goes_on(small, disk, undisturbed):
    disk("-o", "remount,size=64m,ro")
    run = small.run()
    assert run.code != 0
    assert "Read-only file system" in run.output or "read-only" in run.output, run.output
    disk("-o", "remount,size=64m,rw")
    run = small.run()
    assert run.code == 0, run.output
    assert small.results() == undisturbed[0]


@pytest.fixture
def done(undisturbed, small) -> Workflow:
    """The small study, finished."""
    run = small.run()
    assert run.code == 0, run.output
    return small


def flip(path: Path) -> None:
    """Change one bit amid a file, and leave its dates as they are."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def verify(workflow: Workflow, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "immunization.verify", "results/mini", *arguments],
        cwd=workflow.folder, env=plain_environment() | {"PYTHONPATH": "src"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


DAMAGED = (
    "tasks/digits.safetensors", "immunized/alg1/digits.safetensors", "spectrum/spectra.parquet",
    "attack/digits.simulated.steps.parquet", "tables/ratios.csv", "figures/limit.digits.svg",
    "study.json", "report.html",
)  # fmt: skip


def test_one_flipped_bit_in_any_file_is_found_named_and_repaired(done, undisturbed):
    """Also where dates are as before, and Snakemake sees nothing to do."""
    assert verify(done).returncode == 0
    for name in DAMAGED:
        flip(done.folder / "results" / "mini" / name)
    found = verify(done, "--repair")
    assert found.returncode == 1
    assert [n for n in DAMAGED if f"results/mini/{n}: its SHA-256 is" in found.stdout] == [*DAMAGED]
    run = done.run()
    assert run.code == 0, run.output
    assert verify(done).returncode == 0
    assert done.results() == undisturbed[0] | {
        f"{name}.damaged": done.results()[f"{name}.damaged"] for name in DAMAGED
    }


def test_a_damaged_input_stops_the_job_that_reads_it_and_the_next_run_makes_it_anew(
    done, undisturbed
):
    base = done.folder / "results" / "mini"
    flip(base / "immunized/alg1/digits.safetensors")
    (base / "spectrum/spectra.parquet").unlink()
    run = done.run()
    assert run.code != 0
    assert "immunized/alg1/digits.safetensors: damaged: its SHA-256 is" in run.output
    run = done.run()
    assert run.code == 0, run.output
    (base / "immunized/alg1/digits.safetensors.damaged").unlink()
    assert done.results() == undisturbed[0]


def test_a_clock_that_runs_ahead_on_one_machine(done, undisturbed):
    """The machine that prepared the tasks dates them tomorrow; another goes on from there."""
    base = done.folder / "results" / "mini"
    ahead = time.time() + 86400
    os.utime(base / "tasks/digits.safetensors", (ahead, ahead))
    (base / "immunized/optimum/digits.safetensors").unlink()
    (base / "spectrum/ratios.parquet").unlink()
    run = done.run()
    assert run.code == 0, run.output
    assert done.results() == undisturbed[0]
    assert "Nothing to be done" in done.run().output
