# The checked config, paths, code fingerprints, and what jobs get from their environment: for both
# shapes of study.
import hashlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

ROOT = Path(workflow.basedir)
# Of a checkout; in an installed package the workflow lies inside it.
SRC = next(
    (place for place in (ROOT / "src", *ROOT.parents[1:2]) if (place / "immunization").is_dir()),
    None,
)
if SRC is None:  # as a module of another workflow (snakedeploy), beside an installed package
    installed = importlib.util.find_spec("immunization")
    if installed is None:
        raise WorkflowError("The package immunization is not installed beside Snakemake.")
    SRC = Path(installed.origin).parents[1]
sys.path.insert(0, str(SRC))  # before whatever else lies on the path
# A disk that is full would keep half a file, and trip every later run.
sys.dont_write_bytecode = True

import immunization

if Path(immunization.__file__).resolve().parent != (SRC / "immunization").resolve():
    raise WorkflowError(
        f"immunization is imported from {Path(immunization.__file__).parent}, which is not the "
        f"one of this workflow, {ROOT}. Take it off PYTHONPATH, or run Snakemake from its own environment."
    )

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.gpus.claims import visible_gpus
from immunization.runtime.jobs.run_lock import RunLock, is_dry_run
from immunization.runtime.record import stale
from immunization.runtime.record.fingerprint import commit
from immunization.study.components import code_allowed, component
from immunization.study.derived import attack_settings, code_of
from immunization.study.layout import layout
from immunization.study.load import load
from immunization.study.preflight import has_own_inputs, missing_inputs
from immunization.study.resolve import FILES, resolve
from immunization.study.whole import recorded, told_of_format, whole


def check_own_inputs(study):
    """Read the user's own data once, in a process that may load torch; again when it changes."""
    if not has_own_inputs(study) or importlib.util.find_spec("torch") is None:
        return
    asked = made_by_own(study)
    mark = Path(".snakemake", "immunization", f"{asked}.checked")
    if mark.exists():
        return
    done = subprocess.run(
        [sys.executable, "-m", "immunization.tools.check", "--inputs", "-"],
        input=json.dumps(study),
        env=os.environ | {"PYTHONPATH": str(SRC), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 2:
        raise UserError(done.stderr.split("error: ", 1)[-1].strip())
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def made_by_own(study):
    """A name for what a study asks of the user's own files, and how these look."""
    own = [
        value
        for kind in ("datasets", "networks")
        for entry in study.get(kind, {}).values()
        for key, value in entry["parameters"].items()
        if key in FILES and isinstance(value, str) and Path(value).exists()
    ]
    text = stale.made_by([], [study["datasets"], study.get("networks")], sorted(set(own)))
    return text.split()[0].partition(".")[2]


try:
    for path in workflow.configfiles:
        load(Path(path))  # Snakemake has read it already, and run what it carried; go no further
    STUDY = resolve(config)
    if workflow.is_main_process and (problems := missing_inputs(STUDY)):
        raise UserError("the study cannot run:\n" + "\n".join(problems))
    if workflow.is_main_process and environment.CHECKED not in os.environ:
        check_own_inputs(STUDY)
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{STUDY['study']}"
LOGS = f"logs/{STUDY['study']}"
LIE = layout(STUDY, RESULTS)  # where every file of the study lies
WING = LIE.wing

# `--jobs` alone means other machines, whose GPUs a login node does not see.
REMOTE = workflow.resource_settings.nodes is not None or not workflow.is_main_process
_visible = [] if STUDY["device"] == "cpu" or REMOTE else visible_gpus()
# GPUs of a job that computes; none where there are none.
GPU = int({"cpu": False, "cuda": True, "auto": REMOTE or bool(_visible)}[STUDY["device"]])
if workflow.is_main_process and not REMOTE and "gpu" not in workflow.global_resources:
    # As many local jobs as the GPUs hold; which one each takes is settled by the jobs.
    workflow.register_resource("gpu", max(1, len(_visible) * STUDY["jobs_per_gpu"]))
if workflow.is_main_process and not is_dry_run(sys.argv[1:]):
    try:
        RunLock(Path(RESULTS), logger.info, remote=REMOTE).acquire()
    except UserError as error:
        raise WorkflowError(str(error)) from None


def code_path():
    """What jobs have on their path: ours alone, also where a whole Python lies beside it."""
    if SRC == ROOT / "src":
        return str(SRC)
    folder = Path(".snakemake", "immunization", "src").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("immunization", "hessian_spectrum"):
        if not (folder / name).exists() or (folder / name).resolve() != (SRC / name).resolve():
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(SRC / name)
    return str(folder)


# What jobs need and results do not depend on: exported, so that a change reruns nothing. Inside a
# conda environment `python` is that environment's; otherwise it is Snakemake's own.
_deployed = workflow.deployment_settings.deployment_method
_exports = {
    # A job ends when the Snakemake that runs it is gone: on a node that is the one of the job.
    environment.OWNER: str(os.getpid()),
    environment.STUDY: json.dumps(
        {
            "config": hashlib.sha256(
                json.dumps(recorded(STUDY), sort_keys=True).encode()
            ).hexdigest(),
            "commit": commit(),
            "seeds": STUDY["seeds"],
        },
        sort_keys=True,
    ),
    environment.JOBS_PER_GPU: str(STUDY["jobs_per_gpu"]),
    environment.ALLOW_CODE: str(int(code_allowed())),
    "PYTHON": "python" if any("conda" in str(m).lower() for m in _deployed) else sys.executable,
    "PYTHONPATH": code_path(),  # Snakemake drops it under --use-conda; a prefix survives
    "PYTHONSAFEPATH": "1",  # a random.py in the working folder is not the standard library's
    "PYTHONDONTWRITEBYTECODE": "1",
    # Keep freed memory: handing every temporary tensor back to the system costs a tenth of the time.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}


def kept(value):
    """Path of a JSON file with a value, named by its contents."""
    text = json.dumps(value, separators=(",", ":"))  # in the order of the config
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    path = Path(".snakemake", "immunization", f"{digest}.json")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return str(path)


def prefix(exports, study):
    """What every command begins with; it replaces Snakemake's own strict mode.

    Commands then run `stage MADE_BY STAGE ARGUMENTS`. It puts Python in place of the shell, which a
    signal to all processes of a job would end before Python has saved its work.
    """
    text = "".join(f"export {name}={shlex.quote(value)}; " for name, value in exports.items())
    text += (
        f'stage() {{ export {environment.MADE_BY}="$1"; local name="$2"; shift 2; '
        f'exec "$PYTHON" -m "immunization.stages.$name" {shlex.quote(study)} "$@"; }}; '
    )
    # Snakemake fills braces in with its own names.
    return "".join(["set -euo pipefail; ", text.replace("{", "{{").replace("}", "}}")])


WHOLE = whole(STUDY, config)
shell.prefix(prefix(_exports, kept(WHOLE)))


# What makes each result: modules, what they are asked, and the user's own files that they read.
MAKING = {}


def making(outputs, modules, asked=None, own=()):
    """Say what makes some results of a job."""
    entry = (modules, asked, [path for path in own if path])
    MAKING.update(dict.fromkeys(outputs, entry))


def made_by(wildcards, output):
    """The same in words: a parameter of every rule, which a stage puts into the seals."""
    return stale.made_by(*MAKING[output[0]])


def texts(*paths):
    """Contents of files in the package, which no import leads to."""
    return [(SRC / "immunization" / path).read_text() for path in paths]


def what_lies_there(wildcards):
    """Have results made anew that are not what the study asks for, and say so; gives no input.

    An input of the rules that all others depend on, since Snakemake asks for those whatever its
    target is, when it has read the workflow and before it decides what to run.
    """
    if workflow.is_main_process:
        _rerun_stale()
    return []


@cache
def _rerun_stale():
    texts = {id(entry): stale.made_by(*entry) for entry in MAKING.values()}
    found = stale.stale({path: texts[id(entry)] for path, entry in MAKING.items()})
    triggers = {str(trigger) for trigger in workflow.dag_settings.rerun_triggers}
    if not found or not {"params", "code"} <= triggers:  # --rerun-triggers mtime
        return
    logger.info(stale.told(found, RESULTS) + told_of_format(LIE.study))
    workflow.dag.forcefiles.update(found)


def needs(memory, minutes, per_thread=0, gpu=0):
    """Resources of a rule: MB and minutes, both of which grow with each attempt."""
    return {
        "mem_mb": lambda wildcards, threads, attempt: (memory + per_thread * threads) * attempt,
        "runtime": lambda wildcards, attempt: minutes * 2 ** (attempt - 1),
    } | ({"gpu": gpu} if gpu else {})
