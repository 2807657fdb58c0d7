"""Components of somebody else: from a file, from an installed package, and what goes wrong."""

import subprocess
import sys
import sysconfig
from importlib.metadata import EntryPoint

import pytest
import yaml

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.record.fingerprint import closure, fingerprint
from immunization.study import components as registry
from immunization.study.components import component, import_component
from immunization.study.resolve import resolve
from immunization.tools import check, check_plugin, new
from tests.studies import run_stage, write_study
from tests.workflow.conftest import Workflow, plain_environment


@pytest.fixture(autouse=True)
def allowed(monkeypatch, tmp_path):
    """In a folder of its own, where files of code may be run."""
    monkeypatch.setenv(environment.ALLOW_CODE, "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", new.KINDS)
def test_what_new_writes_holds_against_its_contract(kind, tmp_path, capsys):
    new.main([kind, "mine", "--into", "plugins"])
    assert "immunization check-plugin" in capsys.readouterr().out
    assert len(check_plugin.check(kind, "plugins/mine.py")) >= 2
    compile((tmp_path / "plugins" / "test_mine.py").read_text(), "test_mine.py", "exec")
    with pytest.raises(UserError, match="is there already"):
        new.main([kind, "mine", "--into", "plugins"])
    with pytest.raises(UserError, match="of this name already"):
        new.write("method", "alg1", tmp_path)
    with pytest.raises(UserError, match="a name starts with a letter"):
        new.write(kind, "not a name", tmp_path)


METHOD = '''"""A method."""
import torch

PARAMETERS = {"strength": {"type": "number", "default": 2.0, "description": "factor."}}


def immunize(problem, parameters):
    """Theta."""
    theta = problem.identity()
    return theta
'''
MISTAKES = {
    "a misspelt PARAMETERS": (("PARAMETERS", "PARAMETRES"), "did you mean PARAMETERS"),
    "no default": ((', "default": 2.0', ""), "has no default"),
    "a misspelt parameter": (
        ("problem.identity()", "problem.identity() * parameters['strenght']"),
        r"line \d+: immunize failed \(KeyError: 'strenght'\)",
    ),
    "zeros": (("return theta", "return 0 * theta"), "θ = 0"),
    "a type that is none": (('"number"', '"nubmer"'), r"\['strength'\] is no JSON schema"),
    "a default against its rule": (("2.0", '"two"'), "its default, 'two', breaks its own rule"),
    "computed parameters": (("{\"strength\"", "dict() or {\"strength\""), "must be a literal"),
    "a rule that is no mapping": (('{"type": "number", "default": 2.0, "description": "factor."}',
                                   "2.0"), "a JSON schema is a mapping"),
    "no docstring": (('"""A method."""\n', ""), None),
    "another shape": (("return theta", "return theta[0]"), r"shape \(1, 6, 6\).*shape \(6, 6\)"),
    "too few columns": (("return theta", "return theta[..., :5]"), r"shape \(1, 6, 5\)"),
    "single precision": (("return theta", "return theta.float()"), "torch.float32"),
    "not a number": (("return theta", "return theta * float('nan')"), "θ is not finite"),
    "nothing": (("return theta", "pass"), r"It gave None \(is there a `return`\?\)"),
    "numpy": (("return theta", "return theta.numpy()"), "numpy.ndarray"),
    "another name of the function": (("def immunize", "def immunise"), "`immunize.problem, param"),
    "other arguments": (("(problem, parameters)", "(problem)"), "does not take what"),
    "an error of its own": (("theta = problem.identity()", "theta = 1 / 0"), "ZeroDivisionError"),
    "a draw that no seed decides": (
        ("return theta", "return theta + torch.rand_like(theta)"), "two runs with one seed",
    ),
    "a syntax error": (("def immunize(", "def immunize(("), "cannot be read as Python"),
    "an import that fails": (("import torch", "import no_such_package"), "could not be imported"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_method_names_the_file_and_what_was_seen(name, tmp_path, capsys):
    change, told = MISTAKES[name]
    assert change[0] in METHOD
    path = tmp_path / f"m_{abs(hash(name))}.py"
    path.write_text(METHOD.replace(*change))
    words = ["method", path.name]
    if told is None:  # told of, or harmless
        check_plugin.main(words)
        assert "It holds" in capsys.readouterr().out
        return
    with pytest.raises(SystemExit) as ended:
        check_plugin.main(words)
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert path.stem in text
    assert pytest.importorskip("re").search(told, text), text
    assert "Traceback" not in text


ATTACKS = {
    "a step that is too long": (
        ("length = (1 / objective", "length = (30 / objective"), "diverges on an easy problem",
    ),
    "no flops": (("def flops", "def flop"), "the function `flops"),
    "a misspelt name in GRID": (('("decay",)', '("decy",)'), "GRID names 'decy'"),
    "no GRID": (('GRID = ("decay",)', ""), "`GRID` is missing"),
    "nothing": (("return iterate(", "iterate("), "It gave None"),
    "operations that are none": (("20 * passes(rows, dimension), ", ""), "two numbers"),
    "an unknown helper": (('EXTENDS = "_probe_parameters"', 'EXTENDS = "_probes"'), "there is no"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_mistake_in_an_attacker_is_named_too(name, tmp_path, capsys):
    change, told = ATTACKS[name]
    (path,) = [p for p in new.write("attack", f"a{abs(hash(name))}", tmp_path) if "test" not in
               p.name]  # fmt: skip
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(SystemExit):
        check_plugin.main(["attack", path.name])
    text = capsys.readouterr().err
    assert told in text
    assert path.name in text


def test_an_attacker_that_returns_nan_has_diverged_and_is_not_slow(tmp_path):
    import immunization as im

    (path, _) = new.write("attack", "lost", tmp_path)
    text = path.read_text().replace("- step * gradient", "- step * gradient * float('nan')")
    path.write_text(text)
    task = im.Task(__import__("numpy").random.default_rng(0).normal(size=(60, 4)), [0, 1] * 30)
    row = im.attack(task, attackers={"lost": {"use": "lost.py"}}, seeds=[0]).to_frame().iloc[0]
    assert row["diverged, as released"]
    assert not row["bound, as released"]


def config(**methods):
    return {
        "study": "s",
        "seeds": [0],
        "datasets": {"diabetes": {}},
        "methods": {"identity": {}, **methods},
        "attacks": {"gradient_descent": {}},
    }


def test_code_that_a_config_names_runs_only_where_that_is_allowed(tmp_path, monkeypatch, capsys):
    (tmp_path / "evil.py").write_text(METHOD + "\n__import__('pathlib').Path('ran').touch()\n")
    monkeypatch.delenv(environment.ALLOW_CODE)
    with pytest.raises(UserError, match="would run with your rights"):
        resolve(config(evil={"use": "evil.py"}))
    with pytest.raises(UserError, match="would run with your rights"):
        import_component("linear/methods", "evil.py")
    monkeypatch.setenv(environment.ALLOW_CODE, "1")
    study = write_study(tmp_path / "r", config(evil={"use": "evil.py"}))  # reads, runs nothing
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(config(evil={"use": "evil.py"}) | {"datasets": {"d": {"source": "data.py"}}})
    )
    (tmp_path / "data.py").write_text("__import__('pathlib').Path('ran').touch()\n")
    check.main(["c.yaml"])  # tells of both, and runs neither
    told = capsys.readouterr().out
    assert "evil.py: is code" in told
    assert "data.py: is code" in told
    assert not (tmp_path / "ran").exists()
    monkeypatch.delenv(environment.ALLOW_CODE)  # somebody else's study.json, by hand
    run_stage("prepare", study, "diabetes")
    with pytest.raises(UserError, match="would run with your rights"):
        run_stage("immunize", study, "evil")
    assert not (tmp_path / "ran").exists()


def test_the_code_of_a_file_is_in_the_fingerprint(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    modules = ["immunization.linear.immunize", "mine.py"]
    first = fingerprint(*modules)
    assert path.resolve() in {p.resolve() for p in closure(*modules)}
    path.write_text(METHOD.replace("identity()", "identity() * 2"))
    registry_cache = fingerprint.__wrapped__
    from immunization.runtime.record import fingerprint as module

    for cached in (module._tree, module._digest, module._imports, module.fingerprint):
        cached.cache_clear()
    assert registry_cache(*modules) != first


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that brings a method, by its entry points."""
    folder = tmp_path / "site" / "authors_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported before it was needed')\n")
    (folder / "stretch.py").write_text(METHOD.replace("import torch", "from authors_package.own "
                                                      "import torch"))  # fmt: skip
    (folder / "own.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    points = [EntryPoint("stretch", "authors_package.stretch", "immunization.methods")]

    def entry_points(group):
        return [point for point in points if point.group == group]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    for cached in (registry.components, registry._points):
        cached.cache_clear()
    yield folder, points
    monkeypatch.undo()
    for cached in (registry.components, registry._points):
        cached.cache_clear()


def test_a_method_of_an_installed_package_has_its_name_and_is_read_without_import(package):
    folder, _ = package
    found = component("linear/methods", "stretch")
    assert found.path == folder / "stretch.py"
    assert found.module == "authors_package.stretch"
    assert resolve(config(stretch={"strength": 3}))["methods"]["stretch"]["parameters"] == {
        "diabetes": {"strength": 3}
    }
    assert {folder / "stretch.py", folder / "own.py"} <= set(closure(found.module))


def test_a_name_that_two_have_and_an_entry_point_to_nothing_are_told_when_used(package):
    _, points = package
    points.append(EntryPoint("optimum", "authors_package.stretch", "immunization.methods"))
    points.append(EntryPoint("ghost", "authors_package.ghost", "immunization.methods"))
    for cached in (registry.components, registry._points):
        cached.cache_clear()
    assert resolve(config())  # others are not held up
    with pytest.raises(UserError, match="both have one of this name"):
        component("linear/methods", "optimum")
    with pytest.raises(UserError, match="there is no such module"):
        component("linear/methods", "ghost")


def test_a_real_package_outside_runs_in_the_workflow(tmp_path):
    """Installed by pip into a folder; its method and attacker beside ours."""
    source = tmp_path / "author"
    package = source / "authors_methods"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""Mine."""\n')
    for kind, name in (("method", "stretch"), ("attack", "decaying")):
        new.write(kind, name, package)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "authors-methods"\nversion = "1.2"\n'
        '[project.entry-points."immunization.methods"]\nstretch = "authors_methods.stretch"\n'
        '[project.entry-points."immunization.attacks"]\ndecaying = "authors_methods.decaying"\n'
    )
    # An environment of the author's, in which all that is installed here is installed too.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    (site,) = (tmp_path / "v" / "lib").glob("python*/site-packages")
    here = sysconfig.get_path("purelib")
    (site / "ours.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--target", str(site), str(source)], check=True, capture_output=True,
    )  # fmt: skip
    workflow = Workflow(tmp_path / "w")
    raw = {
        "study": "mini", "seeds": [0], "datasets": {"diabetes": {}},
        "methods": {"identity": {}, "stretch": {"strength": 5}},
        "attacks": {"gradient_descent": {}, "decaying": {"decay": 0.02}},
        "attack": {"budget": 50, "curve_steps": 20}, "figures": {},
    }  # fmt: skip
    (workflow.folder / "study.yaml").write_text(yaml.safe_dump(raw))
    words = [str(tmp_path / "v" / "bin" / "python"), *workflow.command()[1:]]
    done = subprocess.run(
        words, cwd=workflow.folder, env=plain_environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    import pandas as pd

    ratios = pd.read_parquet(workflow.folder / "results" / "mini" / "spectrum" / "ratios.parquet")
    assert set(ratios["method"]) == {"identity", "stretch"}


def test_an_archive_takes_a_file_of_code_along_and_names_it_anew(tmp_path):
    from immunization.tools.archive import contents
    from tests.studies import run_study
    from tests.workflow.conftest import ROOT

    (path, _) = new.write("method", "mine", tmp_path / "plugins")
    raw = config(mine={"use": "plugins/mine.py"}) | {"figures": {}, "attack": {"budget": 20}}
    folder = run_study(tmp_path / "results" / "s", raw)
    files, texts, _ = contents(folder, ROOT, [])
    packed = yaml.safe_load(texts["config/archived.yaml"])["methods"]["mine"]["use"]
    assert packed == "own/0/mine.py"
    assert files[packed].resolve() == path.resolve()
    path.write_text(path.read_text().replace("identity() +", "identity() * 2 +"))
    from immunization.runtime.record import fingerprint as module

    for cached in (module._tree, module._digest, module._imports, module.fingerprint):
        cached.cache_clear()
    with pytest.raises(UserError, match=r"mine\.py: has changed"):
        contents(folder, ROOT, [])
