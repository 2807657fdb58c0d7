"""Attackers and the assessment, against attackers written out in numpy."""

import json

import numpy as np
import pytest

import immunization as im
from tests.api.conftest import publisher


def centred_probe_accuracy(train, labels, test, truth):
    """Held-out accuracy of a least squares probe on one-hot labels without an intercept."""
    weights = np.linalg.lstsq(train, 2 * np.eye(labels.max() + 1)[labels] - 1, rcond=None)[0]
    return (np.argmax(test @ weights, axis=1) == truth).mean()


def test_accuracy_of_several_classes_is_that_of_the_largest_score(raw):
    _, _, z, c = raw
    test, train = z[:80].astype(float), z[80:].astype(float)
    task = im.Task(train, c[80:], test=(test, c[:80]))
    found = im.attack(task, attackers=["least_squares", "gradient_descent"], seeds=[0]).to_frame()
    wanted = centred_probe_accuracy(train, c[80:], test, c[:80])
    exact = found.set_index("attacker").loc["least_squares", "accuracy, as released"]
    assert exact == pytest.approx(wanted, abs=1e-12)


def test_steps_of_several_classes_are_those_of_the_slowest(raw):
    _, _, z, c = raw
    z = (z - z.mean(0)).astype(float)
    task = im.Task(z, c, test=(z, c))
    found = im.attack(
        task, attackers={"gd": {"use": "gradient_descent"}}, budget=5000, threshold=0.05, seeds=[0]
    )
    gram = z.T @ z / len(z)
    length = 1 / np.linalg.eigvalsh(gram)[-1]
    slowest = 0
    for k in range(4):
        y = np.where(c == k, 1.0, -1.0)
        best = np.linalg.lstsq(z, y, rcond=None)[0]

        def loss(w, y=y):
            return ((z @ w - y) ** 2).mean() / 2

        w, step = np.zeros(16), 0
        while (loss(w) - loss(best)) / (loss(0 * w) - loss(best)) > 0.05:
            w, step = w - length * (gram @ w - z.T @ y / len(z)), step + 1
        slowest = max(slowest, step)
    assert found.steps["steps"].tolist() == [slowest]
    assert slowest > 20


def test_softmax_for_several_classes_and_a_plain_string_are_told(tasks):
    with pytest.raises(im.UserError, match=r"give a list, such as \['adam'\]"):
        im.attack(tasks[1], attackers="adam")
    with pytest.raises(im.UserError, match=r"no attacker named 'adm'.*did you mean 'adam'"):
        im.attack(tasks[1], attackers=["adm"])
    softmax = {"s": {"use": "lbfgs", "loss": "softmax"}}
    with pytest.raises(im.UserError, match="a softmax probe of 4 classes is not available"):
        im.attack(tasks[1], attackers=softmax)
    with pytest.raises(im.UserError, match="this task has none"):
        im.attack(im.Task(np.eye(20, 4)))


def test_an_assessment_without_an_extractor_says_what_could_be_reached(tasks):
    found = im.assess(*tasks, seeds=[0, 1])
    assert not found.given
    assert found.ratios["rir"] == pytest.approx(found.ratios["limit"], rel=1e-3)
    assert found.verdict == "broken"
    assert set(found.best["class"]) >= {"gradient descent", "one solve", "non-linear probes"}
    assert len(found.sentences) == 3
    assert "no invertible linear layer can reach" in found.sentences[0]
    assert "1 step" in found.sentences[1]
    assert set(found.kappas["state"]) == {"as released", "if immunized"}


def test_an_erased_task_is_withstood_by_linear_probes_and_the_sentence_names_them():
    wide = [
        im.Task(*publisher(rows, 3, scale, seed, width=48))
        for rows, scale, seed in (
            (500, np.geomspace(1, 0.1, 48), 1),
            (400, np.geomspace(0.3, 1, 48), 2),
        )
    ]
    layer = im.immunize(*wide, method="erase")
    found = im.assess(*wide, extractor=layer, seeds=[0, 1])
    assert found.verdict == "withstood", found
    assert "linear probe" in found.sentences[1]
    assert "non-linear" in found.sentences[2]


def test_a_layer_that_loses_the_benign_task_is_destroyed(tasks):
    found = im.assess(*tasks, extractor=np.diag([1.0] + [0.0] * 15), seeds=[0, 1])
    assert found.verdict == "destroyed"


def test_a_regression_and_unlabelled_tasks_are_assessed(raw):
    x, _, z, _ = raw
    value = (z[:, 0] - z[:, 3]).astype(float)
    found = im.assess(im.Task(x), im.Task(z, value), seeds=[0, 1])
    assert found.attacks.steps["accuracy"].isna().all()
    assert found.benign_attacks is None
    assert np.isnan(found.ratios["benign_loss_share"])
    quiet = im.assess(im.Task(x), im.Task(z))
    assert quiet.verdict == ""
    assert "no labels" in quiet.sentences[1]


def test_with_an_intercept_kappa_is_that_of_centred_features(raw):
    x, y, z, c = raw
    found = im.assess(im.Task(x, y), im.Task(z, c), intercept=True, attackers=["least_squares"],
                      seeds=[0, 1])  # fmt: skip
    before = found.kappas[found.kappas["state"] == "as released"].set_index("task")["kappa"]
    for rows, task in ((x, "benign"), (z, "harmful")):
        values = np.linalg.svd(rows.astype(float) - rows.astype(float).mean(0), compute_uv=False)
        assert before[task] == pytest.approx((values[0] / values[-1]) ** 2, rel=1e-6)
    assert found.ratios["limit"] == pytest.approx(found.ratios["limit_intercept"], rel=1e-6)


def test_results_show_themselves_and_text_is_no_markup(tasks, tmp_path):
    found = im.assess(*tasks, attackers={"<b>x": {"use": "least_squares"}}, seeds=[0, 1])
    page = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page
    assert "http" not in page
    assert found._repr_html_() in page
    assert "RIR" in repr(found)
    frame = found.to_frame()
    assert {"kappa", "ratio", "attack on harmful", "verdict"} <= set(frame["part"])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdict"] == found.verdict


def test_arrays_and_numbers_that_mean_nothing_are_refused(raw, tasks):
    with pytest.raises(im.UserError, match=r"make a task of it: im\.Task"):
        im.assess(raw[0], raw[2])
    for given in ({"budget": -5}, {"budget": 0}, {"threshold": 2.0}, {"seeds": []},
                  {"seeds": [0, 0]}, {"seeds": [0.5]}, {"attackers": []}):  # fmt: skip
        with pytest.raises(im.UserError, match=r"needed|at least one|is empty"):
            im.assess(*tasks, **given)


def test_attackers_of_a_users_own_compete_by_what_they_have_and_not_by_their_class(tasks):
    """With a tenth of the rows one solve says nothing about probes on all of them."""
    few = {"few": {"use": "least_squares", "fraction": 0.1}}
    found = im.assess(*tasks, attackers=few, seeds=np.arange(2))
    assert found.verdict == "no verdict"
    assert "no linear probe with a squared loss on all rows was run" in found.sentences[1]
    both = im.assess(*tasks, attackers=few | {"all": {"use": "least_squares"}}, seeds=[0, 1])
    assert both.verdict == "broken"
    assert "(all)" in both.sentences[1]


def test_no_sentence_has_a_number_that_nobody_computed(raw, tasks):
    kernel = im.assess(*tasks, attackers=["kernel_ridge"], seeds=[0, 1])
    assert "nan" not in " ".join(kernel.sentences)
    assert "best non-linear probe" in kernel.sentences[2]
    x, y, z, c = raw
    wider = np.c_[z, np.random.default_rng(0).normal(size=len(z))]
    endless = im.assess(im.Task(np.c_[x, np.zeros(len(x))], y), im.Task(wider, c), seeds=[0, 1])
    assert "RIR has no limit" in endless.sentences[0]
    assert "which reaches that limit" not in endless.sentences[1]
    with pytest.raises(im.UserError, match="works on a regression"):
        im.attack(im.Task(z, z[:, 0] * 1.5 + 0.1), attackers=["logistic_lbfgs"])


@pytest.mark.parametrize("factor", [1e160, 1e-160])
def test_features_whose_squares_float64_does_not_hold_are_refused(raw, factor):
    with pytest.raises(im.UserError, match="loses digits in float64"):
        im.Task(raw[0].astype(float) * factor)


def test_too_few_rows_of_a_class_ask_for_test_rows():
    labels = ["a"] * 39 + ["b"]
    features = np.random.default_rng(0).normal(size=(40, 3))
    task = im.Task(features, labels)
    with pytest.raises(im.UserError, match="too few rows"):
        im.attack(task, attackers=["least_squares"], seeds=list(range(40)))
