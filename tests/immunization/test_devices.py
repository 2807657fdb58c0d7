"""Claims of GPUs by real processes that start together; `nvidia-smi` alone is replaced."""

import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from immunization import devices
from immunization.errors import UserError
from tests import HANG

ROOT = Path(__file__).parents[2]
CLAIM = """
import os, sys, time
from immunization import devices, stage
chosen = devices.claim(int(sys.argv[1]))
began = time.time()
print(os.environ["CUDA_VISIBLE_DEVICES"], began, flush=True)
if sys.argv[2] == "hold":
    sys.stdin.read()
else:
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Two GPUs of 10,000 MiB, and a ledger of their own."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "nvidia-smi"
    script.write_text("#!/bin/sh\nprintf '0, GPU-a, 10000\\n1, GPU-b, 10000\\n'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(devices.LEDGER, str(tmp_path / "ledger"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def claimer(count=1, seconds=0.5, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(count), str(seconds)],
        env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        stdin=subprocess.PIPE,
    )  # fmt: skip


def spans(processes, seconds):
    """(GPU, from, to) of each claim."""
    found = []
    for process in processes:
        out, told = process.communicate(timeout=HANG)
        assert process.returncode == 0, told
        names, began = out.split()
        found += [(name, float(began), float(began) + seconds) for name in names.split(",")]
    return found


def most_at_once(found, name):
    own = [span for span in found if span[0] == name]
    return max(sum(a <= moment < b for _, a, b in own) for _, moment, _ in own)


def test_jobs_that_start_together_never_hold_the_same_gpu(machine):
    found = spans([claimer() for _ in range(8)], 0.5)
    assert {name for name, _, _ in found} == {"GPU-a", "GPU-b"}
    assert most_at_once(found, "GPU-a") == most_at_once(found, "GPU-b") == 1


def test_jobs_that_declare_their_memory_share_a_gpu_up_to_what_it_has(machine):
    given = {devices.MEMORY: "2.5"}  # with 2 GiB for CUDA two fit into 10,000 MiB, and three do not
    holding = [claimer(seconds="hold", **given) for _ in range(6)]
    told: queue.Queue[tuple[subprocess.Popen, str]] = queue.Queue()
    for process in holding:
        read = threading.Thread(
            target=lambda p=process: told.put((p, p.stdout.readline())), daemon=True
        )
        read.start()
    first = [told.get(timeout=HANG) for _ in range(4)]
    assert Counter(line.split()[0] for _, line in first) == {"GPU-a": 2, "GPU-b": 2}
    assert told.empty()  # two wait
    for _ in range(2):  # and each comes in where one leaves
        process, line = first.pop(0)
        process.communicate(timeout=HANG)
        other, next_line = told.get(timeout=HANG)
        assert next_line.split()[0] == line.split()[0]
        first.append((other, next_line))
    for process, _ in first:
        process.communicate(timeout=HANG)


def test_jobs_that_take_both_gpus_do_not_wait_for_each_other_for_ever(machine):
    found = spans([claimer(count=2) for _ in range(4)], 0.5)
    assert len(found) == 8
    assert most_at_once(found, "GPU-a") == 1


def test_the_gpus_of_a_killed_job_are_free(machine):
    holder = claimer(count=2, seconds=100)
    assert holder.stdout.readline()
    holder.kill()
    holder.communicate()
    assert len(spans([claimer(count=2, seconds=0)], 0)) == 2


def test_only_gpus_that_the_environment_allows_are_taken(machine, monkeypatch):
    for allowed in ("1", "GPU-b"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
        assert [device.uuid for device in devices.visible()] == ["GPU-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.visible() == []
    assert devices.claim() == []


def test_what_the_machine_can_never_give_is_refused(machine, monkeypatch):
    with pytest.raises(UserError, match=r"'gpus': a job is to take 3 GPUs, and 2 can be seen"):
        devices.claim(3)
    monkeypatch.setenv(devices.MEMORY, "80")
    with pytest.raises(UserError, match="80 GiB, and 2 GiB for CUDA itself, are more"):
        devices.claim()


def test_gpus_that_do_not_tell_their_memory_are_whole_or_taken(machine, monkeypatch):
    script = machine / "bin" / "nvidia-smi"
    script.write_text(script.read_text().replace("10000", "[N/A]"))
    found = spans([claimer() for _ in range(4)], 0.5)
    assert most_at_once(found, "GPU-a") == most_at_once(found, "GPU-b") == 1
    monkeypatch.setenv(devices.MEMORY, "2")
    with pytest.raises(UserError, match="does not tell the memory"):
        devices.claim()


def test_places_for_local_jobs(machine):
    two = devices.visible()
    assert devices.places(two, None) == 2
    assert devices.places(two, 2.5) == 4
    assert devices.places([], None) == 0
