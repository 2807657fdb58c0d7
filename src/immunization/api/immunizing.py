"""Make an immunized linear layer for two tasks."""

from __future__ import annotations

from typing import Any

import torch

from immunization.api.extractor import Extractor, record_of
from immunization.linear import immunize as stage
from immunization.linear.own_tasks.pairs import SEED, check_pair, pair_set
from immunization.linear.own_tasks.scaling import Scaler
from immunization.linear.own_tasks.task import Task
from immunization.runtime.errors import UserError
from immunization.study.components import component, import_component
from immunization.study.parameters import completed

NEEDS_LABELS = "NEEDS_HARMFUL_LABELS"
"""Literal of a method that reads the harmful labels, and not inputs alone."""


def immunize(
    benign: Task,
    harmful: Task,
    *,
    method: str = "multiplicative",
    scale: str = "none",
    intercept: bool = False,
    seed: int = SEED,
    device: str = "cpu",
    **parameters: Any,
) -> Extractor:
    """Compute an immunized linear layer.

    >>> import numpy as np
    >>> import immunization as im
    >>> random = np.random.default_rng(0)
    >>> benign = im.Task(random.normal(size=(300, 6)) * np.geomspace(3, 1, 6))
    >>> harmful = im.Task(random.normal(size=(200, 6)) * np.geomspace(1, 3, 6))
    >>> layer = im.immunize(benign, harmful, method="optimum", budget="reference")
    >>> k = lambda x: np.linalg.cond(x) ** 2
    >>> p, h = benign.features.numpy(), harmful.features.numpy()
    >>> rir = k(layer.transform(h)) / k(h) / (k(layer.transform(p)) / k(p))
    >>> bool(rir > 5)
    True

    Args:
        benign: the task that the model is released for, D_P.
        harmful: the task that it should be hard to fine-tune for, D_H.
        method: a file of ``linear/methods``; ``multiplicative`` reaches the limit of invertible
            layers by matrix products, ``optimum`` in closed form, ``erase`` removes the harmful
            label from linear sight, and the others are the paper's.
        scale: what is done to features first, as a part of the layer. "none" keeps them as they
            are, so that the layer is linear on what the model gives. "joint" takes off the mean
            and deviation of the benign rows from both tasks. "within" scales each task by its own,
            as the paper does with house prices; such a layer must be told which task its rows are
            of.
        intercept: whether probes are taken to have one: κ is then that of centred features.
        seed: of methods that draw.
        device: "cpu" or "cuda".
        parameters: of the method, as in a config; config/README.md explains each.

    Returns:
        The layer, computed from all rows of both tasks.

    Raises:
        UserError: for tasks that do not fit together, an unknown method or parameter, or a method
            that diverges.

    The harmful labels are used by ``erase`` alone. Methods that train a benign probe on their way
    (``alg1``, ``imma``) take the first class against the rest where there are several.
    """
    check_pair(benign, harmful)
    complete = completed("linear/methods", "method", method, parameters)
    module = import_component("linear/methods", method)
    scaler = Scaler.fit(scale, benign.features, harmful.features)
    record = record_of(
        method, complete, scale=scale, intercept=intercept, seed=seed,
        tasks={"benign": repr(benign), "harmful": repr(harmful)},
    )  # fmt: skip
    unlabelled = harmful.kind == "none"
    if unlabelled and component("linear/methods", method).traits.get(NEEDS_LABELS):
        raise UserError(
            f"method '{method}' reads the harmful labels, and there are none. On the command line "
            "they are --harmful-labels."
        )
    tasks = pair_set(benign, harmful, scaler, intercept=intercept, seed=seed)
    batch = stage.immunize_batch(method, module, complete, tasks, device, [(seed, 0)])
    theta = batch.theta[0].to(torch.float64)
    return Extractor(theta, scaler, batch.singular, intercept, record)
