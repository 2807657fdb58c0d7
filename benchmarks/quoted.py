"""Figures that README.md and docs/ quote from the default study, taken from its tables.

    snakemake --cores all
    python benchmarks/quoted.py results/default --out benchmarks/results/quoted.json

`tests/test_quoted.py` holds the documents to the recorded numbers; a slow test there runs the study
anew and holds the documents to it.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DIGITS, BINARY = "digits", "digits_one_vs_rest"

README = [
    "median RIR of {alg1_paper:.1f}, its scale-free form one of {alg1_corrected:.0f}",
    "one of some {clipped_thousands:.0f},000",
]
SCIENCE = [
    "σ_1(H_P) −{paper_p1:.2f}, σ_1(H_H) +{paper_h1:.2f}, and both σ_k less than 0.005",
    "(−{corrected_p1:.2f} and +{corrected_h1:.2f} after 100 steps)",
    "log κ is {log_kappa:.1f} there and log RIR could be {log_reach:.0f} and more",
    "It takes {fewest_steps:.0f} to {most_steps:.0f} steps",
    "reaches an optimality of {optimality:.4f} on every finite limit",
    "the raw (i) hardly orders slowdowns: mean ρ is {raw_binary:+.2f} on one-vs-rest digits, "
    "{raw_digits:+.2f} on digits, {raw_diabetes:+.2f} on diabetes",
    "The label-weighted (i) has {label_binary:+.2f}, {label_digits:+.2f} and {label_diabetes:+.2f}",
    "within a method it falls to {label_binary_within:+.2f}, {label_digits_within:+.2f} and "
    "{label_diabetes_within:+.2f}",
    "On diabetes the released (i) has {released_diabetes:+.2f}",
    "of `optimum` at least {cg_binary:.0f} times as many on one-vs-rest digits and "
    "{cg_digits:.0f} on digits",
    "SVD solves {float_svd:.0%} of the tasks of `multiplicative` on one-vs-rest digits, normal "
    "equations {float_normal:.0%}",
    "D_P keeps {erase_benign:.1%} of {identity_benign:.1%}",
    "the simulated ones end at {erase_simulated:.1%} on D_H",
    "the best of those that weigh all rows equally has {erase_equal:.1%}",
    "With `then: optimum` it has {optimum_equal:.1%}",
    "`reweighted_rows`, gets {reweighted:.1%} ({reweighted_optimum:.1%} after `then: optimum`, of "
    "{reweighted_identity:.1%} without immunization)",
    "`bagging` gets {bagging:.1%}",
    "a Gaussian kernel gets {kernel:.1%} back (after `then: optimum` {kernel_optimum:.1%}, a small "
    "network {network_optimum:.1%})",
    "conjugate gradients on a random 30 % of the same rows get {few:.0%}",
    "rows that the publisher never saw: {fresh:.0%}, and {fresh_optimum:.0%} after",
    "On diabetes erasure takes {diabetes_lost:.0%} of what the best benign probe explained",
]
QUOTES = {"README.md": README, "docs/science.md": SCIENCE}


def values(folder: Path) -> dict[str, float]:
    """Every quoted number by name.

    Args:
        folder: of a finished default study.
    """
    names = ("ratios", "resistance", "attacks", "measures", "prediction", "steps")
    tables = {name: pd.read_csv(folder / "tables" / f"{name}.csv") for name in names}
    nonlinear = pd.read_parquet(folder / "attack" / f"{BINARY}.nonlinear.steps.parquet")
    trained = pd.read_parquet(folder / "attack" / f"{BINARY}.trained.steps.parquet")

    def of(table: str, column: str, **keys: Any) -> float:
        chosen = tables[table]
        for key, value in keys.items():
            chosen = chosen[chosen[key] == value]
        if len(chosen) != 1:
            raise ValueError(f"{table}: {keys} has {len(chosen)} rows.")
        return float(chosen[column].iloc[0])

    def median(method: str) -> float:
        return of("ratios", "rir_median", dataset=DIGITS, method=method)

    def correlation(dataset: str, predictor: str, column: str = "spearman") -> float:
        part = tables["prediction"]
        part = part[(part["dataset"] == dataset) & (part["predictor"] == predictor)]
        return float(part.loc[~part["attack"].str.startswith("best of all"), column].mean())

    def scores(attack: str, method: str) -> float:
        own = nonlinear[(nonlinear["attack"] == attack) & (nonlinear["method"] == method)]
        return float(own["accuracy_end"].mean())

    def solved(attack: str) -> float:
        own = trained[(trained["attack"] == attack) & (trained["method"] == "multiplicative")]
        return float(1 - own["censored"].astype(bool).mean())

    def equal(method: str) -> float:
        own = trained[(trained["method"] == method) & (trained["role"] == "H")]
        own = own[(own["fraction"] == 1) & ~own["unseen_rows"].astype(bool)]
        return float(own.groupby("attack")["accuracy_end"].mean().max())

    def ended(attack: str, method: str) -> float:
        return of("measures", "accuracy_end", dataset=BINARY, attack=attack, method=method)

    multiplicative = tables["steps"][tables["steps"]["method"] == "multiplicative"]
    ratios = tables["ratios"]
    best = ratios.loc[ratios["method"] == "multiplicative", "optimality_min"].min()
    found = {
        "alg1_paper": median("alg1_paper"),
        "alg1_corrected": median("alg1_corrected"),
        "clipped_thousands": round(median("opt_kappa_clipped") / 1e4) * 10,
        "fewest_steps": multiplicative["steps_median"].min(),
        "most_steps": multiplicative["steps_max"].max(),
        "optimality": best,
        "cg_binary": of(
            "attacks", "slowdown_median_H", dataset=BINARY, attack="conjugate_gradients",
            method="optimum",
        ),
        "cg_digits": of(
            "attacks", "slowdown_median_H", dataset=DIGITS, attack="conjugate_gradients",
            method="optimum",
        ),
        "float_svd": solved("float32_solver_svd"),
        "float_normal": solved("float32_solver_normal_equations"),
        "erase_simulated": ended("conjugate_gradients", "erase"),
        "erase_equal": equal("erase"),
        "optimum_equal": equal("erase_optimum"),
        "reweighted": scores("reweighted_rows", "erase"),
        "reweighted_optimum": scores("reweighted_rows", "erase_optimum"),
        "reweighted_identity": scores("reweighted_rows", "identity"),
        "bagging": scores("bagging_share_0p3", "erase"),
        "kernel": scores("kernel_ridge", "erase"),
        "kernel_optimum": scores("kernel_ridge", "erase_optimum"),
        "network_optimum": scores("mlp", "erase_optimum"),
        "few": ended("few_rows_cg_fraction_0p3", "erase"),
        "fresh": ended("logistic_fresh_rows", "erase"),
        "fresh_optimum": ended("logistic_fresh_rows", "erase_optimum"),
        "diabetes_lost": of(
            "resistance", "benign_lost", dataset="diabetes", method="erase", loss="squared"
        ),
    }  # fmt: skip
    for name in ("erase", "identity"):
        found[f"{name}_benign"] = of(
            "resistance", "accuracy_benign", dataset=BINARY, method=name, loss="squared"
        )
    for name, dataset in (("binary", BINARY), ("digits", DIGITS), ("diabetes", "diabetes")):
        found[f"raw_{name}"] = correlation(dataset, "ratio_i")
        found[f"label_{name}"] = correlation(dataset, "label_weighted_ratio_i")
        predictor = "label_weighted_ratio_i"
        found[f"label_{name}_within"] = correlation(dataset, predictor, "spearman_within")
    found["released_diabetes"] = correlation("diabetes", "released_ratio_i")
    return {name: float(value) for name, value in (found | moved(folder)).items()}


def moved(folder: Path) -> dict[str, float]:
    """How far the ends of both spectra moved on the digits, in nats: medians over all pairs."""
    spectra = pd.read_parquet(folder / "spectrum" / "spectra.parquet")
    spectra = spectra[spectra["dataset"] == DIGITS]
    keys = ["seed", "pair", "role"]
    top = np.log(spectra.set_index(["method", *keys])["eigenvalues"].map(lambda v: v[-1]))
    found = {}
    for method, name in (("alg1_paper", "paper"), ("alg1_corrected", "corrected")):
        change = (top.loc[method] - top.loc["identity"]).groupby("role").median()
        found |= {f"{name}_p1": -change["P"], f"{name}_h1": change["H"]}
    ratios = pd.read_parquet(folder / "spectrum" / "ratios.parquet")
    plain = ratios[(ratios["dataset"] == DIGITS) & (ratios["method"] == "identity")]
    reach = np.log(plain["rir_with_unseen_floor"]).groupby(plain["seed"]).median()
    kappa = float(np.log(plain["kappa_h_reference"]).median())
    return found | {"log_kappa": kappa, "log_reach": float(reach.min())}


def rendered(numbers: dict[str, float]) -> dict[str, list[str]]:
    """What must stand in each document."""
    return {
        path: [re.sub(r"(\d)%", r"\1 %", text.format(**numbers)) for text in texts]
        for path, texts in QUOTES.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Record quoted figures of the default study.")
    parser.add_argument("folder", type=Path, help="results/default")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    numbers = values(options.folder)
    about = json.loads((options.folder / "provenance.json").read_text(encoding="utf-8"))
    commit = about["results"][0]["provenance"]["commit"]
    record = {"command": "snakemake --cores all", "commit": commit, "values": numbers}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for path, texts in rendered(numbers).items():
        for text in texts:
            print(f"{path}: {text}")


if __name__ == "__main__":
    main()
