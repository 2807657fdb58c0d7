"""Run attackers against all methods: those of one engine on one data set, or one on networks.

python -m immunization.stages.attack results/default/study.json digits simulated
"""

from __future__ import annotations

from immunization.runtime.jobs.command import run_command
from immunization.stages._skeleton import Command

main = Command(
    "attack",
    "Run attackers against all methods: those of one engine on one data set, or one on networks.",
    {"linear": ("datasets", "engines"), "networks": ("attacks",)},
    module="attack",
).main

if __name__ == "__main__":
    run_command(main)
