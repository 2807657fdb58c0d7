"""An extreme eigenpair followed along a sequence of slowly changing matrices.

Each call first tries the short way from what the last call left, for the whole batch at once, and
hands over to `smallest_eigenpairs` and `largest_eigenpairs` those matrices whose pair fails its
residual or its proof:

- largest: a Rayleigh–Ritz step in a small Krylov space, proven by the Frobenius norm of what is
  left of the matrix, or by a Cholesky factorisation just above the pair;
- smallest: one Cholesky factorisation at a shift extrapolated to just below the eigenvalue, which
  proves the pair as well, and one solve with it.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from hessian_spectrum.extreme_eigenpairs import (
    BLOCK,
    Eigenpairs,
    NotFiniteError,
    check_batch,
    fresh_direction,
    largest_eigenpairs,
    norm_in_range,
    smallest_eigenpairs,
)
from hessian_spectrum.kernels.cholesky import Cholesky, cholesky_for
from hessian_spectrum.kernels.cuda_graphs import CapturedFunction
from hessian_spectrum.ritz import LargestRitz, orthonormal_rows

TOLERANCE = 1e-5
"""Residual of an eigenpair inside a loop; the eigenvalue is then right to about 1e-10, far more
than a step of a percent needs. Reported spectra are computed separately, and exactly."""

CERTIFIED_SHARE = 1e-3
"""Share of λ within which another eigenvalue may hide inside a loop: the factorisation that the
iteration needs anyway then proves it, which halves the cost of a step."""

WIDE_BLOCK_FROM = 128
WIDE_BLOCK = 10
"""From this size on the largest pair is sought with that many vectors: a product with them costs no
more than with 4, since it waits for the matrix, and fewer prove less: with 8, 6 of 15 MNIST pairs
needed a factorisation after 200 steps, with 10 none. Three blocks of them fit in `ritz.ROWS`."""

RETRY = 10
"""Calls after which a largest pair is tried with a block less."""

MAX_FAILED_CALLS = 4
"""Calls in a row that miss most pairs before the short way is given up."""


class ExtremeTracker:
    """Extreme eigenpairs of a batch that moves a little from call to call.

    Args:
        end: which end of the spectrum.
        scale: r, shape (B, n): follow the pairs of diag(r)·A·diag(r) on the coordinates with
            r ≠ 0. It is formed only where a factorisation needs it, or its norm is not given.
        tolerance: see `smallest_eigenpairs`.
        certified: see `smallest_eigenpairs`.

    Raises:
        ValueError: for another end, or a scale that is no (B, n).
    """

    def __init__(
        self,
        end: Literal["smallest", "largest"],
        *,
        scale: Tensor | None = None,
        tolerance: float = TOLERANCE,
        certified: float = CERTIFIED_SHARE,
    ) -> None:
        if end not in ("smallest", "largest"):
            raise ValueError(f"An end of a spectrum is 'smallest' or 'largest'. Got {end!r}.")
        self.end = end
        self.tolerance = tolerance
        self.certified = certified
        self._scale: Tensor | None = None
        self._used: slice | None = None
        if scale is not None:
            if scale.ndim != 2:
                raise ValueError(f"A scale has shape (B, n). Got {tuple(scale.shape)}.")
            # What no matrix of the batch uses on either side is cut off.
            places = (scale != 0).any(dim=0).nonzero()
            low, high = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 1)
            self._used = slice(low, high)
            self._shape = (*scale.shape, scale.shape[1])
            self._scale = scale[:, self._used].contiguous()
            self._seen = (self._scale != 0).to(scale.dtype)
            if end == "smallest":
                self._outer = self._scale[:, :, None] * self._scale[:, None, :]
        # Vectors are rows, (B, q, n): the products and solves of a CPU take them as they are.
        self._rows: Tensor | None = None
        self._fresh: Tensor
        self._vectors: Tensor
        self._last: Tensor | None = None
        self._predicted: Tensor | None = None
        self._guard: Tensor
        self._growth: Tensor
        self._moved: Tensor | None = None
        self._solver: Cholesky
        self._first_solve = CapturedFunction(self._factor_and_solve, fixed=1)
        product = partial(scaled_product, scale=self._scale)
        self._ritz = LargestRitz(product, tolerance=tolerance, certified=certified)
        self._failed = self._calls = 0
        self._depth = 1

    def __call__(self, matrices: Tensor, *, norms: Tensor | None = None) -> Eigenpairs:
        """The pairs of matrices of shape (B, n, n), of one shape and dtype at each call.

        Args:
            matrices: A, symmetric, float64 (float32 goes the careful way). No gradient flows.
            norms: ‖diag(r)·A·diag(r)‖_F, shape (B,), where they are known already.

        Raises:
            ValueError: for another shape or dtype.
            NotFiniteError: for a matrix that is not finite.
        """
        matrices = matrices.detach()
        if norms is not None and norms.shape != matrices.shape[:1]:
            raise ValueError(
                f"Expected norms for {len(matrices)} matrices. Got {tuple(norms.shape)}."
            )
        if self._used is None or self._scale is None:
            return self._follow(matrices, norms)
        if tuple(matrices.shape) != self._shape or matrices.dtype != self._scale.dtype:
            raise ValueError(
                f"The scale is for matrices of {self._shape}, {self._scale.dtype}. Got "
                f"{tuple(matrices.shape)}, {matrices.dtype}."
            )
        n, used = matrices.shape[-1], self._used
        pairs = self._follow(matrices[:, used, used], norms)
        around = (used.start, n - used.stop)
        return pairs._replace(
            vectors=torch.nn.functional.pad(pairs.vectors, around),
            block=torch.nn.functional.pad(pairs.block, (0, 0, *around)),
        )

    def _follow(self, matrices: Tensor, norms: Tensor | None) -> Eigenpairs:
        check_batch(matrices, None)
        count, n = matrices.shape[:2]
        rows = self._rows
        if rows is not None and (rows[:, 0].shape != (count, n) or rows.dtype != matrices.dtype):
            raise ValueError(
                f"A tracker follows matrices of one shape and dtype, until now "
                f"{(len(rows), rows.shape[-1], rows.shape[-1])}, {rows.dtype}. Got "
                f"{tuple(matrices.shape)}, {matrices.dtype}."
            )
        if norms is None:
            norms = torch.linalg.matrix_norm(self._formed(matrices))
        if (
            rows is None
            or self._failed == MAX_FAILED_CALLS
            or n <= 4 * rows.shape[1]
            or count == 0
            or matrices.dtype != torch.float64
        ):
            pairs = self._whole(matrices, norms, None)
        else:
            attempt = self._by_ritz if self.end == "largest" else self._by_shift
            try:
                pairs, sure = attempt(matrices, rows, norms)
                sure = sure & norm_in_range(norms)
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                # A small decomposition failed, as when it meets NaN.
                sure = torch.zeros_like(norms, dtype=torch.bool)
            wrong = int((~sure).sum())
            # What the short way does not find time and again it seldom finds later.
            self._failed = self._failed + 1 if 2 * wrong > count else 0
            if wrong == count:
                pairs = self._whole(matrices, norms, None)
            elif wrong:
                pairs = self._repaired(matrices, norms, pairs, (~sure).nonzero().squeeze(-1))
        self._learn(pairs, n)
        return pairs

    def _formed(
        self, matrices: Tensor, norms: Tensor | None = None, places: Tensor | None = None
    ) -> Tensor:
        """diag(r)·A·diag(r), of some of the batch.

        With the norms, coordinates with r = 0 get twice the norm on the diagonal, out of the way.
        """
        chosen = matrices if places is None else matrices[places]
        if self._scale is None:
            return chosen
        some = slice(None) if places is None else places
        scale = self._scale[some]
        formed = (chosen * scale[:, None]).mul_(scale[:, :, None])
        if norms is not None:
            away = 2 * norms[some] if self.end == "smallest" else -2 * norms[some]
            formed.diagonal(dim1=-2, dim2=-1).add_((1 - self._seen[some]) * away[:, None])
        return formed

    def _whole(self, matrices: Tensor, norms: Tensor, places: Tensor | None) -> Eigenpairs:
        """The careful way, for some of the batch."""
        some = slice(None) if places is None else places
        formed = self._formed(matrices, norms, places)
        block = self._first_block() if self._rows is None else self._rows
        if block is not None:
            block = block[some].mT
        edge = None
        if self._predicted is not None:
            room = (self._guard * self._predicted.abs())[some]
            edge = self._predicted[some] + (room if self.end == "largest" else -room)
        if self.end == "largest":
            return largest_eigenpairs(
                formed,
                block=block,
                bound=edge,
                tolerance=self.tolerance,
                certified=self.certified,
            )
        return smallest_eigenpairs(
            formed, block=block, shift=edge, tolerance=self.tolerance, certified=self.certified
        )

    def _first_block(self) -> Tensor | None:
        """With a scale, the coordinates where it is most extreme are a good start, (B, q, n)."""
        if self._scale is None or self._scale.shape[1] <= 2 * BLOCK:
            return None
        sign = 1.0 if self.end == "largest" else -1.0
        ranked = torch.where(self._seen > 0, sign * self._scale.abs(), -torch.inf)
        places = ranked.topk(BLOCK, dim=1).indices
        return torch.nn.functional.one_hot(places, ranked.shape[1]).to(ranked.dtype)

    def _repaired(
        self, matrices: Tensor, norms: Tensor, pairs: Eigenpairs, rest: Tensor
    ) -> Eigenpairs:
        """The pairs with those at some places found the careful way."""
        try:
            careful = self._whole(matrices, norms, rest)
        except NotFiniteError as error:
            raise NotFiniteError(int(rest[error.index])) from error
        values, vectors, block, residuals = (part.clone() for part in pairs[:4])
        values[rest], vectors[rest] = careful.values, careful.vectors
        block[rest], residuals[rest] = careful.block[..., : block.shape[-1]], careful.residuals
        return Eigenpairs(
            values, vectors, block, residuals, careful.exact, max(0, pairs.dominated - len(rest))
        )

    def _by_shift(self, matrices: Tensor, rows: Tensor, norms: Tensor) -> tuple[Eigenpairs, Tensor]:
        """Inverse iteration from one factorisation at the predicted shift."""
        floor = torch.finfo(matrices.dtype).eps * norms
        assert self._predicted is not None
        room = torch.maximum(self._guard * self._predicted.abs(), 48 * floor)
        shift = self._predicted - room
        if self._moved is None:
            with torch.inference_mode(False):
                self._moved, self._solver = torch.empty_like(matrices), cholesky_for(matrices)
        values, residuals, rows, below = self._first_solve(matrices, rows, shift, 2 * norms)
        for more in (True, True, False):
            done = residuals <= torch.maximum(self.tolerance * values.abs(), 8 * floor)
            # What has no factor goes the careful way however small its residual becomes.
            if not more or bool((done | ~below).all()):
                break
            values, residuals, rows = self._solve(matrices, rows)
        done &= below
        bound = values - torch.maximum(self.certified * values.abs(), 64 * floor)
        pairs = Eigenpairs(values, rows[:, 0], rows.mT, residuals, 0)
        proven = done & (shift >= bound)
        return pairs, self._proven(matrices, norms, done, proven, bound)

    def _factor_and_solve(
        self, matrices: Tensor, rows: Tensor, shift: Tensor, away: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pair after one solve with A − s·I, the next rows, and where a factor exists."""
        moved = self._moved
        assert moved is not None
        if self._scale is None:
            moved.copy_(matrices)
            moved.diagonal(dim1=-2, dim2=-1).sub_(shift[:, None])
        else:
            torch.mul(matrices, self._outer, out=moved)
            added = (1 - self._seen) * away[:, None] - shift[:, None]
            moved.diagonal(dim1=-2, dim2=-1).add_(added)
        below = self._solver.factor(moved)
        return *self._solve(matrices, rows), below

    def _solve(self, matrices: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = orthonormal_rows(self._solver.solve(rows))
        first = rows[:, :1]
        pulled = scaled_product(matrices, first, scale=self._scale)
        values = (first * pulled).sum(dim=(1, 2))
        residuals = (pulled - values[:, None, None] * first).norm(dim=(1, 2))
        return values, residuals, rows

    def _by_ritz(self, matrices: Tensor, rows: Tensor, norms: Tensor) -> tuple[Eigenpairs, Tensor]:
        """Rayleigh–Ritz in a small Krylov space, and a proof of what it finds."""
        floor = torch.finfo(matrices.dtype).eps * norms
        ritz = self._ritz(matrices, rows, norms, depth=self._depth)
        # As many blocks as it took, but for a try with fewer now and then.
        self._calls += 1
        self._depth = max(1, ritz.depth - (self._calls % RETRY == 0))
        values = ritz.values
        above = values + torch.maximum(self.certified * values.abs(), 64 * floor)
        sure = self._proven(matrices, norms, ritz.converged, ritz.dominant, above)
        dominated = int(ritz.dominant.sum())
        best = ritz.rows
        pairs = Eigenpairs(values, best[:, 0], best.mT, ritz.residuals, 0, dominated)
        return pairs, sure

    def _proven(
        self, matrices: Tensor, norms: Tensor, done: Tensor, proven: Tensor, bound: Tensor
    ) -> Tensor:
        """Where nothing lies beyond a bound; what is not proven yet, by a Cholesky factor."""
        places = (done & ~proven).nonzero().squeeze(-1)
        if len(places) == 0:
            return proven
        sign = -1.0 if self.end == "largest" else 1.0
        moved = self._formed(matrices, norms, places).mul(sign)
        moved.diagonal(dim1=-2, dim2=-1).sub_(sign * bound[places, None])
        proven = proven.clone()
        proven[places] = torch.linalg.cholesky_ex(moved).info == 0
        return proven

    def _learn(self, pairs: Eigenpairs, n: int) -> None:
        """Prepare the next call: its start vectors, and where its eigenvalue will be."""
        value = pairs.values
        width = pairs.block.shape[-1]
        if self._rows is None:
            wide = WIDE_BLOCK if self.end == "largest" and n >= WIDE_BLOCK_FROM else BLOCK
            # Beside what was found, directions to be replaced by what the next calls find.
            more = torch.cat(
                [
                    fresh_direction(n, value.dtype, value.device, number)
                    for number in range(1, max(2, wide - width + 2))
                ],
                dim=1,
            ).mT.expand(len(value), -1, -1)
            if self._scale is not None:
                more = more * self._seen[:, None]
            self._fresh = more[:, -1:]
            self._rows = torch.cat([pairs.block.mT[:, : width - 1], more], dim=1)
        else:
            # The wanted vector turns about as much as it did before, in the same direction.
            turned = (pairs.vectors * self._vectors).sum(dim=-1, keepdim=True).sign()
            ahead = 2 * pairs.vectors - turned * self._vectors
            # A fresh direction, so that no extreme can hide from a stale warm start.
            kept = pairs.block.mT[:, 1 : self._rows.shape[1] - 1]
            self._rows = torch.cat([ahead[:, None], kept, self._fresh], dim=1)
        self._vectors = pairs.vectors
        if self.end == "largest" and self._failed == 0:
            # Its short way needs no prediction; the careful way makes do with the last value.
            self._predicted, self._last, self._guard = value, None, torch.full_like(value, 0.1)
        else:
            self._predict(value)

    def _predict(self, value: Tensor) -> None:
        """Extrapolate the eigenvalue, and say how far to stay away from that."""
        if self._predicted is None or self._last is None:
            # A step of a few percent is common; a guard of 10 % mostly holds.
            self._predicted, self._guard = value, torch.full_like(value, 0.1)
            self._growth = torch.ones_like(value)
        else:
            missed = ((value - self._predicted) / value).abs()
            growth = torch.nan_to_num(value / self._last, nan=1.0).clamp(0.5, 2.0)
            # Growth changes smoothly itself: extrapolate log λ by a parabola.
            self._predicted = value * (growth.square() / self._growth)
            self._growth = growth
            # Twice the last miss, at least half of what the certificate allows; a small miss is
            # given no more than that, so that no second factorisation is needed.
            guard = (2 * missed + 0.5 * self.certified).nan_to_num(nan=0.5).clamp(max=0.5)
            inside = guard.clamp(max=0.9 * self.certified)
            self._guard = torch.where(missed < 0.6 * self.certified, inside, guard)
        self._last = value


def scaled_product(matrices: Tensor, rows: Tensor, *, scale: Tensor | None) -> Tensor:
    """diag(r)·A·diag(r) on rows, (B, q, n); without a scale r, A."""
    if scale is None:
        return rows @ matrices
    return ((rows * scale[:, None]) @ matrices).mul_(scale[:, None])
