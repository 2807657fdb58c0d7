"""Load and check one data set.

python -m immunization.stages.prepare results/default/study.json digits
"""

from __future__ import annotations

from immunization.runtime.jobs.command import run_command
from immunization.stages._skeleton import Command

main = Command(
    "prepare",
    "Load and check one data set.",
    {"linear": ("datasets",), "networks": ("datasets",)},
    module="prepare",
).main

if __name__ == "__main__":
    run_command(main)
