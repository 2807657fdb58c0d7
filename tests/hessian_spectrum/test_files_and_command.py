"""Side doors: Parquet, plots and the command line."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hessian_spectrum import (
    Spectrum,
    dense_operator,
    plot_density,
    plot_spectrum,
    read_density,
    read_matrix,
    read_spectrum,
    save_plot,
    spectral_density,
    write_density,
    write_spectrum,
)
from hessian_spectrum.__main__ import main

from .matrices import features_of, matrix_of


@pytest.fixture
def features(generator):
    """Rank 5 of 8, κ = 1e4."""
    values = torch.cat([torch.zeros(3), torch.logspace(-3, 1, 5)]).double()
    return features_of(values, 30, generator)


def test_a_spectrum_knows_every_condition_number(features):
    spectrum = Spectrum.of_features(features)
    assert (spectrum.rank, spectrum.dimension) == (5, 8)
    assert spectrum.condition == pytest.approx(1e4, rel=1e-6)
    assert spectrum.ridge_condition(1e-4) == pytest.approx((1 + 1e-4) / 2e-4, rel=1e-6)
    assert bool(spectrum.released_condition().floored)
    assert float(spectrum.released_condition().value) == pytest.approx(1e7, rel=1e-6)
    assert spectrum.log_pseudo_determinant == pytest.approx(-5 * math.log(10), rel=1e-6)
    assert 1 < spectrum.effective_rank < 5


def test_an_indefinite_matrix_has_a_spectrum_by_magnitude(generator):
    values = torch.tensor([-4.0, -0.5, 0.0, 0.0, 1.0, 2.0]).double()
    h = matrix_of(values, generator)
    for spectrum in (Spectrum.of_matrix(h), Spectrum.of_operator(dense_operator(h))):
        assert spectrum.rank == 4
        assert spectrum.condition == pytest.approx(8)
        torch.testing.assert_close(spectrum.eigenvalues, values[values != 0])
    for bad, message in (
        (torch.zeros(3, 3), "zero"),
        (torch.ones(2, 3), "square"),
        (torch.full((2, 2), float("inf")), "finite"),
        (torch.tensor([[1.0, 5.0], [0.0, 1.0]]), "symmetric"),
        (torch.zeros(0, 0), "square"),
    ):
        with pytest.raises(ValueError, match=message):
            Spectrum.of_matrix(bad)


def test_spectra_and_densities_come_back_from_parquet_to_the_last_bit(features, tmp_path):
    spectrum = Spectrum.of_features(features, name="eight features")
    path = tmp_path / "s.parquet"
    write_spectrum(path, spectrum)
    again = read_spectrum(path)
    assert torch.equal(again.eigenvalues, spectrum.eigenvalues)
    assert again == Spectrum(again.eigenvalues, 8, spectrum.tolerance, "eight features")
    density = spectral_density(
        dense_operator(features.mT @ features),
        generator=torch.Generator().manual_seed(0),
        vectors=2,
        steps=4,
    )
    write_density(path, density)
    back = read_density(path)
    assert torch.equal(back.nodes, density.nodes)
    assert torch.equal(back.weights, density.weights)
    assert back.largest == density.largest
    assert back.trace() == density.trace()
    assert [p.name for p in tmp_path.iterdir()] == ["s.parquet"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    with pytest.raises(ValueError, match="holds no spectrum"):
        read_spectrum(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_density(path)


def test_plots_are_drawn_in_one_call(features, tmp_path, generator):
    indefinite = Spectrum.of_matrix(torch.diag(torch.tensor([-3.0, 1.0, 2.0])))
    density = spectral_density(
        dense_operator(features.mT @ features), generator=torch.Generator().manual_seed(0)
    )
    for number, ax in enumerate(
        (
            plot_spectrum(Spectrum.of_features(features)),
            plot_spectrum(indefinite),
            plot_density(density),
        )
    ):
        save_plot(ax, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
    from matplotlib.figure import Figure

    left, right = Figure().subplots(1, 2)
    assert plot_spectrum(indefinite, ax=left) is left
    assert plot_density(density, ax=right) is right


@pytest.fixture(params=["x.npy", "x.npz", "x.safetensors"])
def file(request, features, tmp_path):
    path = tmp_path / request.param
    if path.suffix == ".npy":
        np.save(path, features.numpy())
    elif path.suffix == ".npz":
        np.savez(path, train=features.numpy(), labels=np.zeros(3))
    else:
        save_file({"train": features.contiguous(), "other": torch.ones(2)}, path)
    return path


def test_the_command_prints_rank_and_every_kappa(file, tmp_path, capsys):
    key = [] if file.suffix == ".npy" else ["--key", "train"]
    assert main([str(file), *key, "--json", "--ridge", "1e-3"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["rank"], figures["features"], figures["rows"]) == (5, 8, 30)
    assert figures["condition"] == pytest.approx(1e4, rel=1e-6)
    assert figures["released_floored"] is True
    assert figures["dtype"] == "float64"
    plot, table = tmp_path / "out.svg", tmp_path / "out.parquet"
    assert main([str(file), *key, "--plot", str(plot), "--save", str(table)]) == 0
    text = capsys.readouterr().out
    assert "rank                  5" in text
    assert "on its floor" in text
    assert "█" in text
    assert plot.read_text().startswith("<?xml")
    assert read_spectrum(table).rank == 5


def test_centring_and_scale_are_seen_on_the_command_line(features, tmp_path, capsys):
    np.save(tmp_path / "x.npy", 1e4 * features.numpy() + 7)
    assert main([str(tmp_path / "x.npy"), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([str(tmp_path / "x.npy"), "--json", "--centered"]) == 0
    centred = json.loads(capsys.readouterr().out)
    assert plain["rank"] == 6
    assert centred["rank"] == 5
    full = torch.eye(4, dtype=torch.float64)
    np.save(tmp_path / "full.npy", full.numpy())
    assert main([str(tmp_path / "full.npy")]) == 0
    assert "above its floor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.npy", None, "There is no file"),
        ("x.csv", b"1,2", r"expected a \.npy"),
        ("x.npy", b"not numpy", "not a readable .npy file"),
        ("x.safetensors", b"123", "not a readable .safetensors file"),
        ("v.npy", np.ones(3), "two dimensions"),
        ("n.npy", np.full((3, 2), np.nan), "Row 0, column 0 is not"),
        ("z.npy", np.zeros((3, 2)), "zero"),
        ("c.npy", np.array([[1j, 1]]), "complex"),
        ("t.npy", np.eye(2) * 1e-200, "Scale the features"),
        ("o.npy", np.array([[{}]]), "not a readable .npy file"),
    ],
)
def test_bad_files_end_with_a_message_and_a_status(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    assert main([str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)


def test_several_arrays_need_a_name(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(ValueError, match="Name one of its arrays: a, b"):
        read_matrix(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="no array 'c'; it has: a, b"):
        read_matrix(tmp_path / "x.npz", "c")
    np.savez(tmp_path / "y.npz", a=np.ones((2, 3)), names=np.array(["cat", "dog"]))
    assert read_matrix(tmp_path / "y.npz", "a").shape == (2, 3)
    with pytest.raises(ValueError, match="not a readable"):
        read_matrix(tmp_path / "y.npz", "names")
    np.save(tmp_path / "images.npy", np.ones((4, 2, 3)))
    assert read_matrix(tmp_path / "images.npy").shape == (4, 6)


def test_it_runs_as_a_module_without_matplotlib_or_pandas(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['pandas'] = None; "
        "from hessian_spectrum.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.npy")], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "hessian_spectrum", str(tmp_path / "x.npy"), "--json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["condition"] == 1


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    "dtype", [">f8", "<f4", ">f4", ">i2", "<u2", "u1", "<u4", ">u8", "?", "<f2", "g"]
)
def test_arrays_of_any_byte_order_and_number_are_read(suffix, dtype, tmp_path):
    values = np.arange(12).reshape(4, 3) % 2 if dtype == "?" else np.arange(12).reshape(4, 3)
    path = tmp_path / f"x.{suffix}"
    if suffix == "npz":
        np.savez(path, features=np.asfortranarray(values.astype(dtype)))
    else:
        np.save(path, values.astype(dtype))
    found = read_matrix(path)
    assert torch.equal(found.to(torch.float64), torch.from_numpy(values).double())
    assert Spectrum.of_features(found).rank == np.linalg.matrix_rank(values.astype(float))


def test_text_and_records_in_an_array_file_are_refused(tmp_path):
    for array in (np.array([["a", "b"]]), np.zeros((2, 2), dtype=[("x", "f4")])):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(ValueError, match="features are numbers"):
            read_matrix(tmp_path / "x.npy")


@pytest.mark.parametrize("option", ["--save", "--plot"])
def test_nothing_is_written_over_the_features(option, tmp_path, capsys, features):
    path = tmp_path / "x.npy"
    np.save(path, features.numpy())
    before = path.read_bytes()
    assert main([str(path), option, str(path)]) == 1
    assert "name another" in capsys.readouterr().err
    (tmp_path / "link.npy").symlink_to(path)
    assert main([str(path), option, str(tmp_path / "link.npy")]) == 1
    assert path.read_bytes() == before


def test_a_dollar_in_a_name_is_drawn_as_one(tmp_path, features):
    spectrum = Spectrum.of_features(features, name="cost_$ and $x_")
    save_plot(plot_spectrum(spectrum), tmp_path / "x.svg")
    assert "cost_$ and $x_: rank 5" in (tmp_path / "x.svg").read_text()
