"""What Snakemake costs: the DAG of the paper's study and of one a hundred times as large, and its
own part of a whole run.

    python benchmarks/scheduler.py                    # dry runs of both
    python benchmarks/scheduler.py --whole --compute 600

A dry run reads the config, checks it, builds the DAG and decides what is to be run: seconds and
peak memory of that process. The large study has a hundred times the paper's methods, 1,400, on the
same data: a hundred times the extractors, spectra and attacks. `--whole` runs every job of the
paper's study through Snakemake with stages that only write their outputs, which leaves Snakemake's
own time; `--compute` is what the stages take, in seconds, to set it against.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from timing import record

ROOT = Path(__file__).parents[1]
COPIED = ("Snakefile", "src", "workflow", "config", "envs", "profiles")
STUB = '''"""Write every output of a job that is not there, and nothing else."""
import json, pathlib, sys
from immunization.study.layout import layout
config = json.loads(pathlib.Path(sys.argv[1]).read_text())["config"]
labels = [word for word in sys.argv[2:] if not word.startswith("--") and not word.isdigit()]
lie = layout(config, f"results/{config['study']}")
outputs = {
    "study": lambda: [lie.study],
    "prepare": lambda: [lie.tasks(*labels)],
    "immunize": lambda: [*lie.thetas(*labels), *lie.trajectories(*labels)],
    "spectrum": lambda: [lie.spectra, lie.ratios],
    "attack": lambda: lie.attack(*labels),
    "tables": lambda: lie.all_tables("csv", "md", "tex"),
    "figure": lambda: lie.figure(*labels),
    "report": lambda: [lie.report],
    "manifest": lambda: [lie.sums, lie.provenance],
}
for path in map(pathlib.Path, outputs[pathlib.Path(__file__).stem]()):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
'''
STAGES = ("study", "prepare", "immunize", "spectrum", "attack", "tables", "figure", "report",
          "manifest")  # fmt: skip


def checkout(folder: Path) -> Path:
    """A copy of the workflow."""
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder


def hundredfold() -> dict[str, Any]:
    """A study with a hundred times the paper's methods."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    config["study"] = "hundredfold"
    config["methods"] = {
        "identity": {},
        "alg1": {"profile": "paper", "sweep": {"eta": [1e-4 * i for i in range(1, 1400)]}},
    }
    config["replication"] = {}
    return config


def snakemake(folder: Path, *arguments: str) -> tuple[float, int, str]:
    """Seconds, peak memory in bytes, and output of a run."""
    started = time.perf_counter()
    # Through a Python of its own, whose one child is measured.
    code = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(json.dumps([done.returncode, peak * 1024, done.stdout + done.stderr]))\n"
    )
    asked = subprocess.run(
        [sys.executable, "-c", code, sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    returned, peak, output = json.loads(asked.stdout)
    if returned:
        sys.exit(output[-3000:])
    return time.perf_counter() - started, peak, output


def dry(folder: Path, config: str) -> dict[str, Any]:
    """What a dry run tells and costs."""
    took, peak, output = snakemake(folder, "--configfile", config, "-n", "--quiet", "rules")
    jobs = {
        name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", output, re.MULTILINE)
    }
    return {
        "jobs": jobs.pop("total"),
        "jobs that compute": sum(
            jobs.get(rule, 0) for rule in ("prepare", "immunize", "spectrum", "attack")
        ),
        "seconds": took,
        "peak_mb": peak / 1e6,
    }


def whole(folder: Path) -> dict[str, Any]:
    """Snakemake's own time for every job of the paper's study."""
    for name in STAGES:
        (folder / "src" / "immunization" / "stages" / f"{name}.py").write_text(STUB)
    took, peak, output = snakemake(folder, "--configfile", "config/paper.yaml")
    jobs = re.findall(r"Finished jobid: (\d+)", output)
    # What the stubs themselves take: an interpreter each.
    study = max((folder / ".snakemake" / "immunization").glob("*.json"), key=os.path.getmtime)
    started = time.perf_counter()
    for _ in range(10):
        subprocess.run(
            [sys.executable, "-m", "immunization.stages.study", str(study)], check=True,
            cwd=folder, env={"PYTHONPATH": str(folder / "src")},
        )  # fmt: skip
    each = (time.perf_counter() - started) / 10
    return {
        "jobs": len(jobs),
        "seconds": took,
        "seconds of interpreters": each * len(jobs),
        "own seconds": took - each * len(jobs) / 2,  # two at a time at most
        "peak_mb": peak / 1e6,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", action="store_true", help="also run all jobs of the paper")
    parser.add_argument("--compute", type=float, default=600.0, help="seconds of its stages")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = checkout(Path(place) / "w")
        found["paper"] = dry(folder, "config/paper.yaml")
        print("paper", found["paper"], flush=True)
        (folder / "large.yaml").write_text(yaml.safe_dump(hundredfold(), sort_keys=False))
        found["hundredfold"] = dry(folder, "large.yaml")
        print("hundredfold", found["hundredfold"], flush=True)
        if options.whole:
            found["whole"] = whole(folder) | {"compute seconds": options.compute}
            found["whole"]["share"] = found["whole"]["own seconds"] / options.compute
            print("whole", found["whole"], flush=True)
    record("scheduler", found)


if __name__ == "__main__":
    main()
