"""Hostile input: names, configs, code in files. Nothing of it is run, and nothing leads out."""

import ast
import copy
import io
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from immunization.reporting.text import csv_text, latex, markdown
from immunization.runtime.errors import UserError
from immunization.study.load import merged
from immunization.tools import check

from .conftest import MINIATURE, ROOT, plain_environment

HOSTILE = (
    "a;touch pwned", "$(touch pwned)", "`touch pwned`", "a' && touch pwned && '",
    'a" ; touch pwned',
    "a\ntouch pwned", "../../outside", "{config}", "-rf", "a|touch pwned", "a>pwned",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["study", "datasets", "methods", "attacks", "figures", "sweep"])
def test_a_hostile_name_is_refused_before_any_job(name, place):
    config = copy.deepcopy(MINIATURE)
    if place == "study":
        config["study"] = name
    elif place == "sweep":
        config["methods"]["alg1"] = {"sweep": {name: [1]}}
    else:
        entry = next(iter(config[place]))
        config[place][name] = config[place][entry] | (
            {"source" if place == "datasets" else "use": entry}
        )
    with pytest.raises(UserError, match="the config is not right"):
        check.resolve(config)


def test_names_with_dots_and_slashes_never_become_paths(workflow):
    config = copy.deepcopy(MINIATURE) | {"study": "../../outside"}
    workflow.configure(config)
    run = workflow.run()
    assert run.code != 0
    assert "study: '../../outside' must start with a letter or digit" in run.output
    assert not (workflow.folder.parents[1] / "harmful_energy_outside").exists()


def is_formula(cell):
    """Whether a spreadsheet would compute a cell; numbers may have a sign."""
    number = re.fullmatch(r"[-+]?(\d+\.?\d*(e[-+]?\d+)?|inf|nan)", cell, re.IGNORECASE)
    return cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not number


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "<script>alert(1)</script>", "a|b", "\\input{x}",
             "$x_1$ & 50 % # ~ ^"],
)  # fmt: skip
def test_text_in_tables_stays_text(cell):
    """Whatever a name is: in a spreadsheet, a Markdown viewer, LaTeX and a browser."""
    table = pd.DataFrame({"name": [cell], "value": [1.0]})
    first = next(iter(pd.read_csv(io.StringIO(csv_text(table)))["name"]))
    assert not is_formula(first)
    assert first.lstrip("'") == cell
    lines = markdown(table).splitlines()
    assert lines[2].replace(r"\|", "").count("|") == 3
    assert "<" not in lines[2]
    row = latex(table).splitlines()[4].removesuffix(r" & 1.0 \\")
    left = re.sub(r"\\text\w+\{\}|\$[<>]\$|\\[_%&#${}]", "", row)
    assert not re.search(r"[\\$&#%_^~{}]", left), row


def test_a_users_own_files_may_have_any_name_and_run_nothing(workflow):
    """A table and a mirror whose names would do harm in a shell."""
    name = "$(touch pwned);`touch pwned` 'a' \"b\" && touch pwned #.csv"
    rows = range(40)
    table = pd.DataFrame(
        {"part": ["p" if i % 2 else "h" for i in rows], "a": [i * 3 % 11 + 0.5 for i in rows],
         "b": [i * i % 7 for i in rows], "c": [(3 * i) % 11 for i in rows],
         "y": [i % 5 for i in rows], "z": [i % 3 for i in rows]}
    )  # fmt: skip
    table = table.rename(columns={"b": "<script>alert(1)</script>", "c": "=cmd|' /C calc'!A0"})
    values = {
        "p": "=HYPERLINK(1)<script>alert(2)</script>",
        "h": "\\input/etc/passwd $x_1^2$ | @SUM",
    }
    table["part"] = table["part"].map(values)
    table.to_csv(workflow.folder / name, index=False)
    mirror = workflow.folder / "m{x}'; touch pwned; '"
    mirror.mkdir()
    config = copy.deepcopy(MINIATURE) | {"seeds": [0], "figures": {"limit": {}}}
    config["methods"] = {"identity": {}, "optimum": {}}
    config["datasets"] = {
        "own": {
            "source": "csv_table", "path": name, "split_column": "part",
            "primary_values": [values["p"]], "harmful_values": [values["h"]],
            "primary_target": "y", "harmful_target": "z",
        }
    }  # fmt: skip
    config["data"] = {"mirror": str(mirror), "cache": "c $(touch pwned)"}
    workflow.configure(config)
    run = workflow.run()
    assert run.code == 0, run.output
    assert not list(workflow.folder.rglob("pwned"))
    base = workflow.folder / "results" / "mini"
    page = (base / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    texts = [page, *(path.read_text() for path in base.glob("figures/*.svg"))]
    texts += [path.read_text() for path in base.glob("tables/*.md")]
    for text in texts:
        assert "<script>alert" not in text
    for path in base.glob("tables/*.csv"):
        for column in pd.read_csv(path, dtype=str, keep_default_na=False).items():
            for cell in (column[0], *column[1]):
                assert not is_formula(cell), (path.name, cell)
    for path in base.glob("tables/*.tex"):
        assert "\\input" not in path.read_text()


def test_a_path_that_snakemake_would_fill_in_is_refused(workflow):
    config = copy.deepcopy(MINIATURE)
    config["datasets"]["own"] = {
        "source": "csv_table", "path": "a{b}.csv", "split_column": "s", "primary_values": [1],
        "harmful_values": [2], "primary_target": "y", "harmful_target": "z",
    }  # fmt: skip
    with pytest.raises(UserError, match="holds braces or control characters"):
        check.resolve(config)


TEMPLATE = "__use_yte__: true\nstudy: mini\nx: ?__import__('os').system('touch pwned')\n"
TAGGED = "study: !!python/object/apply:os.system ['touch pwned']\n"
NAMED = "study: !!python/name:os.system\n"


@pytest.mark.parametrize("text", [TEMPLATE, TAGGED, NAMED, "- a\n", "a: [\n"])
def test_a_config_that_carries_code_is_refused_by_the_check_and_not_run(tmp_path, text):
    (tmp_path / "evil.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "immunization", "check", "--snakemake", "--cores", "2",
         "--configfile", str(ROOT / "config/config.yaml"), "evil.yaml", "-n"],
        cwd=tmp_path, env=plain_environment() | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "evil.yaml: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["evil.yaml"]


@pytest.mark.parametrize("given", [["evil.yaml"], ["--cores", "1", "--configfile", "evil.yaml"]])
def test_a_run_checks_configs_before_snakemake_reads_them(given, tmp_path):
    (tmp_path / "evil.yaml").write_text(
        "__use_yte__: true\n?__import__('pathlib').Path('pwned').touch():\n  a: b\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "immunization", "run", *given],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "makes Snakemake run the Python in this file" in done.stderr
    assert not (tmp_path / "pwned").exists()
    made = subprocess.run(
        ["make", "--dry-run", "results"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "immunization run" in made.stdout


def test_a_template_is_refused_by_the_workflow_too(workflow):
    text = (workflow.folder / "study.yaml").read_text()
    (workflow.folder / "study.yaml").write_text(f"__use_yte__: true\n{text}")
    run = workflow.run("-n")
    assert run.code != 0
    assert "makes Snakemake run the Python in this file" in run.output


def test_the_check_reads_configs_as_snakemake_does():
    for names in (
        ["config/config.yaml"], ["config/paper.yaml", "config/paper_subset.yaml"],
        ["config/config.yaml", "config/house_prices.yaml"], ["config/deepnets.yaml"],
    ):  # fmt: skip
        check.resolve(merged([ROOT / name for name in names]))
    assert check.named_by(["--cores", "all", "--configfile", "a", "b", "-n"]) == [
        Path("a"),
        Path("b"),
    ]
    assert check.named_by(["--configfile=a", "--config", "x=1"]) == [Path("a")]
    assert check.named_by(["-n"]) == [Path("config/config.yaml")]


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_module_unpickles_evaluates_text_or_calls_a_shell():
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        modules = {
            name.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        assert not modules & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, path
        for name, node in calls(tree):
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert name not in ("eval", "exec", "os.system", "os.popen", "pd.read_pickle"), path
            assert name != "yaml.load", path
            assert given.get("shell", "False") == "False", path
            if name == "torch.load":
                assert given.get("weights_only") == "True", path
            if name == "np.load":
                assert given.get("allow_pickle", "False") == "False", path
            if name.endswith((".extractall", ".extract")):
                assert given.get("filter") == "'data'", path


def test_every_value_in_a_shell_command_is_quoted_or_a_checked_name():
    """Labels match `[A-Za-z][A-Za-z0-9_]*`, and names of components are names of files of ours."""
    checked = {
        "wildcards.dataset", "wildcards.method", "wildcards.engine", "wildcards.network",
        "wildcards.attack", "params.label", "threads",
    }  # fmt: skip
    for path in (ROOT / "workflow").rglob("*.smk"):
        for block in re.findall(r"shell:\n((?:\s+['\"].*\n)+)", path.read_text()):
            for name, how in re.findall(r"(?<!\{)\{([\w.]+)(:q)?\}", block):
                assert how == ":q" or name in checked, (path.name, name)
