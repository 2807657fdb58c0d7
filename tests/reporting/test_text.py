"""Numbers, labels and tables as people read them."""

import pandas as pd
import pytest

from immunization.reporting.text import display_label, format_number, latex, markdown, plus_minus


def test_labels_of_sweeps_read_as_numbers():
    labels = {"few_rows_fraction_0p1": "few rows fraction 0.1", "ridge_1em06": "ridge 1e-06",
              "rate_2p5em06_x": "rate 2.5e-06 x", "opt_kappa": "opt kappa"}  # fmt: skip
    assert {label: display_label(label) for label in labels} == labels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1.00"), (0.99999, "1.00"), (123.4, "123"), (1234.0, "1230"),
        (2.08e6, "2.08e+06"), (4e-4, "4.00e-04"), (float("inf"), "∞"), (float("nan"), "–"),
        (-0.0336, "-0.0336"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value, text):
    assert format_number(value) == text


def test_a_deviation_at_round_off_is_zero_and_none_is_left_out():
    assert plus_minus(1.0, 1e-15) == "1.00 ± 0"
    assert plus_minus(1.0, float("nan")) == "1.00"


def test_markdown_and_latex_hold_every_cell():
    table = pd.DataFrame({"method": ["alg1_x"], "κ ± std": ["1.0 ± ∞"]})
    assert markdown(table).splitlines()[2] == "| alg1_x | 1.0 ± ∞ |"
    tex = latex(table)
    assert r"alg1\_x & 1.0 $\pm$ $\infty$ \\" in tex
    assert r"$\kappa$ $\pm$ std" in tex
