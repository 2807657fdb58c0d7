# The checked config, paths, code fingerprints, and what jobs get from their environment: for both
# shapes of study.
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


def source(path):
    """A source file of the package, as an input that triggers a rerun."""
    return os.path.relpath(ROOT / "src" / "immunization" / path)


def compact(value):
    """JSON for a command line, the same for the same value whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
