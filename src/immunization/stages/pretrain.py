"""Train one network on D_P, or load its weights.

python -m immunization.stages.pretrain results/deepnets/study.json resnet18
"""

from __future__ import annotations

from immunization.runtime.jobs.command import run_command
from immunization.stages._skeleton import Command

main = Command(
    "pretrain",
    "Train one network on D_P, or load its weights.",
    {"networks": ("networks",)},
    module="pretrain",
).main

if __name__ == "__main__":
    run_command(main)
