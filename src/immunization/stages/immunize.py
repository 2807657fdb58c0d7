"""Run one method on every data set, or on every network.

python -m immunization.stages.immunize results/default/study.json alg1
"""

from __future__ import annotations

from immunization.runtime.jobs.command import run_command
from immunization.stages._skeleton import Command

main = Command(
    "immunize",
    "Run one method on every data set, or on every network.",
    {"linear": ("methods",), "networks": ("methods",)},
    module="immunize",
).main

if __name__ == "__main__":
    run_command(main)
