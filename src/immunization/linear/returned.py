"""What a component gave back, looked at where it comes back: a plugin's mistake has a message.

The file is named, what is expected, and what was seen.
"""

from __future__ import annotations

import math
import traceback
from typing import Any, NoReturn

import torch
from torch import Tensor

from hessian_spectrum import NotFiniteError
from immunization.linear.attacks._objective import Attack, AttackPlan
from immunization.linear.methods._descent import Immunized
from immunization.runtime.errors import UserError


def _refuse(module: Any, function: str, expected: str, seen: str) -> NoReturn:
    where = getattr(module, "__file__", None) or getattr(module, "__name__", "component")
    raise UserError(f"{where}: {function} should give {expected}. It gave {seen}.")


def _seen(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype} on {value.device}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__module__}.{type(value).__name__} of shape {tuple(value.shape)}"
    return "None (is there a `return`?)" if value is None else type(value).__name__


def _tensor(
    module: Any, function: str, what: str, value: Any, shape: tuple[int, ...], like: Tensor
) -> None:
    dtype = str(like.dtype).removeprefix("torch.")
    expected = f"{what}, a tensor of shape {shape}, {dtype} on {like.device}"
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        _refuse(module, function, expected, _seen(value))
    if value.dtype != like.dtype or value.device != like.device:
        _refuse(module, function, expected, _seen(value))


def call(module: Any, function: str, *arguments: Any) -> Any:
    """Call a function of a component; an error in a file that is not ours becomes a message.

    Raises:
        UserError: naming the file, the line and the error.
    """
    called = getattr(module, function)
    if str(getattr(module, "__name__", "")).startswith("immunization."):
        return called(*arguments)
    try:
        return called(*arguments)
    except (UserError, NotFiniteError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        file = getattr(module, "__file__", "component")
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        where = f"{file}, line {lines[-1]}" if lines else file
        raise UserError(f"{where}: {function} failed ({type(error).__name__}: {error}).") from error


def check_theta(module: Any, returned: Any, pairs: int, factor: Tensor) -> Immunized:
    """θ of a method, as `Immunized`.

    Args:
        module: of the method.
        returned: by its ``immunize``.
        pairs: B.
        factor: of the pairs, shape (B, D, k), with the dtype and device that θ should have.

    Raises:
        UserError: for anything but θ of that shape, dtype and device. Values that are not finite
            are left to the caller, who knows the pair, and θ = 0 to the verdict (destroyed).
    """
    immunized = returned if isinstance(returned, Immunized) else Immunized(returned)
    dimension = factor.shape[1]
    shape = pairs, dimension, dimension
    _tensor(module, "immunize", "θ for each pair", immunized.theta, shape, factor)
    return immunized


def check_attack(module: Any, outcome: Any, plan: AttackPlan, weights: Tensor) -> Attack:
    """Outcome of an attacker that takes steps.

    Args:
        module: of the attacker.
        outcome: of its ``attack``.
        plan: what it was asked to run.
        weights: where it starts, shape (M, G, k).

    Raises:
        UserError: for anything but an `Attack` of the shapes that the plan asks for.
    """
    if not isinstance(outcome, Attack):
        _refuse(module, "attack", "an Attack(steps, gaps, distances, weights)", _seen(outcome))
    problems, attackers, width = weights.shape
    counts = torch.zeros(1, dtype=torch.int64, device=weights.device)
    record = len(plan.record)
    _tensor(module, "attack", "steps", outcome.steps, (problems, attackers), counts)
    for name in ("gaps", "distances"):
        value = getattr(outcome, name)
        _tensor(module, "attack", name, value, (problems, attackers, record), weights)
    if plan.keep:
        shape = (problems, attackers, record, width)
        _tensor(module, "attack", "weights at the recorded steps", outcome.weights, shape, weights)
    return outcome


def check_flops(module: Any, given: Any) -> tuple[float, float]:
    """Operations of set-up and of a step.

    Raises:
        UserError: for anything but two finite numbers that are not negative.
    """
    try:
        setup, each = (float(value) for value in given)
    except (TypeError, ValueError):
        _refuse(module, "flops", "two numbers, of set-up and of a step", _seen(given))
    if not (math.isfinite(setup) and math.isfinite(each) and setup >= 0 and each >= 0):
        _refuse(module, "flops", "two finite numbers", f"{setup}, {each}")
    return setup, each


def check_scores(module: Any, scores: Any, labels: Tensor) -> Tensor:
    """Scores of held-out rows by an attacker that predicts.

    Raises:
        UserError: for anything but a tensor of the shape of the labels.
    """
    _tensor(module, "predict", "scores of held-out rows", scores, tuple(labels.shape), labels)
    checked: Tensor = scores
    return checked
