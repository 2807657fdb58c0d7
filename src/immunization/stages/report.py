"""Write the report.

python -m immunization.stages.report results/default/study.json
"""

from __future__ import annotations

from immunization.runtime.jobs.command import run_command
from immunization.stages._skeleton import Command

main = Command(
    "report",
    "Write the report.",
    {"linear": (), "networks": ()},
    module="page",
).main

if __name__ == "__main__":
    run_command(main)
