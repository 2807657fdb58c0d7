"""The linear-probe sweep on cached features against its members one by one through a DataLoader.

    python benchmarks/probe_sweep.py [--rows 6114 --width 512 --classes 196 --device cuda]

The alternative is what a script does for one learning rate: `torch.nn.Linear`, an optimiser of
torch, a shuffled DataLoader over the same features, a loop over its batches, and accuracies after
the same steps. A few of the members are run that way, on the same features, and their time is
multiplied up to all of them (they cost alike; the spread is printed). Features are made up: cost
does not depend on what they hold.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from immunization.networks.attacks._victim import recorded_steps
from immunization.networks.probe_sweep import REPAIRS, Grid, repair, sweep

SGD = [0.1, 0.3, 1.0, 3.0, 10.0]
ADAM = [0.0003, 0.001, 0.003, 0.01, 0.03]
FRACTIONS = [1.0, 0.3, 0.1]


def one_by_one(
    features: Tensor, labels: Tensor, test: Tensor, answers: Tensor, classes: int, grid: Grid,
    member: int,
) -> list[float]:  # fmt: skip
    """Accuracies of one member, as most scripts would train it."""
    device = test.device
    probe = nn.Linear(features.shape[1], classes).to(device)
    name, rate = grid.names[member]
    if name == "sgd":
        moment = (features.T @ features / len(features)).double()
        rate /= 0.5 * float(torch.linalg.matrix_norm(moment, 2))
        optimiser: torch.optim.Optimizer = torch.optim.SGD(
            probe.parameters(), lr=rate, momentum=0.9, nesterov=True
        )
    else:
        optimiser = torch.optim.Adam(probe.parameters(), lr=rate)
    data = torch.utils.data.TensorDataset(features.cpu(), labels.cpu())
    loader = torch.utils.data.DataLoader(
        data, batch_size=grid.batch, shuffle=True, drop_last=len(data) >= grid.batch
    )
    found, step = [], 0
    while step < grid.steps:
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            loss = nn.functional.cross_entropy(probe(inputs), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            if step in grid.records:
                with torch.no_grad():
                    found.append(float((probe(test).argmax(1) == answers).double().mean()))
            if step == grid.steps:
                break
    return found


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6114)
    parser.add_argument("--test-rows", type=int, default=2030)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=196)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=720)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--sample", type=int, default=4, help="members run one by one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    device = torch.device(options.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    grid = Grid(SGD, ADAM, [], options.steps, options.batch, recorded_steps(options.steps))
    groups, labels, tests = [], [], []
    answers = torch.randint(options.classes, (options.test_rows,), generator=generator).to(device)
    for _ in range(options.seeds):
        every = torch.randn(options.rows, options.width, generator=generator).relu().to(device)
        own = torch.randint(options.classes, (options.rows,), generator=generator).to(device)
        test = torch.randn(options.test_rows, options.width, generator=generator).to(device)
        for fraction in FRACTIONS:
            count = int(fraction * options.rows)
            for kind in REPAIRS:
                change = repair(every[:count], kind)
                groups.append(change(every[:count]))
                tests.append(change(test))
                labels.append(own[:count])

    def ours() -> float:
        began = time.perf_counter()
        found, _ = sweep(groups, labels, tests, answers, options.classes, grid, ("benchmark",))
        float(found.sum())  # waits for the device
        return time.perf_counter() - began

    small = Grid(SGD, ADAM, [], 5, options.batch, [5])
    sweep(groups, labels, tests, answers, options.classes, small, ("warm",))
    together = statistics.median(ours() for _ in range(3 if device.type == "cuda" else 1))
    members = len(groups) * len(grid.names)
    warm = Grid(SGD, ADAM, [], 20, options.batch, [20])
    one_by_one(groups[0], labels[0], tests[0], answers, options.classes, warm, 0)
    times = []
    for place in range(options.sample):
        # Spread over groups and members.
        group = place * len(groups) // options.sample
        member = place * len(grid.names) // options.sample
        began = time.perf_counter()
        one_by_one(
            groups[group], labels[group], tests[group], answers, options.classes, grid, member
        )
        times.append(time.perf_counter() - began)
    alone = statistics.mean(times) * members
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    products = 4 * len(groups) * options.batch * (options.width + 1) * options.classes
    operations = products * len(grid.names) * options.steps
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{members} probes of {options.steps} steps, batch {options.batch}")
    print(f"one tensor program: {together:.2f} s, {operations / together / 1e12:.1f} TFLOP/s")
    print(
        f"one by one through a DataLoader: {statistics.mean(times):.2f} s each "
        f"({min(times):.2f} to {max(times):.2f}, {len(times)} run), {alone:.0f} s for all"
    )
    print(f"ratio: {alone / together:.0f}")
    if options.json:
        record = {
            "command": " ".join(["python", *sys.argv]), "device": name,
            "torch": torch.__version__, "members": members, "steps": grid.steps,
            "batch": grid.batch, "together_s": together, "one_by_one_s": times,
            "all_one_by_one_s": alone, "ratio": alone / together, "operations": operations,
        }  # fmt: skip
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
