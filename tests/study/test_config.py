"""A config that is wrong is refused with the key, the rule and a remedy."""

import copy
import os
from datetime import date
from pathlib import Path

import pytest
import yaml

from immunization.runtime.errors import UserError
from immunization.study.components import components
from immunization.study.derived import figure_datasets, has_pairs
from immunization.study.kinds import schema
from immunization.study.load import load
from immunization.study.resolve import resolve
from immunization.tools import check

CONFIG = Path(__file__).parents[2] / "config"
SMALL = {
    "study": "mini",
    "datasets": {"digits": {}},
    "methods": {"identity": {}, "alg1": {"profile": "paper"}},
    "attacks": {"least_squares": {}},
}


def changed(**changes):
    raw = copy.deepcopy(SMALL)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = raw
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    return raw


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (changed(attack__sample=3), ["attack", "'sample' (now called 'sampled_pairs')"]),
        (changed(attacks__gradient_descent__fresh=True), ["'fresh' (now called 'unseen_rows')"]),
        (changed(sedes=[0]), ["top level", "'sedes'", "did you mean 'seeds'", "Known keys"]),
        (changed(seeds=[]), ["seeds", "at least 1"]),
        (changed(seeds=[-1]), ["seeds.0", "-1", "at least 0"]),
        (changed(study="../etc"), ["study", "../etc", "letters, digits"]),
        (changed(device="tpu"), ["device", "'tpu'", "auto, cpu, cuda"]),
        (changed(methods__alg2={}), ["methods.alg2", "no method named 'alg2'", "'alg1'"]),
        (changed(methods__alg1__eta=-0.1), ["methods.alg1.eta", "-0.1", "greater than 0"]),
        (changed(methods__alg1__etta=0.1), ["methods.alg1", "'etta'", "did you mean 'eta'"]),
        (changed(methods__alg1__profile="papr"), ["methods.alg1.profile", "paper, released"]),
        (changed(methods__alg1__steps="many"), ["methods.alg1.steps", "'many'", "integer"]),
        (changed(methods__alg1=3), ["methods.alg1", "mapping"]),
        (
            changed(methods__alg1__overrides={"digit": {"eta": 1}}),
            ["methods.alg1.overrides", "no data set 'digit'", "'digits'"],
        ),
        (
            changed(methods__alg1__overrides={"digits": {"eta": 0}}),
            ["methods.alg1.overrides.digits.eta", "greater than 0"],
        ),
        (changed(datasets__digits__task="none"), ["datasets.digits.task", "one_vs_rest"]),
        (changed(datasets__digits__pairs=[[1]]), ["datasets.digits.pairs"]),
        (changed(datasets__mine={"source": "csv_table"}), ["datasets.mine", "'path'", "missing"]),
        (changed(attacks__gd={"use": "sgd"}), ["attacks.gd", "no attacker named 'sgd'"]),
        (changed(figures={"limits": {}}), ["figures.limits", "'limit'"]),
        (changed(attack__threshold=2), ["attack.threshold", "less than 1"]),
        (changed(methods={"alg1": {}}), ["identity", "missing"]),
        ({"study": "x"}, ["missing key", "'datasets'"]),
        (changed(methods__alg1__overrides={"digits": 3}), ["overrides.digits", "object"]),
        (changed(methods__alg1__eta=float("nan")), ["methods.alg1.eta", "not a finite number"]),
        (changed(spectrum__ridge=float("inf")), ["spectrum.ridge", "not a finite number"]),
        (changed(seeds=[10**14]), ["seeds.0", "at most 1000000"]),
        (changed(datasets={"digits": None}), ["datasets", "at least 1"]),
        (changed(datasets={7: {"source": "digits"}}), ["datasets.7", "starts with a letter"]),
        (changed(datasets__mine={"source": ["digits"]}), ["datasets.mine", "no data set named"]),
        (changed(methods__alg1={1: 2, "x": 3}), ["methods.alg1", "'1'", "'x'"]),
        (changed(methods__alg1=True), ["methods.alg1", "mapping"]),
        (
            changed(methods={"base": {"use": "identity"}, "identity": {"use": "alg1"}}),
            ["`identity: {}` is missing"],
        ),
        (
            changed(methods__alg1={"sweep": {"eta": []}}),
            ["methods.alg1.sweep", "none of them empty"],
        ),
        (changed(methods__alg1={"sweep": {"eta": [0.1, -1]}}), ["alg1_eta_m1.eta", "greater than"]),
        (changed(methods__alg1={"sweep": {"eta": [0.1, 0.1]}}), ["two entries", "alg1_eta_0p1"]),
        (changed(methods__identity={"sweep": {"x": [1]}}), ["identity.sweep", "taken against"]),
        (changed(figures__limit={"datasets": ["digit"]}), ["figures.limit", "'digits'"]),
        (changed(replication={"imma": {"paper": "ima"}}), ["replication.imma.paper", "'ima'"]),
        (changed(replication={"ima": {}}), ["replication", "'ima'", "Known keys"]),
        (changed(**{"datasets__a b": {"source": "digits"}}), ["datasets.a b", "letters"]),
    ],
)
def test_a_wrong_key_is_named_with_its_remedy(raw, words):
    with pytest.raises(UserError) as error:
        resolve(raw)
    for word in words:
        assert word in str(error.value), str(error.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(UserError) as error:
        resolve(changed(methods__alg1__eta=-1, methods__imma={"steps": 0}))
    assert "methods.alg1.eta" in str(error.value)
    assert "methods.imma.steps" in str(error.value)


def test_defaults_are_filled_and_overrides_reach_their_data_set_only():
    raw = changed(methods__alg1={"profile": "paper", "overrides": {"digits": {"steps": 7}}})
    raw["datasets"]["diabetes"] = {}
    study = resolve(raw)
    assert study["seeds"] == [0, 1, 2]
    assert study["attack"]["budget"] == 5000
    parameters = study["methods"]["alg1"]["parameters"]
    assert parameters["digits"]["steps"] == 7
    assert parameters["diabetes"]["steps"] == 100
    assert parameters["diabetes"]["profile"] == "paper"


def test_null_removes_a_component_and_numbers_in_text_are_numbers():
    study = resolve(changed(methods__imma=None, methods__alg1={"profile": "paper", "eta": "1e-3"}))
    assert set(study["methods"]) == {"identity", "alg1"}
    assert study["methods"]["alg1"]["parameters"]["digits"]["eta"] == 1e-3


@pytest.mark.parametrize("steps", ["1e2", 100.0, 100])
def test_a_whole_number_is_an_integer_however_it_is_written(steps):
    study = resolve(changed(methods__alg1__steps=steps))
    found = study["methods"]["alg1"]["parameters"]["digits"]["steps"]
    assert found == 100
    assert isinstance(found, int)


def test_overrides_of_a_removed_data_set_go_with_it():
    raw = changed(methods__alg1={"overrides": {"diabetes": {"steps": 3}, "digits": {"steps": 4}}})
    raw["datasets"]["diabetes"] = None
    study = resolve(raw)
    assert set(study["methods"]["alg1"]["parameters"]) == {"digits"}


def test_text_that_looks_like_a_number_stays_text_where_text_is_asked_for():
    table = {
        "source": "csv_table", "path": "1e3", "split_column": "2e0", "primary_values": ["1e1", 2],
        "harmful_values": ["b"], "primary_target": "u", "harmful_target": "v",
        "test_fraction": "2e-1",
    }  # fmt: skip
    parameters = resolve(changed(datasets__mine=table))["datasets"]["mine"]["parameters"]
    assert parameters["path"] == "1e3"
    assert parameters["primary_values"] == ["1e1", 2]
    assert parameters["test_fraction"] == 0.2


def test_the_config_given_is_not_changed():
    raw = changed()
    before = copy.deepcopy(raw)
    resolve(raw)
    assert raw == before


@pytest.mark.parametrize("name", ["config", "paper", "sensitivity", "tuning"])
def test_the_configs_that_ship_are_right(name):
    study = resolve(yaml.safe_load((CONFIG / f"{name}.yaml").read_text()))
    assert name == "tuning" or any(has_pairs(study, dataset) for dataset in study["datasets"])
    for figure in study["figures"]:
        assert set(figure_datasets(study, figure)) <= set(study["datasets"])


def test_a_sweep_has_every_combination_and_overrides_reach_its_members():
    raw = changed(
        methods__alg1={
            "sweep": {"eta": [0.1, "1e-5"], "profile": ["paper", "corrected"]},
            "steps": 9,
            "overrides": {"digits": {"steps": 3}},
        },
        datasets__digits={"sweep": {"tolerance": [None, 1e-3]}},
        figures__limit={"datasets": ["digits"]},
    )
    study = resolve(raw)
    assert list(study["datasets"]) == ["digits_tolerance_default", "digits_tolerance_0p001"]
    assert list(study["methods"]) == [
        "identity", "alg1_eta_0p1_profile_paper", "alg1_eta_0p1_profile_corrected",
        "alg1_eta_1em05_profile_paper", "alg1_eta_1em05_profile_corrected",
    ]  # fmt: skip
    member = study["methods"]["alg1_eta_1em05_profile_paper"]
    assert member["use"] == "alg1"
    for dataset in study["datasets"]:
        parameters = member["parameters"][dataset]
        assert (parameters["eta"], parameters["profile"], parameters["steps"]) == (1e-5, "paper", 3)
    assert study["sweeps"]["alg1"]["parameters"] == ["eta", "profile"]
    assert study["sweeps"]["digits"]["members"]["digits_tolerance_0p001"] == {"tolerance": 1e-3}
    assert figure_datasets(study, "limit") == ["digits_tolerance_default"]


def test_each_method_of_the_paper_has_stand_ins():
    raw = changed(
        methods={
            "identity": {},
            "a": {"use": "alg1", "profile": "released"},
            "b": {"use": "alg1", "profile": "paper"},
            "c": {"use": "imma"},
        },
        replication={"imma": {"corrected": "b"}},
    )
    found = resolve(raw)["replication"]
    assert found["alg1"] == {"released": "a", "paper": "b"}
    assert found["imma"] == {"corrected": "b", "released": "c", "paper": "c"}


def keys(node, prefix=""):
    for name, rule in node.get("properties", {}).items():
        yield prefix + name, rule
        yield from keys(rule, f"{prefix}{name}.")


def test_every_key_has_a_description_and_stands_in_the_documentation():
    text = (CONFIG / "README.md").read_text()
    for name, rule in keys(schema()):
        assert rule.get("description"), name
        assert f"`{name}`" in text, f"config/README.md does not explain {name}"
    for kind in ("datasets", "methods", "attacks"):
        for component in components(f"linear/{kind}").values():
            assert f"`{component.name}`" in text, component.path
            for parameter in component.parameters:
                assert f"`{parameter}`" in text, (component.path, parameter)


BOMB = "a0: &a0 [1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"study": "mini\n"}, r"study: 'mini\n' holds a line break"),
        ({"study": "m" * 101}, "must have at most 100 letters"),
        ({"seeds": [10**400]}, "must be at most 1000000"),
        ({"attack": {"budget": 1e300}}, "attack.budget: 1e+300 must be of type integer"),
        ({"attack": {"budget": 10**30}}, "too large for a whole number"),
        ({"methods__alg1": {"profile": "paper", "eta": "1e999"}}, "inf is not a finite number"),
        ({"methods__ALG1": {"use": "alg1"}}, "differs from 'alg1' in capitals alone"),
        (
            {
                "methods__alg1": {
                    "sweep": {n: list(range(1000)) for n in ("eta", "steps", "balance")}
                }
            },
            "stands for 1,000,000,000 entries; 10,000 are the most",
        ),
    ],
)
def test_what_no_study_can_mean_is_one_message(changes, told):
    with pytest.raises(UserError) as error:
        resolve(changed(**changes))
    assert told in str(error.value)
    assert len(str(error.value)) < 1500


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    own = {
        "source": "csv_table", "path": "~/t.csv", "split_column": "s", "primary_values": ["p"],
        "harmful_values": ["h"], "primary_target": "y", "harmful_target": "z",
    }  # fmt: skip
    study = resolve(changed(datasets__own=own, data={"mirror": "~/m", "cache": "~nobody_here/c"}))
    assert study["datasets"]["own"]["parameters"]["path"] == "/home/someone/t.csv"
    assert study["data"] == {"mirror": "/home/someone/m", "cache": "~nobody_here/c"}


def test_a_cache_that_cannot_be_written_is_named_before_snakemake_stumbles(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Set XDG_CACHE_HOME to a folder that you may write"):
        check.main(["--snakemake", "-n"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {x: 1}\na: {x: 2}\n", ["line 2", "'a'", "line 1"]),
        ("methods:\n  alg1: {eta: 1}\n  identity: {}\n  alg1: {eta: 2}\n", ["line 4", "'alg1'"]),
        ("a: {b: 1, b: 1}\n", ["line 1", "'b'"]),
        ("seeds: [010, 011]\n", ["line 1", "010", "octal", "8"]),
        ("a: -007\n", ["octal"]),
        ("a: 12:30\n", ["base 60", "quotes"]),
        ("a: 1:30:05.5\n", ["base 60"]),
        ("methods:\n  no: {}\n", ["line 2", "'no'", "bool", "quotes"]),
        ("on: 1\n", ["'on'", "bool"]),
        ("~: 1\n", ["'~'", "null"]),
        ("a: 2019-13-01\n", ["month must be in 1..12"]),
        ("a: !!int abc\n", ["not plain YAML"]),
        ("a: !!bool abc\n", ["not plain YAML"]),
        ("a: &a {b: *a}\n", ["line 1", "holds itself"]),
        ("a: " + "[" * 40 + "]" * 40 + "\n", ["line 1", "more than 30 levels"]),
        ("a: '1e-3'\n", ["line 1", "'1e-3'", "quotes"]),
        ('a:\n  - 1\n  - "2E5"\n', ["line 3", "'2E5'", "quotes"]),
        (BOMB, ["line 6", "more than 100,000 values"]),
        ("seeds:\n  - 0x" + "f" * 5000, ["line 2", "too large for a whole number"]),
        ("seeds: " + "9" * 5000, ["line 1", "too large for a whole number"]),
        ("a: 1\n" * 2_000_000, ["more than 262,144 bytes"]),
        ("a: " + "[" * 5000 + "]" * 5000 + "\n", ["more than 30 levels"]),
    ],
)
def test_what_yaml_reads_as_something_else_is_refused_with_its_line(text, words, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(path)
    for word in [str(path), *words]:
        assert word in str(error.value), str(error.value)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_config_that_is_no_file_is_refused_and_not_waited_for(kind, tmp_path):
    path = tmp_path / "c.yaml"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(UserError, match=r"c\.yaml: is no file"):
        load(path)


def test_plain_yaml_is_what_yaml_says(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "base: &b {x: 1, y: 0}\none: {<<: *b, y: 2}\ntwo: [0, 10, -3, 0x1F, 1.5, 1e3, '010', 0.5]\n"
        "three: {1: a, '1 ': b}\nfour: [yes, no, ~, 2020-01-01]\n"
    )
    import yaml

    assert load(path) == yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": {"identity": {}, "Alg1": {"use": "alg1"}, "alg1": {}}},
         ["methods.alg1", "'Alg1'", "capitals"]),
        ({"methods": {"identity": {}, "a" * 101: {"use": "alg1"}}}, ["at most 100 letters"]),
        ({"study": "s" * 101}, ["study", "at most 100 letters"]),
        ({"methods": {"identity": {}, "cost_$": {"use": "alg1"}}}, ["a label starts"]),
        ({"datasets": {"mine": {
            "source": "csv_table", "path": "t.csv", "split_column": "d", "primary_values": ["p"],
            "harmful_values": ["x"], "primary_target": "v_{2}", "harmful_target": "h"}}},
         ["datasets.mine.primary_target", "'v_{2}'", "braces"]),
        ({"datasets": {"mine": {
            "source": "csv_table", "path": "t.csv", "split_column": "d",
            "primary_values": [date(2020, 1, 1)], "harmful_values": ["x"], "primary_target": "p",
            "harmful_target": "h"}}}, ["datasets.mine", "2020-01-01", "quotes"]),
    ],
)  # fmt: skip
def test_labels_that_name_files_badly_and_dates_are_refused(changes, words):
    with pytest.raises(UserError) as error:
        resolve(changed(**changes))
    for word in words:
        assert word in str(error.value), str(error.value)


@pytest.mark.parametrize("source", ["digits", "mnist"])
def test_a_class_that_a_public_data_set_has_not_is_found_before_a_download(source):
    raw = changed() | {"datasets": {"d": {"source": source, "pairs": [[0, 1], [0, 12]]}}}
    with pytest.raises(UserError, match=r"d\.pairs: \[0, 12\] names a class that .* 0 to 9"):
        resolve(raw)
