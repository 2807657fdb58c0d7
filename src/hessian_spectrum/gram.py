"""Gram matrices and triangular factors of features that come in batches.

Both take any number of rows in bounded memory: a batch is cast to float64 in slices of at most
`SLICE` bytes. The Gram matrix is for inner loops; R of the QR factorisation, K = RᵀR, is for what
is reported, because squaring halves the digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hessian_spectrum.range_factor import RangeFactor, factor_of_gram, factor_of_triangle
from hessian_spectrum.rank import data_dtype

SLICE = 8 * 2**20
"""Bytes of float64 that one slice of a batch takes on a CPU, where a product of that size runs at
full speed; 16 times as many on a GPU."""


BLOCKS = 6
"""Row blocks of a symmetric product, at least 64 wide; more save little and make products thin."""


class Gram(NamedTuple):
    """A Gram matrix and what it was made from.

    Attributes:
        matrix: K = XᵀX, shape (D, D) or (S, D, D), float64, not divided by N.
        rows: N, one data set's number of rows.
        mean: shape (D,) or (S, D): the mean that was taken off, or None.
        dtype: of the features, which limits what the matrix can tell.
        offset: Frobenius norm of the features over that of the centred ones, see
            `relative_tolerance`; 1 where no mean was taken off.
    """

    matrix: Tensor
    rows: int
    mean: Tensor | None
    dtype: torch.dtype
    offset: float = 1.0

    def range_factor(self, *, tolerance: float | None = None) -> RangeFactor:
        """Factor of one data set's K; the default tolerance counts dtype and offset in.

        Args:
            tolerance: on eigenvalues, see `factor_of_gram`.
        """
        return factor_of_gram(
            self.matrix, dtype=self.dtype, offset=self.offset, tolerance=tolerance
        )


class _Batches:
    """Checks and slices batches; shared by both accumulators."""

    def __init__(self, *, centered: bool) -> None:
        self.centered = centered
        self.rows = 0
        self.mean: Tensor | None = None
        self.dtype: torch.dtype | None = None
        self._shape: tuple[int, ...] | None = None
        self._batch = 0
        # Of each column: a constant one has no deviations, whatever its mean is rounded to.
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def slices(self, features: Tensor) -> Iterator[Tensor]:
        """Float64 slices of a batch, (S, n, D); a stack of one for a plain matrix.

        A slice is overwritten when the next one is asked for.
        """
        if features.ndim not in (2, 3):
            raise ValueError(
                "Features have shape (N, D), or (S, N, D) for a stack of data sets. Got "
                f"{tuple(features.shape)}."
            )
        shape = (*features.shape[:-2], features.shape[-1])
        if self._shape is None:
            self._shape, self.dtype = shape, data_dtype(features)
        elif shape != self._shape or data_dtype(features) != self.dtype:
            raise ValueError(
                f"All batches need the same number of features and dtype. Batch {self._batch} has "
                f"{shape} and {features.dtype}, those before it {self._shape} and {self.dtype}."
            )
        stack = features if features.ndim == 3 else features.unsqueeze(0)
        room = SLICE if stack.device.type == "cpu" else 16 * SLICE
        if stack.shape[0] == 0 or stack.shape[-1] == 0:
            raise ValueError(f"Features need columns. Got shape {tuple(features.shape)}.")
        step = max(1, room // (8 * stack.shape[0] * stack.shape[-1]))
        # A sum is finite unless an entry is not (or it overflows, which is as bad). The whole
        # batch is looked at first: one that is refused leaves nothing behind. Slices are cast
        # into one buffer, and sums written to one tensor: small tensors that outlive a slice
        # would keep an allocator from using its memory again.
        parts = stack.split(step, dim=1)
        cast = parts[0].dtype != torch.float64 and not features.requires_grad
        buffer = torch.empty_like(parts[0], dtype=torch.float64) if cast else stack[:, :0]
        sums = torch.zeros(len(parts), dtype=torch.float64, device=stack.device)

        def wide(part: Tensor) -> Tensor:
            if not cast:
                return part.to(torch.float64)  # itself, unless autograd needs the cast
            return buffer[:, : part.shape[1]].copy_(part)

        for total, part in zip(sums.unbind(), parts, strict=True):
            torch.sum(wide(part.detach()), dim=(0, 1, 2), out=total)
        if not bool(torch.isfinite(sums).all()):
            bad = (~torch.isfinite(stack)).nonzero()
            where = "its sum overflows"
            if len(bad):
                where = f"row {int(bad[0, 1])}, column {int(bad[0, 2])} is not"
            raise ValueError(f"Features must be finite. Batch {self._batch}: {where}.")
        if stack.shape[1]:  # an empty batch has no mean, and changes nothing
            for part in parts:
                yield wide(part)
        self._batch += 1

    def center(self, part: Tensor) -> tuple[Tensor, Tensor | None]:
        """The slice less its own mean, and the row that joins it to what was there.

        Source: Chan, Golub and LeVeque (1983): two centred groups join by √(n₁n₂/(n₁+n₂)) times
        the difference of their means, so nothing cancels.
        """
        count = part.shape[1]
        if not self.centered:
            self.rows += count
            return part, None
        seen = part.detach()
        low, high = seen.amin(dim=1, keepdim=True), seen.amax(dim=1, keepdim=True)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        mean = torch.where(low == high, low, part.mean(dim=1, keepdim=True))
        bridge = None
        if self.mean is None:
            self.mean = mean
        else:
            gap = mean - self.mean
            total = self.rows + count
            bridge = gap * (self.rows * count / total) ** 0.5
            self.mean = self.mean + gap * (count / total)
        self.rows += count
        return part - mean, bridge

    def varied(self) -> Tensor:
        """Which columns are not constant over all rows, shape (S, 1, D)."""
        assert self._low is not None
        assert self._high is not None
        return self._low < self._high

    def offset(self, energy: Tensor) -> float:
        """See `Gram.offset`; of a stack the largest.

        Args:
            energy: ‖X‖_F² of the centred features, shape (S,).
        """
        if self.mean is None:
            return 1.0
        shift = (self.mean * self.varied()).square().sum(dim=(1, 2)) * self.rows
        ratio = torch.where(energy > 0, 1 + shift / energy.clamp_min(1e-300), 1.0)
        return float(ratio.max()) ** 0.5

    def plain(self, stacked: Tensor) -> Tensor:
        """Drop the stack of one that a plain matrix was given."""
        return stacked[0] if self._shape is not None and len(self._shape) == 1 else stacked


class GramAccumulator(_Batches):
    """XᵀX in float64 from batches of features.

    Args:
        centered: take the mean over all rows off, as for a covariance (not divided by N).

    >>> import torch
    >>> gram = GramAccumulator()
    >>> for batch in torch.eye(4).split(2):
    ...     gram.update(batch)
    >>> gram.result().matrix.diagonal()
    tensor([1., 1., 1., 1.], dtype=torch.float64)
    """

    def __init__(self, *, centered: bool = False) -> None:
        super().__init__(centered=centered)
        self._matrix: Tensor | None = None

    def update(self, features: Tensor) -> None:
        """Add a batch.

        Args:
            features: shape (n, D), or (S, n, D) for a stack of S data sets at once; any float
                dtype or integers, on any device; the same D, S and dtype at every call.

        Raises:
            ValueError: for another shape or dtype, or values that are not finite.
        """
        for raw in self.slices(features):
            part, bridge = self.center(raw)
            if self._matrix is None:
                size = part.shape[-1]
                self._matrix = part.new_zeros(part.shape[0], size, size)
            add_gram(self._matrix, part)
            if bridge is not None:
                add_gram(self._matrix, bridge)

    def result(self) -> Gram:
        """The Gram matrix of all rows so far.

        Raises:
            ValueError: if there were none.
        """
        if self._matrix is None or self.dtype is None:
            raise ValueError("A Gram matrix needs at least one row.")
        mean = None if self.mean is None else self.plain(self.mean.squeeze(1))
        whole = self._matrix.tril() + self._matrix.tril(-1).mT
        offset = self.offset(whole.diagonal(dim1=1, dim2=2).sum(dim=1))
        return Gram(self.plain(whole), self.rows, mean, self.dtype, offset)


def add_gram(matrix: Tensor, part: Tensor) -> None:
    """Add AᵀA to the lower triangle of each matrix of a stack.

    In blocks of rows, up to the diagonal, which leaves out up to 5/12 of the operations. (Blocks of
    columns would too, but CPU libraries lose as much again on them.)

    Args:
        matrix: shape (S, D, D); right of the diagonal blocks it is not touched.
        part: A, shape (S, n, D).
    """
    width = part.shape[-1]
    step = max(64, -(-width // BLOCKS))
    for start in range(0, width, step):
        end = min(start + step, width)
        matrix[:, start:end, :end].baddbmm_(part[..., start:end].mT, part[..., :end])


class TriangularFactor(_Batches):
    """R of the QR factorisation of all rows, K = RᵀR, from batches (tall-skinny QR).

    Args:
        centered: as in `GramAccumulator`.
    """

    def __init__(self, *, centered: bool = False) -> None:
        super().__init__(centered=centered)
        self._triangle: Tensor | None = None

    def update(self, features: Tensor) -> None:
        """Add a batch, as `GramAccumulator.update`."""
        for raw in self.slices(features):
            part, bridge = self.center(raw)
            parts = [part] if bridge is None else [part, bridge]
            if self._triangle is not None:
                parts.insert(0, self._triangle)
            self._triangle = torch.linalg.qr(torch.cat(parts, dim=1), mode="r").R

    def result(self) -> Tensor:
        """R, shape (r, D) with r ≤ D, or with the stack in front; upper triangular."""
        if self._triangle is None:
            raise ValueError("A triangular factor needs at least one row.")
        return self.plain(self._triangle)

    def range_factor(self, *, tolerance: float | None = None) -> RangeFactor:
        """The compressed range factor, its rank decided here; for one data set.

        Args:
            tolerance: see `hessian_spectrum.range_factor.range_factor`. Where a mean was taken off,
                the default counts its size in, see `relative_tolerance`.
        """
        triangle = self.result()
        if triangle.ndim != 2 or self.dtype is None:
            raise ValueError(
                "A range factor is of one data set; use `result()` for a stack of them."
            )
        return factor_of_triangle(
            triangle,
            rows=self.rows,
            dtype=self.dtype,
            offset=self.offset(triangle.square().sum().reshape(1)),
            tolerance=tolerance,
        )


def gram_matrix(features: Tensor | Iterable[Tensor], *, centered: bool = False) -> Tensor:
    """XᵀX in float64, of a matrix, of a stack of them, or of an iterable of batches.

    Args:
        features: shape (N, D) or (S, N, D), or batches of those.
        centered: take the mean off.

    Returns:
        K, shape (D, D) or (S, D, D).
    """
    gram = GramAccumulator(centered=centered)
    for batch in [features] if isinstance(features, Tensor) else features:
        gram.update(batch)
    return gram.result().matrix


def dual_gram(features: Tensor) -> Tensor:
    """XXᵀ in float64, N×N: for N < D the smaller matrix with the same non-zero spectrum.

    Args:
        features: shape (..., N, D).
    """
    wide = features.to(torch.float64)
    return wide @ wide.mT


def probe_hessian(gram: Tensor, theta: Tensor) -> Tensor:
    """H = θᵀKθ of a squared-loss probe on the extractor x ↦ xᵀθ, symmetric to the last bit.

    The loss is ½‖Xθw − y‖²; divide by N for the mean. With C outputs the Hessian is I_C ⊗ H.

    Args:
        gram: K, shape (..., D, D).
        theta: θ, shape (..., D, D').
    """
    hessian = theta.mT @ (gram @ theta)
    return (hessian + hessian.mT) / 2


def gram_eigenvalues(features: Tensor, *, theta: Tensor | None = None) -> Tensor:
    """The whole spectrum of θᵀXᵀXθ, ascending, from the smaller of Gram matrix and dual.

    The fast way, right to D·eps·σ_1; `RangeFactor` and `probe_spectrum` see deeper.

    Args:
        features: X, shape (N, D).
        theta: θ, shape (D, D'); default the identity.

    Returns:
        Shape (min(N, D'),).
    """
    rows, width = features.shape[0], features.shape[1] if theta is None else theta.shape[1]
    theta = None if theta is None else theta.to(torch.float64)
    if rows < width:
        data_dtype(features)
        if not bool(torch.isfinite(features).all()):
            raise ValueError("Features must be finite.")
        wide = features.to(torch.float64)
        return torch.linalg.eigvalsh(dual_gram(wide if theta is None else wide @ theta))
    gram = gram_matrix(features)
    return torch.linalg.eigvalsh(gram if theta is None else probe_hessian(gram, theta))
