"""A task as a user has it: features, and labels of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from immunization.runtime.errors import UserError

KINDS = ("classification", "regression", "none")
LEAST, MOST = 1e-100, 1e100
"""Between which features have their largest entry: eigenvalues are squares, and κ their ratio."""
MOST_CLASSES = 1000
"""Whole numbers with more values than this are not taken for classes unasked."""


class Task:
    """Features and labels of one task, benign or harmful.

    >>> import numpy as np
    >>> task = Task(np.eye(6, 3, dtype=np.float32), [0, 1, 2, 0, 1, 2], name="fruit")
    >>> task
    Task 'fruit': 6 rows, 3 features (float32), classification with 3 classes

    Args:
        features: X, shape (N, D): what the released model gives, before any probe. A numpy array,
            a torch tensor or a DataFrame. Its dtype is kept, since it says how many digits the
            data have and so decides the rank (`hessian_spectrum.relative_tolerance`).
        labels: shape (N,), or None for a task of which only inputs are known. Text, booleans and
            whole numbers are classes; floats are the target of a regression.
        kind: "classification", "regression" or "none", where `labels` alone do not tell.
        name: for messages and tables.
        test: features and labels of held-out rows, which attackers are tested on. By default they
            train on three quarters of the rows and are tested on the rest.

    Raises:
        UserError: for shapes that do not fit, values that are not finite, labels that do not vary,
            or that may be read in two ways.

    Attributes:
        features: X, in its own dtype, on the CPU.
        targets: one column a class against the rest (±1), or the standardised target, or ones;
            shape (N, C), float64. Two classes need a single column.
        classes: values of the labels, ascending; empty but for a classification.
        kind, name: as given.
        test_features, test_targets: the same of held-out rows, or None.
    """

    def __init__(
        self,
        features: Any,
        labels: Any = None,
        *,
        kind: str | None = None,
        name: str = "",
        test: tuple[Any, Any] | None = None,
    ) -> None:
        self.name = name
        where = f"task '{name}'" if name else "task"
        self.features = matrix(features, where)
        rows = len(self.features)
        values = None if labels is None else column(labels, rows, where)
        self.kind = _kind(values, kind, where)
        self.classes: list[Any] = []
        self._middle, self._spread = 0.0, 1.0
        if self.kind == "classification":
            assert values is not None
            found = np.unique(values).tolist()
            if len(found) < 2:
                raise UserError(
                    f"{where}: all labels are {found[0]!r}, and there is nothing to learn. Give "
                    "rows of at least two classes, or no labels."
                )
            self.classes = found
        elif self.kind == "regression":
            assert values is not None
            numbers = _numbers(values, where)
            if numbers.min() == numbers.max():
                raise UserError(
                    f"{where}: the target is constant ({numbers[0]:g}), and there is nothing to "
                    "learn. Give another target, or no labels."
                )
            self._middle, self._spread = float(numbers.mean()), float(numbers.std(ddof=1))
        self.targets = self._targets(values, rows, where)
        self.test_features: Tensor | None = None
        self.test_targets: Tensor | None = None
        if test is not None:
            self._hold_out(*test, where=f"{where}, test rows")

    def _targets(self, values: np.ndarray | None, rows: int, where: str) -> Tensor:
        if self.kind == "classification":
            assert values is not None
            known = np.isin(values, self.classes)
            if not known.all():
                row = int(np.flatnonzero(~known)[0])
                raise UserError(
                    f"{where}: row {row} has the class {values[row].item()!r}, which no training "
                    f"row has; those have {', '.join(map(repr, self.classes[:12]))}."
                )
            codes = torch.from_numpy(np.searchsorted(np.array(self.classes), values))
            several = (
                torch.arange(len(self.classes)) if len(self.classes) > 2 else torch.tensor([1])
            )
            return torch.where(codes[:, None] == several, 1.0, -1.0).double()
        if self.kind == "regression":
            assert values is not None
            scaled = (_numbers(values, where) - self._middle) / self._spread
            return torch.from_numpy(scaled)[:, None]
        return torch.ones(rows, 1, dtype=torch.float64)

    def _hold_out(self, features: Any, labels: Any, where: str) -> None:
        if self.kind == "none":
            raise UserError(f"{where}: rows are held out to test a label, and the task has none.")
        self.test_features = matrix(features, where)
        if self.test_features.shape[1] != self.width:
            raise UserError(
                f"{where}: {self.test_features.shape[1]} features; training rows have {self.width}."
            )
        values = column(labels, len(self.test_features), where)
        self.test_targets = self._targets(values, len(values), where)

    @property
    def width(self) -> int:
        """D, the number of features."""
        return self.features.shape[1]

    @property
    def is_multiclass(self) -> bool:
        """Whether there are more than two classes."""
        return len(self.classes) > 2

    def column_name(self, number: int) -> str:
        """What a column of the targets stands for."""
        base = self.name or "task"
        return f"{base}: {self.classes[number]}" if self.is_multiclass else base

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        name = f" '{self.name}'" if self.name else ""
        dtype = str(self.features.dtype).removeprefix("torch.")
        what = {
            "classification": f"classification with {len(self.classes)} classes",
            "regression": "regression",
            "none": "no labels",
        }[self.kind]
        return f"Task{name}: {len(self)} rows, {self.width} features ({dtype}), {what}"


def as_array(values: Any) -> np.ndarray:
    """A tensor, DataFrame, Series, list or array as an array."""
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)


def matrix(features: Any, where: str) -> Tensor:
    """Features as a tensor on the CPU, in their own dtype, checked.

    Raises:
        UserError: for what is no matrix of finite real numbers.
    """
    if isinstance(features, Tensor):
        tensor = features.detach().cpu()
    else:
        array = as_array(features)
        if array.dtype == object or array.dtype.kind not in "fiub":
            raise UserError(
                f"{where}: features are of dtype {array.dtype}; numbers are needed, one column a "
                "feature."
            )
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.float64)
        tensor = torch.from_numpy(np.ascontiguousarray(array))
    if tensor.ndim != 2:
        raise UserError(
            f"{where}: features have shape {tuple(tensor.shape)}; (rows, features) is needed."
        )
    if tensor.dtype.is_complex:
        raise UserError(f"{where}: features are complex; real numbers are needed.")
    if not tensor.dtype.is_floating_point:
        tensor = tensor.double()  # whole numbers are exact
    if 0 in tensor.shape:
        raise UserError(f"{where}: features have shape {tuple(tensor.shape)}; there is no data.")
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        row, place = (int(i) for i in (~finite).nonzero()[0])
        raise UserError(
            f"{where}: the feature in row {row}, column {place} is {float(tensor[row, place])}. "
            "Remove or fill such values first."
        )
    largest = float(tensor.abs().max())
    if largest and not LEAST < largest < MOST:
        raise UserError(
            f"{where}: the largest feature is {largest:.3g}, whose square loses digits in float64. "
            "Multiply all features of both tasks by one number first; κ does not see it."
        )
    return tensor


def column(labels: Any, rows: int, where: str) -> np.ndarray:
    """Labels as an array with one entry a row.

    Raises:
        UserError: for another shape, or missing values.
    """
    values = as_array(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (rows,):
        raise UserError(
            f"{where}: {rows} rows of features, and labels of shape {values.shape}. One label a "
            "row is needed."
        )
    if values.dtype == object:
        missing = np.array([v is None or v != v for v in values])
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            raise UserError(f"{where}: the label in row {row} is missing. Remove such rows first.")
        values = values.astype(str)
    return values


def _numbers(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise UserError(f"{where}: labels of a regression are numbers; these are {values.dtype}.")
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise UserError(f"{where}: the target in row {row} is {numbers[row]}. Remove such rows.")
    return numbers


def _kind(values: np.ndarray | None, given: str | None, where: str) -> str:
    """What kind of labels these are."""
    if given is not None and given not in KINDS:
        raise UserError(f"{where}: kind is {given!r}; it is one of {', '.join(KINDS)}.")
    if values is None:
        if given not in (None, "none"):
            raise UserError(f"{where}: a {given} needs labels, and there are none.")
        return "none"
    if given is not None:
        return given
    if values.dtype.kind == "f":
        numbers = _numbers(values, where)
        if (numbers == np.round(numbers)).all():
            raise UserError(
                f"{where}: labels are whole numbers stored as {values.dtype}, and may be classes "
                'or the target of a regression. Say which: kind="classification" or '
                'kind="regression".'
            )
        return "regression"
    if values.dtype.kind in "iu":
        count = len(np.unique(values))
        if count > min(MOST_CLASSES, len(values) // 2):
            raise UserError(
                f"{where}: labels are whole numbers with {count} values in {len(values)} rows, "
                "and may be classes or the target of a regression. Say which: "
                'kind="classification" or kind="regression".'
            )
    return "classification"
