"""Thin singular value decompositions that keep small singular values, on either device."""

from __future__ import annotations

import torch
from torch import Tensor

from hessian_spectrum.kernels.cuda_streams import map_streams


def robust_svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD of a batch, by a slower algorithm where the fast one gives up.

    LAPACK's divide and conquer (gesdd), which torch uses on a CPU, sometimes fails on spectra
    that fall through twelve or more orders of magnitude; QR iteration (gesvd) takes those. On a
    GPU see `svd_of_one`; several matrices are decomposed at a time there.

    Args:
        matrices: shape (B, m, n).

    Returns:
        U, σ (descending) and Vᵀ, as `torch.linalg.svd` with ``full_matrices=False``.
    """
    if not matrices.is_cuda:
        try:
            return tuple(torch.linalg.svd(matrices, full_matrices=False))
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            pass
    parts = map_streams(svd_of_one, list(matrices), matrices.device)
    left, values, right = (torch.stack(part) for part in zip(*parts, strict=True))
    return left, values, right


def svd_of_one(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD of one matrix, shape (m, n); see `robust_svd`.

    On a GPU by one-sided Jacobi rotations, which tell small singular values best, after the
    eigenvectors of XXᵀ have made the rows nearly orthogonal. That leaves few sweeps: 15 ms on an
    H100 for 640 × 784 in place of 53, and 8 with several at a time.
    """
    if matrix.is_cuda:
        if matrix.shape[0] > matrix.shape[1]:
            left, values, right = svd_of_one(matrix.mT)
            return right.mT, values, left.mT
        _, rotation = torch.linalg.eigh(matrix @ matrix.mT)
        rotation = rotation.flip(-1)
        turned = rotation.mT @ matrix
        # cuSOLVER's gesvdj; where that does not converge torch takes gesvd, and warns.
        left, values, right = torch.linalg.svd(turned, full_matrices=False)
        return rotation @ left, values, right
    try:
        return tuple(torch.linalg.svd(matrix, full_matrices=False))
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        import scipy.linalg

        factors = scipy.linalg.svd(matrix.numpy(), full_matrices=False, lapack_driver="gesvd")
        left, values, right = (torch.from_numpy(part) for part in factors)
        return left, values, right
