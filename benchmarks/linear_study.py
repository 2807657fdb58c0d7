"""The paper's linear study on all 90 MNIST pairs: every method and seed, timed through the stage.

    python benchmarks/linear_study.py --data FOLDER --device cuda
    python benchmarks/linear_study.py --data FOLDER --methods alg1_paper --seeds 1 --steps 100 \\
        --threads 2 --straight 1

Times are of computing θ, its trajectory and its way back to the host; reading data and writing
files are not in it. The floor of a method is what its matrix products and factorisations take at
the rate of a large product here; for `released`, what its parameters take to move through memory.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from algorithm1_step import Straightforward
from timing import keep_freed_memory, record, seconds

from immunization.data.download import Place
from immunization.linear.immunize import immunize
from immunization.linear.methods import alg1
from immunization.linear.methods._joint_step import JointAlgorithm, joint_of
from immunization.linear.tasks import Problem, TaskSet
from immunization.runtime.threads import limit_torch_to_one_thread
from immunization.study.components import import_component

RELEASED_EPOCH = 37.0
"""Seconds an epoch and pair of the released program on one H200, as measured for this project."""
RELEASED_EPOCHS = 30


def settings(path: str | None) -> dict[str, Any]:
    """The checked config of the paper's study."""
    if path:
        loaded: dict[str, Any] = json.loads(Path(path).read_text())["config"]
        return loaded
    import yaml

    from immunization.study.resolve import resolve

    return resolve(yaml.safe_load(Path("config/paper.yaml").read_text()))


def rates(device: str) -> tuple[float, float]:
    """Operations a second of a batched product of the study's size, bytes a second of a copy."""
    count = 90 if device == "cuda" else 8
    a = torch.randn(count, 640, 640, dtype=torch.float64, device=device)
    b = torch.empty_like(a)
    torch.bmm(a, a, out=b)
    b.copy_(a)
    rounds = 10 if device == "cuda" else 2
    product = min(seconds(lambda: torch.bmm(a, a, out=b), device) for _ in range(rounds))
    copy = min(seconds(lambda: b.copy_(a), device) for _ in range(rounds))
    return 2 * count * 640**3 / product, 16 * a.numel() / copy


def floor(use: str, parameters: dict[str, Any], problem: Problem, rate: tuple[float, float]) -> Any:
    """Seconds a step on all pairs of a problem cannot be under, or None where none is counted."""
    d, count = float(problem.dimension), problem.size
    k_p, k_h = (float(task.ranks.double().mean()) for task in (problem.primary, problem.harmful))
    profile = parameters.get("profile")
    if profile == "paper":
        m = float(joint_of(problem).dimensions.double().mean())
        work = 4 * m**3 + m**3 / 3
    elif profile == "released":
        # W, its two moments and its gradient: seven ways of Adam and two of the products.
        return 9 * 8 * d * d * count / rate[1]
    elif profile == "corrected":
        work = 8 * d**3 + 4 * k_h * d * d + 2 * k_h**2 * d + k_h**3 / 3
    elif use == "r_ill_only":
        work = 8 * k_h * d * d + 2 * k_h**2 * d + k_h**3 / 3
    elif use == "opt_kappa":
        work = sum(2 * k * d * d + 2 * k * k * d + k**3 / 3 for k in (k_p, k_h))
    elif use == "imma":
        work = 4 * d**3
    elif use == "multiplicative":
        work = 6 * d**3
    else:
        return None
    return work * count / rate[0]


def steps_of(use: str, parameters: dict[str, Any], problem: Problem, rows: Any) -> float:
    """Steps that one seed took."""
    if parameters.get("profile") == "released":
        tasks = problem.source.tasks
        sizes = [
            min(len(tasks[p].train_rows), len(tasks[h].train_rows)) // 64
            for p, h in zip(problem.primary.tasks, problem.harmful.tasks, strict=True)
        ]
        return parameters["epochs"] * sum(sizes) / len(sizes)
    return float(rows["step"].max()) if len(rows) else 0.0


def split(problem: Problem, steps: int, rate: tuple[float, float]) -> dict[str, float]:
    """Where Algorithm 1 spends its seconds: parts that are timed by themselves, and the rest."""
    device = problem.primary.factor.device.type
    found: dict[str, float] = {}

    def whole() -> None:
        problem.source.shared.pop("joint", None)
        alg1.paper(problem, eta=0.005, steps=steps)

    whole()
    found["whole"] = min(seconds(whole, device) for _ in range(3))
    problem.source.shared.pop("joint", None)
    found["joint coordinates"] = seconds(lambda: joint_of(problem), device)
    joint = joint_of(problem)
    start: list[JointAlgorithm] = []
    pairs = torch.arange(problem.size)
    found["start"] = seconds(
        lambda: start.append(JointAlgorithm(problem, joint, pairs, eta=0.005)), device
    )
    state = start[0]
    for _ in range(20):
        state.step()

    def products() -> None:
        for _ in range(20):
            torch.bmm(state._state, state._state.mT, out=state._product)
            torch.bmm(state._state, state._state, out=state._spare)

    products()
    found["two products"] = seconds(products, device) / 20 * steps

    def loop() -> None:
        for _ in range(50):
            state.step()

    found["steps"] = seconds(loop, device) / 50 * steps

    def extremes() -> None:
        for _ in range(20):
            state._extremes(product)

    product = state._state @ state._state.mT
    extremes()
    found["extreme eigenpairs"] = seconds(extremes, device) / 20 * steps
    spent = found["two products"] + found["extreme eigenpairs"]
    found["update, projectors"] = max(0.0, found["steps"] - spent)
    found["trajectory and the rest"] = max(
        0.0, found["whole"] - found["joint coordinates"] - found["start"] - found["steps"]
    )
    m = joint.dimensions.double()
    found["floor"] = float((4 * m**3 + m**3 / 3).sum()) * steps / rate[0]
    return found


class Run:
    """One method on all pairs and seeds; keeps what came out."""

    def __init__(
        self, label: str, use: str, parameters: Any, tasks: TaskSet, options: argparse.Namespace
    ) -> None:
        self._arguments = label, import_component("linear/methods", use), parameters, tasks
        self._options = options
        self.found: Any = None

    def __call__(self) -> None:
        self.found = immunize(*self._arguments, self._options.device, self._options.threads)


def draw(figures: dict[str, Any], path: Path) -> None:
    """The time split of Algorithm 1, and every method against its floor."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 3.9), layout="constrained", width_ratios=(1, 1.5)
    )
    parts = figures["split"]
    names = [
        "joint coordinates", "start", "two products", "extreme eigenpairs", "update, projectors",
        "trajectory and the rest",
    ]  # fmt: skip
    bottom = 0.0
    for name in names:
        left.bar([0], [parts[name]], bottom=bottom, label=f"{name}, {parts[name]:.2f} s", width=0.5)
        bottom += parts[name]
    left.bar(
        [1], [parts["floor"]], color="#777777", label=f"floor, {parts['floor']:.2f} s", width=0.5
    )
    left.set(
        xticks=[0, 1], xticklabels=["ours", "float64 floor"], ylabel="seconds", xlim=(-0.5, 1.5),
        title=f"Algorithm 1, 90 pairs × {figures['split_steps']} steps",
    )  # fmt: skip
    left.legend(fontsize=7, frameon=False)
    rows = figures["methods"]
    labels = list(rows)[::-1]
    right.barh(labels, [rows[name]["seconds"] for name in labels], color="#0072B2", label="ours")
    right.barh(
        labels, [rows[name]["floor"] or 0 for name in labels], color="#E69F00", height=0.4,
        label="float64 floor",
    )  # fmt: skip
    for place, name in enumerate(labels):
        share = rows[name]["floor_share"]
        told = f" {rows[name]['seconds']:.1f} s" + (f", floor {share:.0%}" if share else "")
        right.text(rows[name]["seconds"], place, told, va="center", fontsize=7)
    right.set(
        xlabel="seconds", title=f"all methods, 90 pairs × {figures['seeds']} seeds",
        xlim=(0, 1.3 * max(row["seconds"] for row in rows.values())),
    )  # fmt: skip
    right.tick_params(labelsize=7)
    right.legend(fontsize=7, frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main() -> None:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="mirror with mnist/")
    parser.add_argument(
        "--study", help="study.json of the paper's study; default config/paper.yaml"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--methods", nargs="+", help="labels; default all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, help="in place of the study's cap")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--straight", type=int, default=0, help="straightforward steps, all pairs")
    options = parser.parse_args()
    keep_freed_memory()
    limit_torch_to_one_thread()
    study = settings(options.study)
    entry = study["datasets"]["mnist"]
    source = import_component("linear/datasets", entry["source"]).load(
        entry["parameters"], Place(options.data, Path(".cache/data"))
    )
    seeds = list(range(options.seeds))
    tasks: TaskSet = source.build("mnist", entry["parameters"], seeds)
    problem = tasks.problem(0, options.device)
    rate = rates(options.device)
    figures: dict[str, Any] = {
        "seeds": options.seeds,
        "gflops": rate[0] / 1e9,
        "bytes_a_second": rate[1],
        "methods": {},
    }
    for label in options.methods or list(study["methods"]):
        use = study["methods"][label]["use"]
        parameters = dict(study["methods"][label]["parameters"]["mnist"])
        if options.steps:
            parameters["steps"] = options.steps
        run = Run(label, use, parameters, tasks, options)
        took = seconds(run, options.device)
        thetas, _, rows, _ = run.found
        steps = steps_of(use, parameters, problem, rows)
        each = floor(use, parameters, problem, rate)
        least = each * steps * len(thetas) if each else None
        figures["methods"][label] = {
            "seconds": took,
            "seeds_computed": len(thetas),
            "steps": steps,
            "floor": least,
            "floor_share": least / took if least else None,
        }
        print(f"{label}: {took:.1f} s, {len(thetas)} of {len(seeds)} seeds computed, {steps:.0f} "
              f"steps" + (f", floor {least:.1f} s ({least / took:.0%})" if least else ""),
              flush=True)  # fmt: skip
        del thetas, run
    figures["total"] = sum(row["seconds"] for row in figures["methods"].values())
    print(f"all: {figures['total']:.1f} s")
    if options.straight:
        tasks.shared.clear()
        members = tasks.members(0)
        each_pair = [Straightforward(tasks.batch([m], options.device), 0) for m in members]

        def slow() -> None:
            for form in each_pair:
                for _ in range(options.straight):
                    form.step()

        torch.set_num_threads(options.threads)
        took = seconds(slow, options.device) / options.straight
        figures["straightforward_step"] = took
        wanted = options.steps or 100
        print(f"straightforward: {took:.1f} s a step, {took * wanted / 60:.1f} min for {wanted}")
    if options.device == "cuda":
        figures["split_steps"] = 200
        figures["split"] = split(problem, 200, rate)
        print(json.dumps(figures["split"], indent=1))
        released = RELEASED_EPOCH * RELEASED_EPOCHS * problem.size
        figures["released_ratio"] = released / figures["split"]["whole"]
        print(f"released program: {released:.0f} s; {figures['released_ratio']:.0f} ×")
        draw(figures, Path("docs/images/time_split.png"))
    record(f"linear_study.{options.device}", figures)


if __name__ == "__main__":
    main()
