"""Claims of GPUs by real processes that start together; `nvidia-smi` alone is replaced."""

import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.gpus import claims
from tests import HANG

ROOT = Path(__file__).parents[2]
CLAIM = """
import os, sys, time
import logging
from immunization.runtime.gpus import claims
logging.basicConfig(level=logging.INFO)
claims.claim()
began = time.time()
print(os.environ["CUDA_VISIBLE_DEVICES"], began, flush=True)
if sys.argv[1] == "hold":
    sys.stdin.read()
else:
    time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Two GPUs, and a folder of locks of their own."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "nvidia-smi"
    script.write_text("#!/bin/sh\nprintf '0, GPU-a\\n1, GPU-b\\n'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(environment.LEDGER, str(tmp_path / "ledger"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def claimer(seconds=0.5, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(seconds)],
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


def test_jobs_share_a_gpu_where_the_config_says_so(machine):
    given = {environment.JOBS_PER_GPU: "2"}
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


def test_a_job_that_wants_a_whole_gpu_does_not_join_one_that_is_shared(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    third = claimer(seconds="hold", **{environment.JOBS_PER_GPU: "3"})
    assert third.stdout.readline().startswith("GPU-a")
    whole = claimer(seconds=0)
    assert "waiting for a GPU" in whole.stderr.readline()
    another = claimer(seconds="hold", **{environment.JOBS_PER_GPU: "3"})
    assert another.stdout.readline().startswith("GPU-a")
    for process in (third, another):
        process.communicate(timeout=HANG)
    assert whole.communicate(timeout=HANG)[0].startswith("GPU-a")


def test_the_gpu_of_a_killed_job_is_free(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    holder = claimer(seconds=100)
    assert holder.stdout.readline()
    holder.kill()
    holder.communicate()
    assert len(spans([claimer(seconds=0)], 0)) == 1


def test_only_gpus_that_the_environment_allows_are_taken(machine, monkeypatch):
    for allowed in ("1", "GPU-b"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
        assert [device.uuid for device in claims.visible_gpus()] == ["GPU-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert claims.visible_gpus() == []
    assert claims.claim() is None


@pytest.mark.parametrize(
    "script",
    ["sleep 1000", "echo NVIDIA-SMI has failed because it could not talk to the driver.",
     "echo '0, GPU-a, [N/A], what'", "printf '\\377\\n'; exit 9", "exit 9"],
)  # fmt: skip
def test_an_nvidia_smi_that_hangs_or_prints_a_sentence_names_no_gpu(machine, monkeypatch, script):
    (machine / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    monkeypatch.setattr(claims, "SECONDS", 0.5)
    assert claims.visible_gpus() == []


def test_a_folder_that_cannot_be_locked_is_named(machine, monkeypatch):
    (machine / "file").write_text("")
    monkeypatch.setenv(environment.LEDGER, str(machine / "file" / "ledger"))
    with pytest.raises(UserError, match=r"files there cannot be locked.*IMMUNIZATION_LEDGER"):
        claims.claim()
