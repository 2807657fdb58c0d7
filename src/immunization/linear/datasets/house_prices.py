"""House prices (Ames), the paper's regression study: Kaggle's train.csv, 1,460 rows.

D_P predicts LotArea outside the zone RL (309 rows), D_H predicts SalePrice inside it (1,151).
The other 79 columns, Id included, are the features. Each part is encoded and standardised by
itself, as in the released code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from immunization.data.download import File, Place
from immunization.linear.datasets._paired import Paired, require_columns, standardised_part

EXTENDS = "_paired"
PARAMETERS: dict[str, Any] = {}

TRAIN = File(
    path="house-prices/train.csv",
    sha256="1e18addf81e5e4d347cc17ee6075bbe4a42b7fa26b9e5b063e8f692a5f929d41",
    urls=(),
)
_COMMIT = "b749964785b07b66180afb4a929099d34c09b861"
_REPOSITORY = "amberyzheng/model-immunization-cond-num"
_FOLDER = "data/house_price"
# The authors' own split of train.csv, which anyone may download; Kaggle asks for an account.
PARTS = tuple(
    File(
        path=f"house-prices/{name}",
        sha256=sha256,
        urls=(
            f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/{_FOLDER}/{name}",
            f"https://cdn.jsdelivr.net/gh/{_REPOSITORY}@{_COMMIT}/{_FOLDER}/{name}",
        ),
    )
    for name, sha256 in (
        ("D1.csv", "3ca4cd2207dc5321266228639a4a55ea6870c45fb637b46fc7783b4bb484da34"),
        ("D2.csv", "c2026a8ea44c8e4a7f32b1f604c4c4ff596759352303b091c7d0c73bedbfed45"),
    )
)
# What pandas from version 2 on reads as missing, which the authors' runs used. The text "None"
# is on the list although it is a category of MasVnrType; with pandas 1's rule, which keeps it,
# κ(K_P) is 248 in place of 254 and κ(K_H) 203 in place of 209.
MISSING = (
    "None", "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND",
    "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null",
)  # fmt: skip


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=list(MISSING))


def load(parameters: dict[str, Any], place: Place) -> Paired:
    """From the mirror's train.csv or cached or downloaded parts; missing values become 0."""
    if (path := place.find(TRAIN)) is not None:
        frame = _read(path)
    else:
        paths = [place.fetch(part) for part in PARTS]
        frame = pd.concat(map(_read, paths)).sort_values("Id", ignore_index=True)
        path = paths[0]
    require_columns(frame, ["Id", "MSZoning", "LotArea", "SalePrice"], str(path))
    for column in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        frame[column] = frame[column].fillna(0 if numeric else "0")
    low_density = frame["MSZoning"] == "RL"
    return Paired(
        standardised_part(
            frame[~low_density],
            name="LotArea outside RL",
            target="LotArea",
            exclude=["SalePrice"],
            where=f"{path}, rows outside zone RL",
        ),
        standardised_part(
            frame[low_density],
            name="SalePrice in RL",
            target="SalePrice",
            exclude=["LotArea"],
            where=f"{path}, rows in zone RL",
        ),
    )
