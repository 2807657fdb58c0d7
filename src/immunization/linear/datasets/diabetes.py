"""442 diabetes patients that ship with scikit-learn, split by sex into D_P and D_H.

Source: Efron, Hastie, Johnstone and Tibshirani, *Least Angle Regression*, 2004. D_P predicts
the progression of the disease after one year in one sex, D_H the blood sugar (column s6) in the
other; neither target nor the sex is among the eight features.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from immunization.data.download import Place
from immunization.linear.datasets._paired import Paired, standardised_part

EXTENDS = "_paired"
SHIPPED = True
PARAMETERS: dict[str, Any] = {}


def load(parameters: dict[str, Any], place: Place) -> Paired:
    """Sex 1 (235 patients) is D_P, sex 2 (207 patients) D_H."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True, scaled=False)
    frame: pd.DataFrame = data.frame.rename(columns={"target": "progression", "s6": "glucose"})
    where = "data set 'diabetes'"
    return Paired(
        standardised_part(
            frame[frame["sex"] == 1],
            name="progression in sex 1",
            target="progression",
            exclude=["sex", "glucose"],
            where=where,
        ),
        standardised_part(
            frame[frame["sex"] == 2],
            name="glucose in sex 2",
            target="glucose",
            exclude=["sex", "progression"],
            where=where,
        ),
    )
