"""Write study.json: the checked and completed config, and its order.

python -m immunization.stages.study results/default/study.json
"""

from __future__ import annotations

import json

from immunization.runtime.files.io import write_text
from immunization.runtime.jobs.command import run_command
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.record.provenance import provenance
from immunization.stages._skeleton import Command


def run(stage: Stage) -> None:
    """The stage."""
    # In the order of the config, which tables and figures follow.
    text = json.dumps(stage.study, indent=1, ensure_ascii=False)
    write_text(stage.paths.study, f"{text}\n", provenance(["immunization.stages.study"], {}))


main = Command(
    "study",
    "Write study.json: the checked and completed config, and its order.",
    {"linear": (), "networks": ()},
    work=run,
).main

if __name__ == "__main__":
    run_command(main)
