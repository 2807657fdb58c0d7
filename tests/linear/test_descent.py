"""The loop that methods share: records, the stopping rule, and what a trajectory says."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from immunization.linear.evaluation import report_role
from immunization.linear.methods import alg1
from immunization.linear.methods._descent import (
    MIN_STEPS_TO_CONVERGE,
    ExtremeEigenvalues,
    Iteration,
    descend,
    record_steps,
    start_of,
)
from immunization.linear.methods._joint_step import JointAlgorithm, joint_of
from immunization.linear.methods._task_loss import TaskLoss
from immunization.study.components import import_component

from .conftest import defaults
from .test_methods import literal_algorithm_1


@given(st.integers(1, 10**5))
def test_records_start_at_0_end_at_the_last_step_and_grow_by_half(last):
    steps = record_steps(last)
    assert steps[0] == 0
    assert steps[-1] == last
    assert steps == sorted(set(steps))
    for before, after in pairwise(steps[1:-1]):
        assert after <= max(before + 1, round(1.5 * before))


class Known(Iteration):
    """log κ(H_H) of pair b goes up by 1 until step ends[b], and stays there."""

    def __init__(self, problem, ends):
        self.pairs = torch.arange(problem.size)
        self._ends = torch.tensor(ends, dtype=torch.float64)
        self._step = 0

    def step(self):
        self._step += 1

    def extractor(self):
        return torch.full((len(self.pairs), 9, 9), float(self._step), dtype=torch.float64)

    def ends(self):
        height = 0.1 * self._ends.clamp(max=self._step)
        one = torch.ones_like(height)
        return ExtremeEigenvalues(one, one / 2, one), ExtremeEigenvalues(
            height.exp(), one, height.exp().square()
        )


def test_a_pair_stops_where_it_is_calm_twice_in_a_row_and_keeps_that_theta(digit):
    problem = digit.problem(0)
    ends = [0.0, 5.0, 40.0, 1000.0] * 3
    found = descend(problem, [lambda: Known(problem, ends)], steps=300, stop=0.01)
    steps = record_steps(300)
    for pair, end in enumerate(ends):
        # The first record past both bounds whose last two changes were none.
        calm = [
            step
            for before, step, place in zip(steps, steps[1:], range(1, len(steps)), strict=False)
            if step > MIN_STEPS_TO_CONVERGE
            and min(end, before) == end
            and min(end, steps[place - 2]) == end
        ]
        expected = calm[0] if calm else 300
        assert (found.theta[pair] == expected).all(), (pair, end)
        stopped = [record.step for record in found.records if pair in record.pairs.tolist()]
        assert stopped[-1] == expected
    assert found.records[-1].step == 300


def test_without_a_criterion_every_step_is_taken(digit):
    problem = digit.problem(0)
    found = descend(problem, [lambda: Known(problem, [0.0] * 12)], steps=50, stop=None)
    assert (found.theta == 50).all()
    assert not any(record.converged.any() for record in found.records)


@pytest.mark.parametrize(
    ("name", "given_"),
    [("alg1", {"profile": "paper"}), ("alg1", {"profile": "corrected"}), ("r_ill_only", {}),
     ("opt_kappa", {"clip": True}), ("imma", {}), ("multiplicative", {})],
)  # fmt: skip
def test_a_trajectory_says_what_the_extractor_of_that_step_has(name, given_, digit):
    problem = digit.problem(0)
    method = import_component("linear/methods", name)
    found = method.immunize(problem, defaults("methods", name, steps=9, **given_))
    for record in found.records[:: max(1, len(found.records) - 1)]:
        if record.step == 0:
            theta = problem.identity()
        else:
            parameters = defaults("methods", name, steps=record.step, **given_)
            theta = method.immunize(problem, parameters).theta
        for role, task in (("p", problem.primary), ("h", problem.harmful)):
            kappa = report_role(task, theta, ridge=1e-6).kappa
            seen = record.columns[f"log_kappa_{role}"]
            resolved = torch.isfinite(seen)
            expected = kappa.log()[record.pairs]
            torch.testing.assert_close(seen[resolved], expected[resolved], rtol=0, atol=2e-3)
            assert (expected[~resolved] > 25).all()


def test_recorded_regularizers_and_loss_are_those_of_dense_matrices(digit):
    problem = digit.problem(0)
    joint = joint_of(problem)
    pairs = torch.tensor([2, 7, 0])
    state = JointAlgorithm(problem, joint, pairs, eta=0.005)
    for _ in range(4):
        state.step()
    theta, primary = state.extractor(), problem.primary.gram()[pairs]
    size = joint.select(pairs).primary.shape[-1]
    probe = (state._right @ state._state[:, -1, : state._right.shape[-1], None]).squeeze(-1)
    assert size <= 9
    loss = TaskLoss.of(problem.primary)
    some = TaskLoss(*(part[pairs] for part in loss))
    torch.testing.assert_close(state.task_loss(), some.value(theta, probe))
    hessian = theta.mT @ primary @ theta
    ends, _ = state.ends()
    torch.testing.assert_close(ends.largest, torch.linalg.eigvalsh(hessian)[:, -1])
    torch.testing.assert_close(ends.square, hessian.square().sum((1, 2)))


@pytest.mark.parametrize("pair", [1, 8])
def test_a_random_start_is_that_of_algorithm_1_line_by_line(digit, pair):
    problem = digit.problem(0)
    ours = alg1.paper(problem, eta=0.005, steps=6, start="random").theta[pair]
    start = start_of(problem, "random")[pair]
    assert (start - torch.eye(9, dtype=torch.float64)).abs().max() > 0.1
    expected = literal_algorithm_1(problem, pair, 0.005, 6, start=start)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)


def test_balance_weighs_the_harmful_term(digit):
    problem = digit.problem(0)
    for profile in (alg1.paper, alg1.corrected):
        logs = []
        for balance in (0.3, 1.0, 3.0):
            found = profile(problem, eta=0.005, steps=10, balance=balance)
            logs.append(float(found.records[-1].columns["log_kappa_h"].median()))
        assert logs == sorted(logs)
        assert math.isfinite(logs[-1])
