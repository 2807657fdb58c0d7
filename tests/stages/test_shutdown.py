"""A stage that is asked to end saves what is finished, and goes on from there."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from immunization.linear.files import save_task_set
from tests import HANG
from tests.linear.conftest import task_set
from tests.studies import arguments, write_study

ROOT = Path(__file__).parents[2]
PREAMBLE = """
import immunization.linear.batching as batching
import immunization.linear.immunize as work
batching.HOST_BYTES = 1  # every pair is a batch of its own
import resource, sys
from immunization.runtime.jobs.command import run_command
from immunization.stages import immunize
"""


@pytest.fixture(scope="module")
def tasks(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("tasks") / "mini.safetensors"
    save_task_set(path, task_set(source, seeds=(0, 1, 2, 3)))
    return path


def start(tasks, out, *, before="", environment=None, steps=60):
    """The stage immunize, with a batch a pair, whose results it keeps when it is asked to end."""
    raw = {
        "study": "mini", "seeds": [0, 1, 2, 3], "datasets": {"mini": {"source": "digits"}},
        "methods": {"identity": {}, "a": {"use": "alg1", "profile": "paper", "steps": steps}},
        "attacks": {"gradient_descent": {}},
    }  # fmt: skip
    study = write_study(out, raw)
    if not (out / "tasks").exists():
        shutil.copytree(tasks.parent, out / "tasks")
    given = arguments(study, "a", device="cpu", checkpoint_seconds=1000)
    return subprocess.Popen(
        [sys.executable, "-c", f"{PREAMBLE}{before}run_command(immunize.main)", *given],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **(environment or {})},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def progress(out):
    """Folder with finished batches."""
    return out / "progress" / "immunize" / "a"


def theta(out):
    """The result."""
    return out / "immunized" / "a" / "mini.safetensors"


def after_pieces(process, count):
    """Wait until so many pieces are done."""
    for _ in range(count):
        line = process.stderr.readline()
        assert "unit" in line, line


@pytest.fixture(scope="module")
def whole(tasks, tmp_path_factory):
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("whole")
    process = start(tasks, out)
    text = process.communicate(timeout=HANG)[1]
    assert process.returncode == 0, text
    assert text.count("unit ") > 10
    assert not list(progress(out).glob("*"))
    return out


def go_on(tasks, out, whole):
    """The same command again ends with the same bytes; how many pieces it took over."""
    process = start(tasks, out)
    text = process.communicate(timeout=HANG)[1]
    assert process.returncode == 0, text
    for suffix in (".safetensors", ".parquet"):
        found, wanted = (theta(folder).with_suffix(suffix) for folder in (out, whole))
        assert found.read_bytes() == wanted.read_bytes()
    assert not list(progress(out).glob("*"))
    return int(text.split(" of them saved")[0].split()[-1])


def saved(out, count):
    """Wait until so many pieces are on the disk."""
    end = time.monotonic() + HANG
    while len(list(progress(out).glob("*.safetensors"))) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_finished_batches_are_saved_at_a_signal_and_not_computed_again(
    tasks, tmp_path, whole, number
):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and so by what is started")
    process = start(tasks, tmp_path)
    after_pieces(process, 5)
    process.send_signal(number)
    text = process.communicate(timeout=HANG)[1]
    assert process.returncode == 143, text
    assert "saving completed work" in text
    assert not theta(tmp_path).exists()
    kept = len(list(progress(tmp_path).glob("*.safetensors")))
    assert kept >= 5
    if number == signal.SIGTERM:  # what is kept is the same after each
        assert go_on(tasks, tmp_path, whole) == kept


def test_a_stage_ends_with_the_snakemake_that_started_it(tasks, tmp_path):
    owner = subprocess.Popen(["sleep", "1000"])
    process = start(tasks, tmp_path, environment={"IMMUNIZATION_OWNER": str(owner.pid)})
    after_pieces(process, 3)
    owner.kill()
    owner.wait()
    text = process.communicate(timeout=HANG)[1]
    assert process.returncode == 143
    assert "the Snakemake that started this job is gone" in text
    assert len(list(progress(tmp_path).glob("*.safetensors"))) >= 3


MACOS = """
import os, sys
del os.pidfd_open
for name in ("sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)

def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc", "/sys")):
        frame = sys._getframe(1)
        while frame is not None:
            if "/src/immunization/" in frame.f_code.co_filename:
                raise FileNotFoundError(2, "No such file or directory", str(arguments[0]))
            if "/psutil/" in frame.f_code.co_filename:
                return
            frame = frame.f_back

sys.addaudithook(refuse)
"""


@pytest.fixture
def macos(tmp_path_factory, monkeypatch):
    """Python without what Linux alone has, ``/proc`` for our own code included."""
    folder = tmp_path_factory.mktemp("macos")
    (folder / "sitecustomize.py").write_text(MACOS)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT / 'src'}")
    return os.environ["PYTHONPATH"]


def test_a_stage_ends_with_its_snakemake_without_what_linux_alone_has(tasks, tmp_path, macos):
    owner = subprocess.Popen(["sleep", "1000"])
    given = {"IMMUNIZATION_OWNER": str(owner.pid), "PYTHONPATH": macos}
    process = start(tasks, tmp_path, environment=given)
    after_pieces(process, 3)
    owner.kill()  # and nobody waits for it: it stays listed, as a zombie
    text = process.communicate(timeout=HANG)[1]
    owner.wait()
    assert process.returncode == 143, text
    assert "the Snakemake that started this job is gone" in text


@pytest.mark.slow
def test_the_core_of_the_suite_passes_without_what_linux_alone_has(macos):
    """Each in processes of their own, which find the same."""
    tests = ("runtime", "linear/test_stages.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         *(f"tests/{name}" for name in tests)],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=HANG,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


def test_a_terminal_that_goes_ends_both_and_nothing_is_lost(tasks, tmp_path, whole):
    """The stage is told, and at once its Snakemake is gone, while the stage still saves."""
    owner = subprocess.Popen(["sleep", "1000"])
    slow = (
        "import time\nfrom immunization.runtime.jobs.resumable import ResumableUnits as Pieces\n"
        "write = Pieces.flush\n"
        "def flush(self):\n    time.sleep(0.5)\n    write(self)\n"
        "Pieces.flush = flush\n"
    )
    process = start(
        tasks, tmp_path, before=slow, environment={"IMMUNIZATION_OWNER": str(owner.pid)}
    )
    after_pieces(process, 3)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.02)
    owner.kill()
    owner.wait()
    text = process.communicate(timeout=HANG)[1]
    assert process.returncode == 143, text
    assert list(progress(tmp_path).glob("*.safetensors"))
    assert go_on(tasks, tmp_path, whole) >= 3


def test_a_second_signal_ends_a_stage_at_once(tasks, tmp_path):
    process = start(tasks, tmp_path, environment={"SLURM_JOB_ID": "1"})
    after_pieces(process, 2)
    process.send_signal(signal.SIGTERM)
    saved(tmp_path, 2)
    time.sleep(1)
    assert process.poll() is None  # it waits for SLURM
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=HANG)
    assert process.returncode == 143


def test_a_slurm_job_that_is_saved_waits_for_slurm_to_end_it(tasks, tmp_path, whole):
    """Else SLURM would count it as failed, and not put a pre-empted job back into the queue."""
    process = start(tasks, tmp_path, environment={"SLURM_JOB_ID": "1"})
    after_pieces(process, 2)
    process.send_signal(signal.SIGTERM)
    saved(tmp_path, 2)
    time.sleep(1)
    assert process.poll() is None
    process.kill()  # what SLURM does after the grace time
    process.communicate()
    assert go_on(tasks, tmp_path, whole) >= 2


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [({}, "--set-resources RULE:mem_mb=N"), ({"SLURM_JOB_ID": "1"}, "`mem_mb` of the rule under")],
)
def test_too_little_memory_is_told_with_the_remedy(tasks, tmp_path, environment, remedy):
    limit = (
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))\n"
        "import torch\n"
        "work.load_task_set = lambda path: torch.zeros(2**27)\n"
    )
    process = start(tasks, tmp_path, before=limit, environment=environment)
    text = process.communicate(timeout=HANG)[1]
    assert process.returncode == 2, text
    assert "out of memory" in text
    assert remedy in text


def test_too_little_gpu_memory_is_told_with_the_remedy(tasks, tmp_path):
    fails = (
        "import torch\n"
        "def fail(path):\n    raise torch.OutOfMemoryError('CUDA out of memory. Tried 9 GiB.')\n"
        "work.load_task_set = fail\n"
    )
    process = start(tasks, tmp_path, before=fails)
    text = process.communicate(timeout=HANG)[1]
    assert process.returncode == 2, text
    assert "out of GPU memory (CUDA out of memory. Tried 9 GiB.)" in text
    assert "Traceback" not in text
