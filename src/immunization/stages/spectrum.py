"""Compute condition numbers of all methods.

python -m immunization.stages.spectrum results/default/study.json
"""

from __future__ import annotations

from immunization.runtime.jobs.command import run_command
from immunization.stages._skeleton import Command

main = Command(
    "spectrum",
    "Compute condition numbers of all methods.",
    {"linear": (), "networks": ()},
    module="spectra",
).main

if __name__ == "__main__":
    run_command(main)
