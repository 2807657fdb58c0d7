"""What a released network withstands: steps to a held-out accuracy, best attacker against best.

Pure functions on the curves of the attack stage. The goal of an attacker is a share of the best
accuracy that attackers of its kind reach without immunization; a run that never gets there is
censored at its last step.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from immunization.reporting.intervals_and_verdicts import interval, verdict

PLACE = ["network", "harmful", "task", "role"]
ATTACKER_KINDS = {"linear_probe": "linear probe", "scratch": "from scratch"}
FINE = "fine-tuning"
TIMES = ["steps", "censored", "fastest", "accuracy", "goal"]
SLOWDOWNS = [
    "steps", "reference_steps", "accuracy", "accuracy_std", "reference_accuracy", "goal",
    "slowdown", "ci_low", "ci_high", "is_lower_bound", "verdict", "fastest", "seeds",
]  # fmt: skip


def attacker_kind(use: str) -> str:
    """The kind of an attacker; attackers are compared within a kind, whose steps cost the same."""
    return ATTACKER_KINDS.get(use, FINE)


def full_data_tuned(curves: pd.DataFrame) -> pd.DataFrame:
    """Tuned attackers who have all images."""
    return curves[(curves["fraction"] == 1) & curves["tuned"].astype(bool)]


def steps_to(steps: np.ndarray, accuracies: np.ndarray, goal: float) -> tuple[float, bool]:
    """Steps until an accuracy is reached, and whether it never was.

    Between two records the crossing is taken on a straight line over the logarithm of the step.

    Args:
        steps: recorded, ascending.
        accuracies: there.
        goal: wanted.
    """
    there = np.flatnonzero(accuracies >= goal)
    if not len(there):
        return float(steps[-1]), True
    place = int(there[0])
    if place == 0:
        return float(steps[0]), False
    low, high = accuracies[place - 1], accuracies[place]
    share = (goal - low) / (high - low)
    logs = np.log(steps[[place - 1, place]].astype(float))
    return float(np.exp(logs[0] + share * (logs[1] - logs[0]))), False


def largest_share_tuned(curves: pd.DataFrame) -> pd.DataFrame:
    """Tuned attackers, each with the largest share of the images that it has anywhere."""
    most = curves.groupby("attack")["fraction"].transform("max")
    return curves[(curves["fraction"] == most) & curves["tuned"].astype(bool)]


def best_accuracy(curves: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Highest accuracy at any record and by any member, by the keys and seed, then the mean."""
    top = curves.groupby([*keys, "seed"])["accuracy"].max()
    return top.groupby(keys).mean()


def with_goal(curves: pd.DataFrame, uses: dict[str, str], target: float, by: str) -> pd.DataFrame:
    """Adds ``attacker_kind`` and ``goal``.

    Args:
        curves: of tuned attackers with all images.
        uses: files that labels of attackers stand for.
        target: share of the reference's best accuracy.
        by: column that attackers share a goal in, ``attack`` or ``attacker_kind``.
    """
    curves = curves.assign(attacker_kind=curves["attack"].map(uses).map(attacker_kind))
    reference = curves[curves["method"] == "identity"]
    keys = ["network", "task", by]
    goal = target * best_accuracy(reference, keys)
    wanted = goal.reindex(pd.MultiIndex.from_frame(curves[keys])).to_numpy()
    return curves.assign(goal=wanted)


def steps_to_goal(curves: pd.DataFrame, by: str) -> pd.DataFrame:
    """Steps of the fastest member to the goal, one row a (place, method, seed, `by`).

    A control runs once for all methods and stays with the reference.
    """
    keys = [*PLACE, "method", "seed", by]
    if curves.empty:
        return pd.DataFrame(columns=[*keys, *TIMES])
    groups = curves.groupby(keys, sort=False).ngroup().to_numpy()
    run_keys = list(dict.fromkeys([*keys, "attack", "member"]))
    runs = curves.groupby(run_keys, sort=False).ngroup().to_numpy()
    names = ("step", "accuracy", "goal", "attack", "member")
    step, accuracy, goal, attack, member = (curves[name].to_numpy() for name in names)
    tops = pd.Series(accuracy).groupby(runs).max().to_numpy()
    # In plain arrays: a study has thousands of runs of a dozen records each.
    attempts: dict[int, list[tuple[float, bool, str, str, float]]] = {}
    order = np.lexsort((step, runs))
    for places in np.split(order, 1 + np.flatnonzero(np.diff(runs[order]))):
        one = places[0]
        attempts.setdefault(groups[one], []).append(
            (*steps_to(step[places], accuracy[places], goal[one]), attack[one], member[one],
             tops[runs[one]])
        )  # fmt: skip
    rows: list[dict[str, object]] = []
    for number, group in enumerate(curves.drop_duplicates(keys)[keys].itertuples(index=False)):
        reached = [attempt for attempt in attempts[number] if not attempt[1]]
        best = [attempt[-1] for attempt in attempts[number]]
        if reached:
            steps, censored, *fastest, _ = min(reached)
        else:  # the one that came nearest, and the largest budget
            steps, censored = max(attempts[number])[:2]
            fastest = list(attempts[number][int(np.argmax(best))][2:4])
        rows.append(
            dict(zip(keys, group, strict=True))
            | {
                "steps": steps, "censored": censored, "fastest": ": ".join(fastest),
                "accuracy": np.fmax.reduce(best), "goal": goal[groups == number][0],
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=[*keys, *TIMES])


def slowdowns(times_: pd.DataFrame, by: str) -> pd.DataFrame:
    """Slowdown of each method over the reference: geometric mean over seeds and its 95 % interval.

    Args:
        times_: of `steps_to_goal`.
        by: as there.

    Returns:
        One row a (place, method, `by`): steps and accuracy (means), slowdown, low, high, bound,
        verdict, and the fastest attacker of the first seed.
    """
    reference = times_[times_["method"] == "identity"]
    base = reference.set_index(["network", "task", "seed", by])
    base = base[~base.index.duplicated()]
    rows = []
    for group, part in times_.groupby([*PLACE, "method", by], sort=False):
        place = dict(zip([*PLACE, "method", by], group, strict=True))
        index = pd.MultiIndex.from_frame(part[["network", "task", "seed", by]])
        before = base.reindex(index)
        known = ~before["censored"].fillna(True).astype(bool).to_numpy()
        ratio = part["steps"].to_numpy() / before["steps"].to_numpy(float)
        bound = bool(part["censored"].any())
        if known.all() and len(ratio):
            middle, low, high = interval(np.maximum(ratio, 1e-12))
        else:
            middle = low = high = float("nan")
        rows.append(
            place
            | {
                "steps": part["steps"].mean(),
                "reference_steps": before["steps"].mean(),
                "accuracy": part["accuracy"].mean(),
                "accuracy_std": part["accuracy"].std(ddof=1),
                "reference_accuracy": before["accuracy"].mean(),
                "goal": part["goal"].mean(),
                "slowdown": middle,
                "ci_low": low,
                "ci_high": high,
                "is_lower_bound": bound,
                "verdict": "reference"
                if place["method"] == "identity"
                else verdict(middle, low, part["censored"].astype(float).tolist(), bound=bound),
                "fastest": part["fastest"].iloc[0],
                "seeds": len(part),
            }
        )
    return pd.DataFrame(rows, columns=[*PLACE, "method", by, *SLOWDOWNS])


def best_against_best(curves: pd.DataFrame, uses: dict[str, str], target: float) -> pd.DataFrame:
    """Slowdowns of the fastest attacker of each kind, who share a goal."""
    tuned = with_goal(full_data_tuned(curves), uses, target, "attacker_kind")
    tuned = tuned[tuned["attacker_kind"] != ATTACKER_KINDS["scratch"]]
    return slowdowns(steps_to_goal(tuned, "attacker_kind"), "attacker_kind")


def plain_sgd(curves: pd.DataFrame, uses: dict[str, str], target: float) -> pd.DataFrame:
    """Slowdown on D_H of SGD on unrepaired features, the attacker that the paper has in mind, with
    a goal of its own."""
    tuned = full_data_tuned(curves)
    probe = tuned["attack"].map(uses) == "linear_probe"
    naive = tuned["member"].str.startswith("sgd") & tuned["member"].str.endswith(", none")
    tuned = tuned[probe & naive & (tuned["role"] == "H")]
    return slowdowns(
        steps_to_goal(with_goal(tuned, uses, target, "attacker_kind"), "attacker_kind"),
        "attacker_kind",
    )
