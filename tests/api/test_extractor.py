"""A layer holds on the features that it was made for, wherever it is taken to."""

import numpy as np
import pytest
import torch

import immunization as im


def kappa(features):
    """κ of the Gram matrix, by numpy alone."""
    values = np.linalg.svd(np.asarray(features, dtype=np.float64), compute_uv=False)
    return (values[0] / values[-1]) ** 2


@pytest.mark.parametrize("method", ["multiplicative", "optimum"])
def test_rir_recomputed_in_numpy_on_raw_features_agrees(raw, tasks, method):
    x, _, z, _ = raw
    layer = im.immunize(*tasks, method=method)
    ratio_i = kappa(layer.transform(z)) / kappa(z)
    ratio_ii = kappa(layer.transform(x)) / kappa(x)
    found = im.assess(*tasks, extractor=layer, attackers=["least_squares"], seeds=[0, 1]).ratios
    assert ratio_i == pytest.approx(found["ratio_i"], rel=1e-6)
    assert ratio_ii == pytest.approx(found["ratio_ii"], rel=1e-6)
    assert ratio_i / ratio_ii == pytest.approx(found["rir"], rel=1e-6)
    assert found["rir"] == pytest.approx(found["limit"], rel=1e-2)


@pytest.mark.parametrize("scale", ["none", "joint", "within"])
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_a_saved_layer_transforms_as_before_scaling_included(raw, tasks, scale, suffix, tmp_path):
    x, _, z, _ = raw
    layer = im.immunize(*tasks, method="optimum", scale=scale)
    again = im.Extractor.load(layer.save(tmp_path / f"layer.{suffix}"))
    for rows, role, by in ((x, "benign", x), (z, "harmful", z if scale == "within" else x)):
        said = role if scale == "within" else None
        wanted = rows.astype(np.float64)
        if scale != "none":
            by = by.astype(np.float64)
            wanted = (wanted - by.mean(0)) / by.std(0, ddof=1)
        wanted = wanted @ layer.theta.numpy()
        assert np.allclose(again.transform(rows, said), wanted, rtol=1e-9, atol=1e-9)
        module = again.to_module(role=said)
        out = module(torch.from_numpy(rows).double()).detach().numpy()
        assert np.allclose(out, wanted, rtol=1e-7, atol=1e-7 * np.abs(wanted).max())
    assert again.record["method"] == "optimum"


def test_a_layer_scaled_within_refuses_rows_of_an_unnamed_task(raw, tasks):
    layer = im.immunize(*tasks, method="optimum", scale="within")
    with pytest.raises(im.UserError, match="role='benign'"):
        layer.transform(raw[0])
    with pytest.raises(im.UserError, match="part of the layer"):
        im.assess(*tasks, extractor=layer, scale="joint")


def test_a_layer_can_be_an_array_a_linear_layer_or_a_file(tasks, tmp_path):
    theta = np.diag(np.geomspace(1, 3, 16))
    linear = torch.nn.Linear(16, 16, bias=False, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(theta.T))
    path = im.Extractor.of(theta).save(tmp_path / "l.safetensors")
    found = [
        im.assess(*tasks, extractor=given, attackers=["least_squares"], seeds=[0]).ratios["rir"]
        for given in (theta, linear, path)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (np.ones((3, 4)), "a square one"),
        (np.full((2, 2), np.nan), "not finite"),
        (torch.nn.Linear(2, 2), "has a bias"),
        ("nowhere.safetensors", "there is no such file"),
        ("layer.pt", "suffix of a layer"),
        (object(), "Got object"),
    ],
)
def test_what_is_no_layer_is_refused(layer, told):
    with pytest.raises(im.UserError, match=told):
        im.Extractor.of(layer)


def test_a_file_that_is_no_layer_or_damaged_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"theta": torch.eye(2)}, path)
    with pytest.raises(im.UserError, match="no layer that this package wrote"):
        im.Extractor.load(path)
    whole = im.Extractor.of(np.eye(4)).save(tmp_path / "l.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-20])
    with pytest.raises(im.UserError, match="cannot be read"):
        im.Extractor.load(tmp_path / "cut.safetensors")
    np.savez(tmp_path / "pickled.npz", about=np.array({"format": 1}, dtype=object))
    with pytest.raises(im.UserError, match="cannot be read"):
        im.Extractor.load(tmp_path / "pickled.npz")


def test_erasing_several_classes_leaves_no_class_to_a_linear_probe(raw):
    x, y, z, c = raw
    layer = im.immunize(im.Task(x, y), im.Task(z, c), method="erase")
    assert layer.singular
    out = layer.transform(z)
    centred = out - out.mean(0)
    one_hot = np.eye(4)[c]
    crossed = centred.T @ (one_hot - one_hot.mean(0)) / len(out)
    assert np.abs(crossed).max() < 1e-10 * np.abs(centred).max()
    assert np.linalg.matrix_rank(centred, tol=1e-6 * np.linalg.norm(centred, 2)) == 13
    weights = np.linalg.lstsq(np.c_[out, np.ones(len(out))], one_hot, rcond=1e-8)[0]
    share = np.bincount(c).max() / len(c)
    assert ((np.c_[out, np.ones(len(out))] @ weights).argmax(1) == c).mean() <= share + 0.01


def test_a_method_that_needs_labels_and_a_misspelt_one_are_refused(raw):
    x, _, z, _ = raw
    with pytest.raises(im.UserError, match="reads the harmful labels"):
        im.immunize(im.Task(x), im.Task(z), method="erase")
    with pytest.raises(im.UserError, match="did you mean 'optimum'"):
        im.immunize(im.Task(x), im.Task(z), method="optimun")
    with pytest.raises(im.UserError, match=r"unknown key 'budgte'.*did you mean 'budget'"):
        im.immunize(im.Task(x), im.Task(z), method="optimum", budgte=2)
    with pytest.raises(im.UserError, match="16 features and the harmful one 15"):
        im.immunize(im.Task(x), im.Task(z[:, :15]))


def test_the_rank_is_decided_by_the_digits_that_float32_features_have(raw):
    x, _, z, _ = raw
    x = np.c_[x, x[:, :1] + x[:, 1:2]].astype(np.float32)  # a sum that float32 rounds
    z = np.c_[z, z[:, :1] + z[:, 1:2]].astype(np.float32)
    single = im.assess(im.Task(x), im.Task(z)).kappas
    double = im.assess(im.Task(x.astype(np.float64)), im.Task(z.astype(np.float64))).kappas
    assert set(single["rank"]) == {16}
    assert set(double["rank"]) == {17}
