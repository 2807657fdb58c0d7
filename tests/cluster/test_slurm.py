"""Studies through a real SLURM: where jobs run, what they ask for, and what faults leave behind."""

import copy
import os
import signal
import subprocess
import time

import pytest
import yaml

from tests import HANG
from tests.workflow.conftest import MINIATURE, Workflow, plain_environment

from .conftest import SCRIPT, slurm

COMPUTING = {"immunize", "spectrum", "attack"}


def rule_of(record):
    return record["Comment"].removeprefix("rule_").split("_wildcards")[0]


@pytest.fixture(scope="session")
def local(finished) -> dict[str, bytes]:
    """Results of the miniature study, run without SLURM."""
    return finished.results()


def test_a_study_through_slurm_has_every_job_in_its_partition_with_its_gpu(cluster, local):
    run = cluster.submit()
    assert run.code == 0, run.output
    jobs = cluster.jobs()
    rules = [rule_of(record) for record in jobs]
    assert {rule: rules.count(rule) for rule in rules} == {
        "prepare": 2, "immunize": 3, "spectrum": 1, "attack": 2,
    }  # fmt: skip
    for record in jobs:
        computing = rule_of(record) in COMPUTING
        assert record["JobState"] == "COMPLETED", record
        assert record["Partition"] == ("gpu" if computing else "cpu"), record
        # Asked for by Snakemake, granted by SLURM.
        assert record.get("TresPerJob") == ("gres:gpu:1" if computing else None), record
        assert record["JobName"].startswith("immunization")
    logs = cluster.folder / "logs" / "slurm"
    assert len(list(logs.rglob("*.log"))) == len(jobs)
    assert (cluster.folder / "logs/mini/immunize/alg1.log").is_file()
    assert cluster.results() == local
    assert "Nothing to be done" in cluster.submit().output


@pytest.mark.slow
def test_with_two_forced_failures_the_results_are_the_same(cluster, local):
    """One job is cancelled, and the process of another is killed: both are tried again."""
    process = cluster.start()
    slurm("scancel", cluster.wait_for("prepare"))
    cluster.wait_for("immunize")
    os.kill(cluster.wait_for_stage("immunization.stages.immunize"), signal.SIGKILL)
    code = process.wait(timeout=HANG)
    output = (cluster.folder / "out.txt").read_text()
    assert code == 0, output
    states = [record["JobState"] for record in cluster.jobs()]
    assert states.count("CANCELLED") == 1
    assert states.count("FAILED") == 1
    assert cluster.results() == local


@pytest.mark.slow
def test_jobs_of_a_killed_snakemake_are_waited_for_and_their_results_used(cluster, local):
    process = cluster.start()
    cluster.wait_for("immunize")
    process.kill()
    process.wait()
    run = cluster.submit()
    assert run.code == 0, run.output
    assert "waiting for SLURM jobs that work in this folder" in run.output
    rules = [record["Comment"] for record in cluster.jobs()]
    assert len(rules) == len(set(rules)), "a job was submitted twice"
    assert cluster.results() == local


def long_study(cluster):
    """The miniature with one method that takes well over a minute, in batches of a pair."""
    config = copy.deepcopy(MINIATURE)
    config["methods"]["alg1"] = {"profile": "paper", "steps": 10000}
    cluster.configure(config)
    module = cluster.folder / "src" / "immunization" / "linear" / "batching.py"
    module.write_text(module.read_text().replace("HOST_BYTES = 2 * 2**30", "HOST_BYTES = 1"))


@pytest.fixture(scope="session")
def long_local(tmp_path_factory) -> dict[str, bytes]:
    workflow = Workflow(tmp_path_factory.mktemp("long"))
    long_study(workflow)
    run = workflow.run()
    assert run.code == 0, run.output
    return workflow.results()


@pytest.mark.slow
def test_a_pre_empted_job_is_saved_requeued_and_goes_on(cluster, long_local):
    long_study(cluster)
    process = cluster.start()
    number = cluster.wait_for("immunize_wildcards_alg1")
    log = cluster.folder / "logs/mini/immunize/alg1.log"
    end = time.monotonic() + HANG
    while time.monotonic() < end and (not log.is_file() or "unit 2 " not in log.read_text()):
        time.sleep(0.2)
    urgent = slurm(
        "sbatch", "--parsable", "-p", "urgent", "--gpus=2", "-c", "8", "-o", "/dev/null",
        "--wrap", "sleep 5",
    ).strip()  # fmt: skip
    kept = cluster.folder / "results/mini/progress/immunize/alg1"
    end = time.monotonic() + HANG
    while time.monotonic() < end and len(list(kept.glob("[!.]*.safetensors"))) < 2:
        time.sleep(0.2)
    time.sleep(2)  # a third was perhaps being written
    saved = len(list(kept.glob("[!.]*.safetensors")))
    assert saved >= 2
    assert process.wait(timeout=HANG) == 0, (cluster.folder / "out.txt").read_text()
    record = next(r for r in cluster.jobs() if r["JobId"] == number)
    assert record["Restarts"] == "1"
    assert record["JobState"] == "COMPLETED"
    text = log.read_text()  # of the last run alone
    assert f"{saved} of them saved" in text, text
    assert urgent
    assert cluster.results() == long_local


@pytest.mark.slow
def test_a_job_over_its_time_is_saved_and_goes_on_with_more(cluster, long_local):
    long_study(cluster)
    # In place of all of the profile's `set-resources`: every job runs in the partition cpu then.
    run = cluster.submit("--set-resources", "immunize:runtime=attempt")
    assert run.code == 0, run.output
    tried = [r for r in cluster.jobs() if "immunize_wildcards_alg1" in r["Comment"]]
    *over, last = tried
    assert over
    assert {r["JobState"] for r in over} == {"TIMEOUT"}
    assert last["JobState"] == "COMPLETED"
    assert [r["TimeLimit"] for r in tried] == [f"00:0{n + 1}:00" for n in range(len(tried))]
    text = (cluster.folder / "logs/mini/immunize/alg1.log").read_text()
    assert int(text.split(" of them saved")[0].split()[-1]) >= 1, text
    assert cluster.results() == long_local


@pytest.mark.slow
def test_a_job_over_its_memory_is_killed_and_tried_with_more(cluster, local):
    run = cluster.submit("--set-resources", "spectrum:mem_mb=100*40**(attempt-1)")
    assert run.code == 0, run.output
    tried = [r for r in cluster.jobs() if rule_of(r) == "spectrum"]
    assert [r["JobState"] for r in tried] == ["FAILED", "COMPLETED"]
    assert [r["MinMemoryNode"] for r in tried] == ["100M", "4000M"]
    said = "".join(
        path.read_text() for path in (cluster.folder / "logs/slurm/rule_spectrum").rglob("*.log")
    )
    assert "exceeded memory limit" in said
    assert cluster.results() == local


@pytest.mark.slow
def test_a_node_that_vanishes_gives_its_jobs_back(cluster, local):
    process = cluster.start()
    number = cluster.wait_for("immunize")
    slurm(str(SCRIPT), "crash-node")
    try:
        end = time.monotonic() + HANG
        while time.monotonic() < end and "down" not in slurm("sinfo", "-hN", "-o", "%T"):
            time.sleep(0.5)
        assert "down" in slurm("sinfo", "-hN", "-o", "%T")
    finally:
        slurm(str(SCRIPT), "start-node")
    assert process.wait(timeout=HANG) == 0, (cluster.folder / "out.txt").read_text()
    record = next(r for r in cluster.jobs() if r["JobId"] == number)
    assert record["Restarts"] == "1"
    assert record["JobState"] == "COMPLETED"
    assert cluster.results() == local


SITES = {
    "typed": {"gpu_model": "fake"},
    "gres": {"gpu": 0, "gres": "gpu:fake:1"},
    "none": {"gpu": 0},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "asked"),
    [("typed", "gres:gpu:fake:1"), ("gres", "gres:gpu:fake:1"), ("none", None)],
)
def test_gpus_are_asked_for_as_the_site_has_them(cluster, site, asked):
    """The lines of `docs/cluster.md`, in a copy of the profile."""
    path = cluster.folder / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["set-resources"]["immunize"] |= SITES[site]
    path.write_text(yaml.safe_dump(profile))
    run = cluster.submit("--until", "immunize")
    assert run.code == 0, run.output
    own = [record for record in cluster.jobs() if rule_of(record) == "immunize"]
    assert len(own) == 3
    for record in own:
        assert record["JobState"] == "COMPLETED"
        assert (record.get("TresPerJob") or record.get("TresPerNode")) == asked, record


@pytest.mark.slow
def test_the_default_study_runs_in_miniature(cluster, tmp_path):
    """`config/config.yaml` with fewer rows, pairs, seeds and steps."""
    overlay = {
        "study": "mini",
        "seeds": [0],
        "datasets": {
            "digits": {"rows_per_class": 40, "pairs": [[0, 1], [1, 0]]},
            "digits_one_vs_rest": {"rows_per_class": 40, "pairs": [[3, 8]]},
        },
        "methods": {
            label: {"steps": 3}
            for label in (
                "r_ill_only", "opt_kappa", "opt_kappa_clipped", "alg1_paper", "alg1_corrected",
            )
        },
        "attack": {"budget": 100, "budget_likelihood": 20, "sampled_pairs": 1},
    }  # fmt: skip

    def run(workflow, *arguments):
        (workflow.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay, sort_keys=False))
        done = subprocess.run(
            [*workflow.command(config="config/config.yaml"), "--configfile", "config/config.yaml",
             "overlay.yaml", *arguments],
            cwd=workflow.folder, env=plain_environment(), capture_output=True, text=True,
            timeout=HANG, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    here = Workflow(tmp_path / "here")
    run(here)
    run(cluster)
    rules = [rule_of(record) for record in cluster.jobs()]
    assert rules.count("immunize") == 14
    assert rules.count("attack") == 9
    assert all(record["JobState"] == "COMPLETED" for record in cluster.jobs())
    assert cluster.results() == here.results()
