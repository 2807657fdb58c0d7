"""What a task enters a study as: for a squared-loss probe K = XᵀX = FFᵀ, z = Uᵀy, Uᵀ1 and ‖y‖².

They are computed once, at the edge; methods and attackers take them as padded, batched tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hessian_spectrum import RangeFactor, range_factor
from hessian_spectrum.kernels.svd import robust_svd


@dataclass(frozen=True)
class TaskBatch:
    """One role (D_P or D_H) of a batch of B pairs, padded to the largest rank k.

    Attributes:
        factor: F, shape (B, D, k); columns past the rank are zero.
        basis: V, shape (B, D, k), likewise.
        singular_values: shape (B, k), descending, likewise.
        targets: z = Uᵀy, shape (B, k), likewise.
        target_energy: ‖y‖², shape (B,).
        ones: Uᵀ1, shape (B, k), which centring needs.
        ones_apart: ‖1 − UUᵀ1‖², shape (B,): what of a constant the features do not span.
        mean: of the features as they came, shape (B, D).
        target_sum: Σy of the labels as they came, shape (B,).
        ranks: shape (B,), integer.
        rows: N, shape (B,), as float64.
        tolerances: relative tolerance on singular values of each rank, shape (B,).
        tasks: index of each task in its `TaskSet`.
    """

    factor: Tensor
    basis: Tensor
    singular_values: Tensor
    targets: Tensor
    target_energy: Tensor
    ones: Tensor
    ones_apart: Tensor
    mean: Tensor
    target_sum: Tensor
    ranks: Tensor
    rows: Tensor
    tolerances: Tensor
    tasks: list[int]

    def gram(self) -> Tensor:
        """K = FFᵀ, shape (B, D, D)."""
        return self.factor @ self.factor.mT

    def moment(self) -> Tensor:
        """Xᵀy = Fz, shape (B, D)."""
        return (self.factor @ self.targets[..., None]).squeeze(-1)

    def range_factors(self) -> list[RangeFactor]:
        """The unpadded factor of every pair; pairs of one task share theirs."""
        known: dict[int, RangeFactor] = {}
        for index, task in enumerate(self.tasks):
            if task not in known:
                known[task] = self.range_factor(index)
        return [known[task] for task in self.tasks]

    def range_factor(self, index: int) -> RangeFactor:
        """The unpadded factor of one pair."""
        rank = int(self.ranks[index])
        return RangeFactor(
            basis=self.basis[index, :, :rank],
            singular_values=self.singular_values[index, :rank],
            rank=rank,
            tolerance=float(self.tolerances[index]),
        )


def select_tasks(statistics: dict[str, Tensor], chosen: Tensor, device: str = "cpu") -> TaskBatch:
    """Some of the tasks whose `task_statistics` were stacked, cut to the largest rank."""
    # Each task travels to the device once.
    tasks, places = chosen.unique(return_inverse=True)
    picked = {
        name: tensor[tasks.to(tensor.device)].to(device)[places.to(device)]
        for name, tensor in statistics.items()
    }
    ranks = picked["ranks"]
    width = int(ranks.max())
    basis = picked["basis"][..., :width].contiguous()
    values = picked["singular_values"][:, :width].contiguous()
    return TaskBatch(
        factor=basis * values[:, None, :],
        basis=basis,
        singular_values=values,
        targets=picked["targets"][:, :width].contiguous(),
        target_energy=picked["target_energy"],
        ones=picked["ones"][:, :width].contiguous(),
        ones_apart=picked["ones_apart"],
        mean=picked["mean"],
        target_sum=picked["target_sum"],
        ranks=ranks,
        rows=picked["rows"],
        tolerances=picked["tolerances"],
        tasks=chosen.tolist(),
    )


def task_statistics(
    features: Tensor,
    labels: Tensor,
    tolerance: float | None = None,
    *,
    offset: float = 1.0,
    intercept: bool = False,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """What a task enters a study as: its factor, and labels and ones in the coordinates of it.

    Args:
        features: X, shape (N, D).
        labels: y, shape (N,).
        tolerance: of `range_factor`.
        offset: likewise.
        intercept: whether probes have one. Their best intercept is taken out: K is that of centred
            features, and labels are centred.
        dtype: of `range_factor`.

    Returns:
        Tensors as in `TaskBatch`, without the batch dimension and unpadded.

    Raises:
        ValueError: see `range_factor`.
    """
    (part,) = label_statistics(
        features, [labels], tolerance, offset=offset, intercept=intercept, dtype=dtype
    )
    return part


def label_statistics(
    features: Tensor,
    columns: list[Tensor],
    tolerance: float | None = None,
    *,
    offset: float = 1.0,
    intercept: bool = False,
    dtype: torch.dtype | None = None,
) -> list[dict[str, Tensor]]:
    """`task_statistics` for several columns of labels of the same rows, which are factored once."""
    mean = column_means(features)
    if intercept:
        size = torch.linalg.matrix_norm(features)
        features = features - mean
        left = torch.linalg.matrix_norm(features).clamp_min(torch.finfo(size.dtype).tiny)
        offset = max(offset, float(size / left))
    factor = range_factor(features, tolerance=tolerance, offset=offset, dtype=dtype)
    assert factor.left is not None
    ones = torch.ones(len(features), dtype=torch.float64, device=features.device)
    along = torch.zeros_like(factor.singular_values) if intercept else factor.left.sum(0)
    apart = ones
    if not intercept:
        for _ in range(2):  # twice, so that a small rest keeps its digits
            apart = apart - factor.left @ (factor.left.mT @ apart)
    of_features = {
        "basis": factor.basis,
        "singular_values": factor.singular_values,
        "ones": along,
        "ones_apart": apart.square().sum(),
        "mean": mean,
        "rows": torch.tensor(len(features), dtype=torch.float64, device=features.device),
        "tolerances": torch.tensor(factor.tolerance, dtype=torch.float64, device=features.device),
        "ranks": torch.tensor(factor.rank, device=features.device),
    }
    parts = []
    for labels in columns:
        seen = labels - labels.mean() if intercept else labels
        parts.append(
            of_features
            | {
                "targets": factor.left.mT @ seen,
                "target_energy": seen.square().sum(),
                "target_sum": labels.sum(),
            }
        )
    return parts


def column_means(features: Tensor) -> Tensor:
    """Mean of each column, shape (D,); a constant one's is the constant, to the last bit."""
    low, high = features.amin(dim=0), features.amax(dim=0)
    return torch.where(low == high, low, features.mean(dim=0))


def stack_statistics(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """`task_statistics` of several tasks, padded with zeros to the largest rank."""
    width = max(len(part["singular_values"]) for part in parts)
    padded = ("basis", "singular_values", "targets", "ones")
    return {
        name: torch.stack(
            [
                torch.nn.functional.pad(part[name], (0, width - part[name].shape[-1]))
                if name in padded
                else part[name]
                for part in parts
            ]
        )
        for name in parts[0]
    }


def centred_statistics(task: TaskBatch) -> TaskBatch:
    """The task with its features and labels centred, from statistics alone.

    With X = USVᵀ, m = Uᵀ1 and J = I − 11ᵀ/N the centred features are JX = (JUR⁻¹)(RSVᵀ) with
    R² = UᵀJU = I − mmᵀ/N, and JUR⁻¹ has orthonormal columns.

    One direction goes where the constant is a combination c of features as far as their tolerance
    tells: ‖Xc − 1‖ ≤ tolerance·σ_1·‖c‖ with c = VS⁻¹m.
    """
    length = task.ones.square().sum(-1, keepdim=True)
    unit = task.ones / length.sqrt().clamp_min(torch.finfo(length.dtype).tiny)
    values = task.singular_values
    combination = torch.where(values > 0, task.ones / torch.where(values > 0, values, 1.0), 0.0)
    reach = task.tolerances * values[:, 0] * torch.linalg.vector_norm(combination, dim=-1)
    spanned = (task.ones_apart.sqrt() <= reach)[:, None]
    root = torch.where(spanned, 0.0, task.ones_apart[:, None] / task.rows[:, None]).sqrt()

    def times_r(vectors: Tensor) -> Tensor:  # (B, …, k)
        along = (vectors * unit[:, None]).sum(-1, keepdim=True)
        return vectors - (1 - root)[:, None] * along * unit[:, None]

    labels = task.targets - task.ones * (task.target_sum / task.rows)[:, None]
    along = (labels * unit).sum(-1, keepdim=True)
    inverse = torch.where(spanned, 0.0, 1 / torch.where(spanned, 1.0, root))
    labels = labels + (inverse - 1) * along * unit
    return replace(
        task,
        factor=times_r(task.factor),
        targets=labels,
        ranks=task.ranks - spanned.squeeze(1).to(task.ranks.dtype),
    )


def centred_factors(task: TaskBatch) -> list[RangeFactor]:
    """Range factors of the centred features, which a probe with an intercept has; one a pair.

    Their rank is decided at the tolerance of the features as they came, relative to what those
    were: digits that the mean took do not come back.
    """
    middle = centred_statistics(task)
    known: dict[int, RangeFactor] = {}
    for index, number in enumerate(task.tasks):
        if number in known:
            continue
        rank = int(middle.ranks[index])
        left, values, _ = robust_svd(middle.factor[index][None])
        tolerance = float(task.tolerances[index] * task.singular_values[index, 0] / values[0, 0])
        rank = min(rank, int((values[0] > tolerance * values[0, 0]).sum()))
        known[number] = RangeFactor(left[0, :, :rank], values[0, :rank], rank, tolerance)
    return [known[number] for number in task.tasks]
