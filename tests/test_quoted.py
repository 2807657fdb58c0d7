"""Figures in the documents are those of the default study's tables."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import HANG
from tests.workflow.conftest import plain_environment

ROOT = Path(__file__).parents[1]
specification = importlib.util.spec_from_file_location("quoted", ROOT / "benchmarks" / "quoted.py")
quoted = importlib.util.module_from_spec(specification)
specification.loader.exec_module(quoted)


def check(values):
    for path, texts in quoted.rendered(values).items():
        document = re.sub(r"\s+", " ", (ROOT / path).read_text(encoding="utf-8"))
        for text in texts:
            assert text in document, f"{path} does not say: {text}"


def test_documents_quote_the_recorded_figures_of_the_default_study():
    check(json.loads((ROOT / "benchmarks" / "results" / "quoted.json").read_text())["values"])


@pytest.mark.slow
def test_the_default_study_of_this_code_has_the_quoted_figures(tmp_path):
    """Some ten minutes."""
    for name in ("src", "workflow", "config", "envs", "profiles"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2"],
        cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, timeout=HANG,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    check(quoted.values(tmp_path / "results" / "default"))
