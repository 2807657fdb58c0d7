# The checked config, paths, code fingerprints, and what jobs get from their environment.
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
if str(ROOT / "src") not in sys.path:
    sys.path.insert(0, str(ROOT / "src"))

from immunization.config import engine, figure_datasets, resolve
from immunization.errors import UserError
from immunization.fingerprint import fingerprint
from immunization.registry import components

try:
    STUDY = resolve(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{STUDY['study']}"
LOGS = f"logs/{STUDY['study']}"
DATASETS = list(STUDY["datasets"])
METHODS = list(STUDY["methods"])
# Attackers by the engine that runs them; a job is one engine on one data set.
ATTACKERS = {}
for label, entry in STUDY["attacks"].items():
    ATTACKERS.setdefault(engine(entry), {})[label] = entry
ENGINES = list(ATTACKERS)

TASKS = expand(f"{RESULTS}/tasks/{{dataset}}.safetensors", dataset=DATASETS)
THETAS = expand(
    f"{RESULTS}/immunized/{{method}}/{{dataset}}.safetensors",
    method=METHODS,
    dataset=DATASETS,
)
TRAJECTORIES = [path.replace(".safetensors", ".parquet") for path in THETAS]
# One job at a time takes the GPU (the profile's cap); none is asked for where there is none.
GPU = int(
    STUDY["device"] == "cuda"
    or (STUDY["device"] == "auto" and shutil.which("nvidia-smi") is not None)
)

# What jobs need and results do not depend on: exported, so that a change reruns nothing. Inside a
# conda environment `python` is that environment's; otherwise it is Snakemake's own.
_deployed = workflow.deployment_settings.deployment_method
_exports = {
    "PYTHON": "python" if any("conda" in str(m).lower() for m in _deployed) else sys.executable,
    "PYTHONPATH": str(ROOT / "src"),  # Snakemake drops it under --use-conda; a prefix survives
    "DEVICE": STUDY["device"],
    "MIRROR": STUDY["data"]["mirror"] or "",
    "CACHE": STUDY["data"]["cache"],
    # Keep freed memory: handing every temporary tensor back to the system costs a tenth of the time.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
shell.prefix(
    "set -euo pipefail; "  # a prefix replaces Snakemake's own strict mode
    + "".join(f"export {name}={shlex.quote(value)}; " for name, value in _exports.items())
)


wildcard_constraints:
    dataset="|".join(DATASETS),
    method="|".join(METHODS),
    engine="|".join(ENGINES),


def source(path):
    """A source file of the package, as an input that triggers a rerun."""
    return os.path.relpath(ROOT / "src" / "immunization" / path)


def compact(value):
    """JSON for a command line, the same for the same value whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def own_files(dataset):
    """A user's own file behind a data set, so that an edit reruns it; the stage tells of an absent
    one."""
    path = STUDY["datasets"][dataset]["parameters"].get("path")
    return [path] if path and os.path.isfile(path) else []


def attack_files(kind):
    """Steps or curves of every engine on every data set."""
    return expand(
        f"{RESULTS}/attack/{{dataset}}.{{engine}}.{kind}.parquet", dataset=DATASETS, engine=ENGINES
    )


def figure_files(figure):
    """Every file of a figure: an SVG, a PNG and a sentence for each data set it applies to."""
    return [
        f"{RESULTS}/figures/{figure}.{name}.{suffix}"
        for name in figure_datasets(STUDY, figure)
        for suffix in ("svg", "png", "txt")
    ]


# What tables need to know of the study: its order, and what each label stands for.
ORDER = {
    "datasets": {
        label: [entry["source"], entry["parameters"].get("task", "regression")]
        for label, entry in STUDY["datasets"].items()
    },
    "methods": {label: entry["use"] for label, entry in STUDY["methods"].items()},
    "attacks": {label: entry["use"] for label, entry in STUDY["attacks"].items()},
    "figures": {label: entry["use"] for label, entry in STUDY["figures"].items()},
    "sweeps": STUDY["sweeps"],
    "replication": STUDY["replication"],
    "flops_per_second": STUDY["attack"]["flops_per_second"],
}
FIGURES = [path for figure in STUDY["figures"] for path in figure_files(figure)]
