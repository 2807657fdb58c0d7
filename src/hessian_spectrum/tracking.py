"""An extreme eigenpair followed along a sequence of slowly changing matrices."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hessian_spectrum.extremes import Eigenpairs, largest_eigenpairs, smallest_eigenpairs

TOLERANCE = 1e-5
"""Residual of an eigenpair inside a loop; the eigenvalue is then right to about 1e-10, far more
than a step of a percent needs. Spectra that are reported are computed anew, and exactly."""

CERTIFIED = 1e-3
"""Share of λ within which another eigenvalue may hide inside a loop: the factorisation that the
iteration needs anyway then proves it, which halves the cost of a step."""


class ExtremeTracker:
    """Extreme eigenpairs of a batch that moves a little from call to call.

    The next eigenvalue is extrapolated from the last three, and the shift put just outside it, so
    that one Cholesky factorisation and one or two solves do for a call. A prediction that turns
    out wrong costs time, not accuracy.

    Args:
        end: which end of the spectrum.
        tolerance: see `smallest_eigenpairs`.
        certified: see `smallest_eigenpairs`.
    """

    def __init__(
        self,
        end: Literal["smallest", "largest"],
        *,
        tolerance: float = TOLERANCE,
        certified: float = CERTIFIED,
    ) -> None:
        if end not in ("smallest", "largest"):
            raise ValueError(f"An end of a spectrum is 'smallest' or 'largest'. Got {end!r}.")
        self.end = end
        self.tolerance = tolerance
        self.certified = certified
        self._block: Tensor | None = None
        self._last: Tensor | None = None
        self._predicted: Tensor | None = None
        self._guard: Tensor | None = None
        self._growth: Tensor
        self._vectors: Tensor
        self._lanczos = True

    def __call__(self, matrices: Tensor) -> Eigenpairs:
        """The pairs of matrices of shape (B, n, n), B and n the same at each call."""
        edge = None
        if self._predicted is not None and self._guard is not None:
            room = self._guard * self._predicted.abs()
            edge = self._predicted + (room if self.end == "largest" else -room)
        if self.end == "largest":
            pairs = largest_eigenpairs(
                matrices,
                block=self._block,
                bound=edge,
                tolerance=self.tolerance,
                certified=self.certified,
                lanczos=self._lanczos,
            )
            # What is not dominated once seldom becomes so: stop trying where most are not.
            self._lanczos = self._block is None or 2 * pairs.dominated >= len(matrices)
        else:
            pairs = smallest_eigenpairs(
                matrices,
                block=self._block,
                shift=edge,
                tolerance=self.tolerance,
                certified=self.certified,
            )
        self._learn(pairs)
        return pairs

    def _learn(self, pairs: Eigenpairs) -> None:
        value = pairs.values
        if self._block is not None:
            # The wanted vector turns about as much as it did before, in the same direction.
            turned = (pairs.vectors * self._vectors).sum(dim=-1, keepdim=True).sign()
            ahead = 2 * pairs.vectors - turned * self._vectors
            self._block = torch.cat([ahead[..., None], pairs.block[..., 1:]], dim=-1)
        else:
            self._block = pairs.block
        self._vectors = pairs.vectors
        if self.end == "largest" and pairs.dominated == len(value):
            # Nothing was shifted, and nothing needs a prediction.
            self._predicted = None
        elif self._predicted is None or self._last is None:
            # A step of a few percent is common; a guard of 10 % mostly holds.
            self._predicted, self._guard = value, torch.full_like(value, 0.1)
            self._growth = torch.ones_like(value)
        else:
            missed = ((value - self._predicted) / value).abs()
            growth = torch.nan_to_num(value / self._last, nan=1.0).clamp(0.5, 2.0)
            # Growth changes smoothly itself: extrapolate log λ by a parabola.
            self._predicted = value * (growth.square() / self._growth)
            self._growth = growth
            # Twice the last miss, at least half of what the certificate allows.
            self._guard = (2 * missed + 0.5 * self.certified).nan_to_num(nan=0.5).clamp(max=0.5)
        self._last = value
