"""The stages by their command lines, without Snakemake."""

import pytest
import torch

from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_table, read_tables, read_tensors
from immunization.runtime.gpus.device import acquire_device
from immunization.runtime.jobs import command
from immunization.runtime.threads import map_threads
from tests.studies import run_stage, write_study

STUDY = {
    "study": "small",
    "seeds": [0, 1],
    "datasets": {
        "binary": {"source": "digits", "task": "one_vs_rest", "pairs": [[1, 2], [2, 1]],
                   "rows_per_class": 40},
        "diabetes": {"test_fraction": 0.25},
    },
    "methods": {"identity": {}, "mine": {"use": "alg1", "profile": "paper", "steps": 3}},
    "attacks": {"gd": {"use": "gradient_descent", "step": "line_search"}},
    "attack": {"budget": 100, "threshold": 0.01, "curve_steps": 20},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two small data sets, two methods, spectra and attacks."""
    base = tmp_path_factory.mktemp("stages")
    study = write_study(base, STUDY)
    for name in STUDY["datasets"]:
        run_stage("prepare", study, name)
    for name in STUDY["methods"]:
        run_stage("immunize", study, name, device="cpu", threads=2)
    run_stage("spectrum", study, threads=2)
    for name in STUDY["datasets"]:
        run_stage("attack", study, name, "simulated")
    return base


def test_the_reference_has_ratios_of_one_and_the_method_has_not(folder):
    ratios = read_table(folder / "spectrum/ratios.parquet")
    reference = ratios[ratios["method"] == "identity"]
    for column in ("ratio_i", "ratio_ii", "rir", "released_rir", "ridge_rir"):
        assert reference[column].to_numpy() == pytest.approx(1, rel=1e-6), column
    assert (ratios.loc[ratios["method"] == "mine", "rir"] != 1).all()
    assert ratios["definition_c_met"].all()
    assert ratios["resolved"].all()


def test_kappa_of_a_row_equals_a_dense_computation_from_the_stored_theta(folder):
    from immunization.linear.files import load_task_set

    tasks = load_task_set(folder / "tasks/diabetes.safetensors")
    tensors, _ = read_tensors(folder / "immunized/mine/diabetes.safetensors")
    theta = tensors["theta.1"][0]
    task = tasks.tasks[int(tasks.task_index[1, 0, 1])]
    x = tasks.features(task.train_rows)
    values = torch.linalg.eigvalsh(theta.mT @ x.mT @ x @ theta)
    ratios = read_table(folder / "spectrum/ratios.parquet").query(
        "dataset == 'diabetes' and method == 'mine' and seed == 1"
    )
    assert ratios["kappa_h"].item() == pytest.approx(float(values[-1] / values[0]), rel=1e-9)
    identity = torch.linalg.eigvalsh(x.mT @ x)
    before = float(identity[-1] / identity[0])
    assert ratios["kappa_h_reference"].item() == pytest.approx(before, rel=1e-9)


def test_attacks_have_both_roles_and_accuracies_where_labels_allow(folder):
    steps = read_tables(
        folder / f"attack/{name}.simulated.steps.parquet" for name in STUDY["datasets"]
    )
    assert len(steps) == 2 * 2 * 2 * (2 + 1)  # methods, seeds, roles, pairs
    assert steps.loc[steps["dataset"] == "binary", "accuracy_end"].between(0.5, 1).all()
    assert steps.loc[steps["dataset"] == "diabetes", "accuracy_end"].isna().all()
    curves = read_tables(
        folder / f"attack/{name}.simulated.curves.parquet" for name in STUDY["datasets"]
    )
    assert set(curves["step"]) >= {0, 1, 20}
    start = curves.loc[curves["step"] == 0, "loss_gap_q50"].to_numpy()
    assert start == pytest.approx(1, rel=1e-12)


def test_work_on_threads_comes_back_in_order():
    items = list(range(7))
    assert map_threads(lambda x: x * x, items, 3) == [x * x for x in items]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_auto_takes_the_cpu_and_cuda_is_refused_where_there_is_no_gpu():
    assert acquire_device("auto") == "cpu"
    with pytest.raises(UserError, match="torch sees no GPU"):
        acquire_device("cuda")


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(digit):
    from immunization.linear.methods import alg1

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for profile in (alg1.paper, alg1.corrected):
        here = profile(digit.problem(0), eta=0.005, steps=20).theta
        there = profile(digit.problem(0, "cuda"), eta=0.005, steps=20).theta.cpu()
        torch.testing.assert_close(here, there, rtol=1e-6, atol=1e-8)


def test_a_users_mistake_becomes_one_line_and_exit_code_2(capsys, monkeypatch):
    def wrong(arguments):
        raise UserError("key 'x' is wrong")

    with pytest.raises(SystemExit) as exit_:
        command.run_command(wrong)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.strip() == "error: key 'x' is wrong"


@pytest.mark.parametrize(("labels", "told"), [
    (["mine", "gd"], r"expects one label of each of \(methods\), got 2"),
    (["yours"], "no 'yours' under methods; it has identity, mine"),
])  # fmt: skip
def test_labels_that_the_study_does_not_have_are_refused(folder, labels, told):
    with pytest.raises(UserError, match=told):
        run_stage("immunize", folder / "study.json", *labels)


@pytest.mark.parametrize(
    ("stage", "labels"), [("attack", ["binary", "simulated"]), ("spectrum", []), ("tables", [])]
)
def test_a_stage_whose_inputs_are_not_there_yet_says_so(folder, tmp_path, stage, labels):
    with pytest.raises(UserError, match=r"run the stage that makes it first"):
        run_stage(stage, folder / "study.json", *labels, results=tmp_path)


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_threads_that_are_no_number_of_threads_are_refused(folder, capsys, threads):
    with pytest.raises(SystemExit):
        run_stage("spectrum", folder / "study.json", threads=threads)
    assert "invalid positive value" in capsys.readouterr().err


def test_a_stage_of_the_other_kind_of_study_is_refused(folder):
    with pytest.raises(UserError, match=r"pretrain: studies of this kind \(linear\) have no such"):
        run_stage("pretrain", folder / "study.json", "resnet")


@pytest.mark.parametrize(("text", "told"), [
    ("{", "cannot be read"),
    ("[]", "is no study.json"),
    ('{"format": 2, "config": {"study": "s"}, "order": {}}', "its config is not complete"),
    ('{"format": 2, "config": [], "order": {}}', "its config is not complete"),
    ('{"config": {}, "order": {}}', "has format 1, and this version reads format 2"),
])  # fmt: skip
def test_a_study_of_another_format_or_none_is_refused(tmp_path, text, told):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(UserError, match=told):
        run_stage("spectrum", tmp_path / "study.json")
