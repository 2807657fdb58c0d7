"""What goes wrong on real machines, done for real: afterwards the same command ends with the
results of an undisturbed run, and nothing that was complete is computed again."""

import copy
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from immunization.runtime.jobs.run_lock import RunLock
from tests import HANG

from .conftest import MINIATURE, ROOT, Workflow, plain_environment

SRC = ROOT / "src"

SMALL = copy.deepcopy(MINIATURE) | {"seeds": [0], "figures": {"limit": {}}}
SMALL["datasets"] = {"digits": SMALL["datasets"]["digits"]}
SMALL["methods"] = {"identity": {}, "alg1": {"profile": "paper", "steps": 5}}
SMALL["attacks"] = {"gradient_descent": {}, "adam": {}}
KINDS = ("job", "snakemake", "group")
# What a run is asked for where the rest of the study would show nothing more.
THETA = ("--", "results/mini/immunized/alg1/digits.safetensors")
ATTACKED = (
    "--",
    *(f"results/mini/attack/digits.{e}.steps.parquet" for e in ("simulated", "trained")),
)


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> tuple[Workflow, float]:
    """A small study, run once from nothing, and how long it took. Tests leave it as it is."""
    workflow = Workflow(tmp_path_factory.mktemp("undisturbed"))
    workflow.configure(SMALL)
    started = time.monotonic()
    run = workflow.run()
    assert run.code == 0, run.output
    return workflow, time.monotonic() - started


@pytest.fixture(scope="module")
def undisturbed(complete) -> tuple[dict[str, bytes], float]:
    """Its results, and how long it took."""
    return complete[0].results(), complete[1]


@pytest.fixture
def small(tmp_path) -> Workflow:
    """A checkout with the small study, not yet run."""
    workflow = Workflow(tmp_path / "small")
    workflow.configure(SMALL)
    return workflow


def kill(workflow: Workflow, process: subprocess.Popen, kind: str) -> None:
    """SIGKILL one thing; a job as soon as one runs."""
    if kind == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif kind == "snakemake":
        process.kill()
    else:
        while process.poll() is None:
            try:
                os.kill(workflow.stages()[0], signal.SIGKILL)
            except (IndexError, ProcessLookupError):  # between two jobs
                time.sleep(0.02)
            else:
                return
        raise AssertionError("no job was running until the end")


def trial(workflow: Workflow, expected: dict[str, bytes], kind: str, moment: float) -> bool:
    """Kill at a moment, run the same command again, compare; False where it had ended by then."""
    process = workflow.start()
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        kill(workflow, process, kind)
    else:
        return False
    goes_on(workflow, process, expected, f"{kind} after {moment} s")
    return True


def agrees(workflow: Workflow, expected: dict[str, bytes], goal: tuple[str, ...] = ()) -> None:
    """Results are those of an undisturbed run: all of them, or those that a goal needs."""
    found = workflow.results()
    names = [name.removeprefix("results/mini/") for name in goal[1:]] or expected
    assert set(names) <= found.keys() <= expected.keys()
    assert [n for n in found if found[n] != expected[n]] == []


def goes_on(
    workflow: Workflow,
    process: subprocess.Popen,
    expected: dict[str, bytes],
    what: str,
    goal: tuple[str, ...] = (),
) -> None:
    """The same command after a kill does what is missing, and no more."""
    assert process.wait(timeout=HANG) != 0
    before = workflow.complete()
    run = workflow.run(*goal)
    assert run.code == 0, (what, run.output)
    after = workflow.complete()
    again = [name for name, written in before.items() if after[name] != written]
    assert not again, (what, again)
    agrees(workflow, expected, goal)


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        pytest.param("job", "prepare", marks=pytest.mark.slow),
        pytest.param("snakemake", "immunize", marks=pytest.mark.slow),
        ("group", "attack"),
    ],
)
def test_a_kill(small, undisturbed, kind, stage):
    """While a stage is at work; the same command goes on, and ends with the same results."""
    process = small.start(*ATTACKED)
    small.wait_for_stage(f"immunization.stages.{stage}")
    kill(small, process, kind)
    goes_on(small, process, undisturbed[0], kind, ATTACKED)


@pytest.mark.slow
def test_a_kill_where_snakemake_keeps_its_notes_in_a_data_base(small, undisturbed):
    keep = ("--persistence-backend", "db")
    process = small.start(*keep)
    small.wait_for_stage("immunization.stages.immunize")
    second = small.run(*keep)
    assert f"process {process.pid}" in second.output
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run = small.run(*keep)
    assert run.code == 0, run.output
    assert "was killed; going on where it stopped" in run.output
    assert small.results() == undisturbed[0]


@pytest.mark.slow
def test_twenty_four_kills_at_random_moments(undisturbed, tmp_path):
    expected, seconds = undisturbed
    draw = random.Random(7)
    killed = 0
    for number in range(40):  # some have ended by then
        workflow = Workflow(tmp_path / str(number))
        workflow.configure(SMALL)
        moment = draw.uniform(0.1, 0.8) * seconds
        killed += trial(workflow, expected, KINDS[killed % 3], moment)
        if killed == 24:
            return
    raise AssertionError(f"only {killed} of 40 were still running")


@pytest.mark.slow
def test_ctrl_c_ends_the_jobs_and_the_next_run_goes_on(small, undisturbed):
    process = small.start()
    pid = small.wait_for_stage("immunization.stages.immunize")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=HANG) != 0
    assert not Path(f"/proc/{pid}").exists()
    run = small.run()
    assert run.code == 0, run.output
    assert small.results() == undisturbed[0]


@pytest.mark.slow
def test_jobs_do_not_outlive_a_killed_snakemake(small):
    process = small.start()
    pid = small.wait_for_stage("immunization.stages.attack")
    process.kill()
    process.wait()
    end = time.monotonic() + HANG
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_a_second_snakemake_is_told_who_is_at_work_and_the_first_goes_on(small, undisturbed):
    process = small.start(*THETA)
    small.wait_for_stage("immunization.stages.prepare")
    second = small.run()
    assert second.code != 0
    assert "results/mini: is being made by another Snakemake" in second.output
    assert f"process {process.pid}" in second.output
    assert small.run("-n").code == 0  # looking is free
    assert process.wait(timeout=HANG) == 0
    agrees(small, undisturbed[0], THETA)


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
    run = small.run(*ATTACKED)
    assert run.code != 0
    assert "the disk is full (no space left in results/mini" in run.output, run.output
    assert "Completed work is saved" in run.output
    before = small.complete()
    disk("-o", "remount,size=64m")
    run = small.run(*ATTACKED)
    assert run.code == 0, run.output
    assert all(small.complete()[name] == written for name, written in before.items())
    agrees(small, undisturbed[0], ATTACKED)


@pytest.mark.slow
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
def little_memory():
    """A control group of 20 MB, over which the kernel's OOM killer watches; ends removed."""
    for base, limit in (
        (Path("/sys/fs/cgroup"), "memory.max"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    ):
        group = base / f"immunization-{os.getpid()}"
        if not (base / "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:  # not ours to divide
            continue
        if not (group / limit).exists():  # memory is not handed down
            group.rmdir()
            continue
        (group / limit).write_text("20M")
        yield group
        group.rmdir()
        return
    pytest.skip("no control group for memory may be made here")


def oom_kills(group: Path) -> int:
    """How many processes of a control group the kernel has killed for want of memory."""
    events = next(p for n in ("memory.events", "memory.oom_control") if (p := group / n).exists())
    return int(dict(line.split() for line in events.read_text().splitlines())["oom_kill"])


def test_a_job_that_the_kernel_kills_for_want_of_memory(small, undisturbed, little_memory):
    process = small.start(*THETA)
    pid = small.wait_for_stage("immunization.stages.immunize")
    (little_memory / "cgroup.procs").write_text(f"{pid}")
    assert process.wait(timeout=HANG) != 0
    assert oom_kills(little_memory) == 1
    before = small.complete()
    run = small.run(*THETA)
    assert run.code == 0, run.output
    assert all(small.complete()[name] == written for name, written in before.items())
    agrees(small, undisturbed[0], THETA)


@pytest.fixture
def done(complete, tmp_path) -> Workflow:
    """A copy of the finished study, time stamps and all."""
    copied = Workflow.__new__(Workflow)
    copied.folder = tmp_path / "done"
    shutil.copytree(complete[0].folder, copied.folder, copy_function=shutil.copy2)
    return copied


def flip(path: Path) -> None:
    """Change one bit amid a file, and leave its dates as they are."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def verify(workflow: Workflow, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "immunization", "verify", "results/mini", *arguments],
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


@pytest.mark.slow
def test_a_damaged_input_stops_its_reader_and_is_made_anew(done, undisturbed):
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


def test_files_of_an_unfinished_run_are_not_taken_for_damaged(done):
    """Newer than the sums, which are taken when a study is finished."""
    base = done.folder / "results" / "mini"
    (base / ".SHA256SUMS.seal").unlink()
    lines = (base / "SHA256SUMS").read_text().splitlines()
    old = [f"{'0' * 64}  {line[66:]}" if "ratios.csv" in line else line for line in lines]
    (base / "SHA256SUMS").write_text("\n".join(old) + "\n")
    found = verify(done, "--repair")
    assert found.returncode == 1
    assert "tables/ratios.csv: rewritten since the sums were taken" in found.stdout
    assert (base / "tables/ratios.csv").is_file()


def test_a_study_that_is_being_made_is_not_repaired(small):
    process = small.start()
    small.wait_for_stage("immunization.stages.prepare")
    found = verify(small, "--repair")
    assert found.returncode == 2
    assert "results/mini: is being made by another Snakemake" in found.stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_another_user_is_told_who_is_at_work(small):
    if os.geteuid() != 0:
        pytest.skip("another user is needed")
    results = small.folder / "results" / "mini"
    holder = RunLock(results)
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from immunization.runtime.jobs.run_lock import RunLock\n"
        "os.setuid(65534)\n"
        f"RunLock(Path({str(results)!r})).acquire()"
    )
    holder.acquire()
    folders = [small.folder, *small.folder.parents]
    modes = {path: path.stat().st_mode for path in folders if len(path.parts) > 2}
    for path in modes:
        path.chmod(0o755)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=plain_environment() | {"PYTHONPATH": str(SRC)},
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
        holder.leave(os.getpid())
    assert "is being made by another Snakemake, started by root" in done.stderr


@pytest.mark.slow
def test_a_clock_that_runs_ahead_on_one_machine(done, undisturbed):
    """The machine that prepared the tasks dates them tomorrow; another goes on from there."""
    base = done.folder / "results" / "mini"
    ahead = time.time() + 86400
    os.utime(base / "tasks/digits.safetensors", (ahead, ahead))
    (base / "immunized/alg1/digits.safetensors").unlink()
    (base / "spectrum/ratios.parquet").unlink()
    run = done.run()
    assert run.code == 0, run.output
    assert done.results() == undisturbed[0]
    assert "Nothing to be done" in done.run().output
