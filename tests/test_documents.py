"""What the documents promise."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_readme_example_runs():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rank, kappa, limit = done.stdout.split()
    assert int(rank) == 10
    assert float(kappa) > 1
    assert float(limit) > 1


def test_the_examples_of_the_guide_run():
    text = (ROOT / "docs" / "hessian_spectrum.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    printed = []
    for code in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-c", code],
            env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    # What the comments promise of the tracker and of the softmax probe.
    assert printed[1].rstrip().endswith(" 0")
    assert "# 64 of 80 dimensions" in blocks[2]
    assert printed[2].startswith("64 ")


def test_the_examples_for_those_who_bring_their_own_run(tmp_path):
    """But for the one on results, which wants a finished study."""
    text = (ROOT / "docs" / "own.md").read_text()
    blocks = [
        b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "load_study" not in b
    ]
    assert len(blocks) == 2
    for code in blocks:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    import immunization

    named = set(re.findall(r"\bim\.(\w+)", text))
    assert {"Task", "assess", "attack", "immunize", "Network", "load_study"} <= named
    assert named <= set(immunization.__all__)


def test_the_guide_names_everything_public():
    import hessian_spectrum

    guide = (ROOT / "docs" / "hessian_spectrum.md").read_text()
    told = set(re.findall(r"\w+", guide))
    assert set(hessian_spectrum.__all__) <= told, sorted(set(hessian_spectrum.__all__) - told)


def test_every_local_link_of_the_documents_leads_somewhere():
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        ROOT / "benchmarks" / "README.md",
        *ROOT.glob("config/*.md"),
    ]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), (path.name, link)


def test_the_mermaid_graph_names_every_rule_of_the_workflow():
    rules = set()
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE))
    graph = re.search(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    for rule in rules - {"report_page"}:
        assert rule in graph
