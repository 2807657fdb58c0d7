"""Coordinates in which K_P and K_H are both diagonal, on the range that they share.

Immunization by gradients moves θ inside the joint range of K_P and K_H only, and any fixed
invertible change of coordinates on its left side leaves H = θᵀKθ what it is. So with

    Q   an orthonormal basis of range(K_P) + range(K_H), D×m,
    W   with WᵀQᵀK_PQW = diag(p) and WᵀQᵀK_HQW = diag(h), p/σ_1(K_P) + h/σ_1(K_H) = 1,
    θ   = I − QQᵀ + QWφ, φ of m rows the unknown,

both Hessians come from the one product φφᵀ: the non-zero spectrum of θᵀK_Pθ is that of
√p·φφᵀ·√p, that of θᵀK_Hθ is the spectrum of √h·φφᵀ·√h, and θ·(θᵀKθ) becomes (φφᵀ·diag)·φ, a
row operation. A step of Algorithm 1 then takes two matrix products of size m instead of seven of
size D, and it is exact. The c = h/p are the generalized eigenvalues of (K_H, K_P).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hessian_spectrum.kernels.cuda_streams import map_streams
from hessian_spectrum.kernels.svd import svd_of_one
from hessian_spectrum.range_factor import RangeFactor

MIN_DIRECTION_SHARE = 1e-8
"""The square root of eps: there what is left out and what round-off in W costs are the same."""


@dataclass(frozen=True)
class JointRange:
    """Simultaneously diagonal coordinates of B pairs, padded to the largest joint range m.

    Attributes:
        basis: Q, shape (B, D, m), orthonormal columns; zero past a pair's dimension.
        transform: W, shape (B, m, m), zero in padding.
        inverse: W⁻¹, likewise.
        primary: p, shape (B, m), non-negative: zero where K_P sees nothing, and in padding.
        harmful: h, likewise for K_H.
        dimensions: m of each pair, shape (B,), integer.
        blind_primary: shape (B, m, z), orthonormal Z in coordinates of Q: what of the joint range
            is outside range(K_P), so that its projector there is I − ZZᵀ; zero columns pad.
        blind_harmful: likewise for K_H.
    """

    basis: Tensor
    transform: Tensor
    inverse: Tensor
    primary: Tensor
    harmful: Tensor
    dimensions: Tensor
    blind_primary: Tensor
    blind_harmful: Tensor

    def select(self, pairs: Tensor) -> JointRange:
        """Some of the pairs, padded no further than these need.

        Args:
            pairs: their places, shape (b,), integer.
        """
        size = int(self.dimensions[pairs].max())

        def used(blind: Tensor) -> Tensor:
            chosen = blind[pairs, :size]
            return chosen[..., : int((chosen != 0).any(dim=1).sum(dim=1).max())]

        return JointRange(
            basis=self.basis[pairs, :, :size],
            transform=self.transform[pairs, :size, :size],
            inverse=self.inverse[pairs, :size, :size],
            primary=self.primary[pairs, :size],
            harmful=self.harmful[pairs, :size],
            dimensions=self.dimensions[pairs],
            blind_primary=used(self.blind_primary),
            blind_harmful=used(self.blind_harmful),
        )

    def groups(self, count: int) -> list[Tensor]:
        """Places of the pairs in ``count`` groups of about equal work and similar dimension.

        Padded to one size, a batch pays for its largest pair; work goes like the cube.
        """
        order = self.dimensions.argsort()
        work = self.dimensions[order].to(torch.float64).pow(3).cumsum(0)
        edges = (work / work[-1] * count).ceil().clamp(1, count)
        parts = [order[edges == number] for number in range(1, count + 1)]
        return [part for part in parts if len(part)]

    def coordinates(self, right: Tensor | None = None) -> Tensor:
        """φ of θ = I, with columns Qᵀ·right (default right = Q); shape (B, m, ·)."""
        if right is None:
            return self.inverse.clone()
        return self.inverse @ (self.basis.mT @ right)

    def extractor(self, phi: Tensor, right: Tensor | None = None) -> Tensor:
        """θ = I − QQᵀ + QWφ·rightᵀ, shape (B, D, D).

        Args:
            phi: φ, shape (B, m, ·).
            right: orthonormal columns, shape (B, D, ·), whose span holds Q; default Q.
        """
        eye = torch.eye(self.basis.shape[-2], dtype=phi.dtype, device=phi.device)
        inside = self.basis @ (self.transform @ phi)
        return (
            eye
            + inside @ (self.basis if right is None else right).mT
            - (self.basis @ self.basis.mT)
        )


def joint_range(primary: Sequence[RangeFactor], harmful: Sequence[RangeFactor]) -> JointRange:
    """Simultaneously diagonalise the Gram matrices of each pair on their joint range.

    From the factors: Z and W come from a QR of the stacked [F_Pᵀ; F_Hᵀ]Q, each divided by its
    σ_1, and one eigendecomposition of the K_P part of its orthonormal factor (a generalized
    singular value decomposition). Errors are eps relative to xᵀ(K_P + K_H)x in each direction x,
    where a Gram matrix in the original coordinates has eps·σ_1.

    Args:
        primary: factors of D_P, one a pair; pairs of one task may share the object.
        harmful: factors of D_H, of the same D. Directions in which K_H is not contained in
            range(K_P) count from `MIN_DIRECTION_SHARE` of its σ_1 on (a square root, as singular
            values do), or from a thousandth of its smallest non-zero one where that is less.
            Smaller ones stay as they are in θ: they would spoil the condition of W, and
            Algorithm 1 moves them by less than `MIN_DIRECTION_SHARE` of a step.

    Returns:
        The coordinates, in float64 on the factors' device.

    Raises:
        ValueError: for lists of different lengths, or factors of different D.
    """
    if len(primary) != len(harmful) or not primary:
        raise ValueError(
            f"Expected as many factors of D_P as of D_H, at least one. Got {len(primary)} and "
            f"{len(harmful)}."
        )
    if len({factor.basis.shape[0] for factor in [*primary, *harmful]}) != 1:
        raise ValueError("All factors need the same number of features D.")
    # Factors that pairs share are completed once.
    different = {id(factor): factor for factor in primary}
    device = primary[0].basis.device
    complements = dict(
        zip(different, map_streams(_complement, list(different.values()), device), strict=True)
    )
    pairs = list(zip(primary, harmful, strict=True))
    keys = [(id(p), id(h)) for p, h in pairs]
    ranges: dict[tuple[int, int], tuple[JointRange, bool]] = {}
    # One of each pair and its mirror image first, then what that does not settle.
    for mirrored in (False, True):
        wanted = dict(zip(keys, pairs, strict=True))
        for key in keys:
            if key in ranges or (not mirrored and key[::-1] in wanted and key != key[::-1]):
                wanted.pop(key, None)
        computed = map_streams(
            lambda pair: _one(pair[0], pair[1], complements[id(pair[0])]),
            list(wanted.values()),
            device,
        )
        ranges |= zip(wanted, computed, strict=True)
        for key in keys:
            if key not in ranges and key[::-1] in ranges and ranges[key[::-1]][1]:
                ranges[key] = _mirrored(ranges[key[::-1]][0]), True
    parts = [ranges[key][0] for key in keys]
    size = max(part.transform.shape[-1] for part in parts)

    def stacked(name: str, *, rows: bool = False) -> Tensor:
        tensors = [getattr(part, name) for part in parts]
        width = max(t.shape[-1] for t in tensors) if name.startswith("blind") else size
        padded = []
        for tensor in tensors:
            pad = [0, width - tensor.shape[-1]]
            if rows:
                pad += [0, size - tensor.shape[-2]]
            padded.append(torch.nn.functional.pad(tensor, pad))
        return torch.stack(padded)

    return JointRange(
        basis=stacked("basis"),
        transform=stacked("transform", rows=True),
        inverse=stacked("inverse", rows=True),
        primary=stacked("primary"),
        harmful=stacked("harmful"),
        dimensions=torch.cat([part.dimensions for part in parts]),
        blind_primary=stacked("blind_primary", rows=True),
        blind_harmful=stacked("blind_harmful", rows=True),
    )


def _complement(factor: RangeFactor) -> Tensor:
    """An orthonormal basis of what is outside the range, shape (D, D − k)."""
    return torch.linalg.qr(factor.basis, mode="complete").Q[:, factor.rank :]


def _mirrored(joint: JointRange) -> JointRange:
    """The coordinates of a pair with its roles swapped."""
    return JointRange(
        basis=joint.basis,
        transform=joint.transform.flip(-1),
        inverse=joint.inverse.flip(-2),
        primary=joint.harmful.flip(-1),
        harmful=joint.primary.flip(-1),
        dimensions=joint.dimensions,
        blind_primary=joint.blind_harmful,
        blind_harmful=joint.blind_primary,
    )


def _one(primary: RangeFactor, harmful: RangeFactor, complement: Tensor) -> tuple[JointRange, bool]:
    """The coordinates of one pair, without a batch dimension but in ``dimensions``; and whether
    they hold all of range(K_H) too."""
    basis, k_p = primary.basis, primary.rank
    whole = True
    if complement.shape[1]:
        left, stray, _ = svd_of_one(complement.mT @ harmful.matrix)
        values = harmful.singular_values
        faint = torch.minimum(MIN_DIRECTION_SHARE * values[0], 1e-3 * values[-1])
        least = harmful.tolerance * float(values[0])
        outside = stray > faint.clamp(min=least)
        whole = bool((outside | (stray <= least)).all())
        basis = torch.cat([basis, complement @ left[:, outside]], dim=1)
    m = basis.shape[1]
    k_h = min(harmful.rank, m)

    scale_p, scale_h = primary.singular_values[0], harmful.singular_values[0]
    top = (primary.matrix / scale_p).mT @ basis
    seen = basis.mT @ harmful.basis
    low = (seen * (harmful.singular_values / scale_h)).mT
    orthonormal, upper = torch.linalg.qr(torch.cat([top, low]))
    _, rotation = torch.linalg.eigh(orthonormal[:k_p].mT @ orthonormal[:k_p])
    # K_P's share ascends, so K_H's descends; columns tell small shares exactly, eigenvalues not.
    p = (orthonormal[:k_p] @ rotation).square().sum(dim=0)
    p[: m - k_p] = 0
    h = (orthonormal[k_p:] @ rotation).square().sum(dim=0)
    h[k_h:] = 0
    joint = JointRange(
        basis=basis,
        transform=torch.linalg.solve_triangular(upper, rotation, upper=True),
        inverse=rotation.mT @ upper,
        primary=p * scale_p.square(),
        harmful=h * scale_h.square(),
        dimensions=torch.tensor([m], device=basis.device),
        blind_primary=torch.eye(m, dtype=basis.dtype, device=basis.device)[:, k_p:],
        blind_harmful=torch.linalg.qr(seen, mode="complete").Q[:, k_h:],
    )
    return joint, whole
