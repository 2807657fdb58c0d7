"""Write study.json: the checked and completed config, as the stages that order and explain read it.

python -m immunization.study --study '{…}' --out results/default/study.json
"""

from __future__ import annotations

import argparse
import json

from immunization import stage
from immunization.files import write_text
from immunization.provenance import provenance


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Write study.json.")
    parser.add_argument("--study", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--out", required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    # In the order of the config, which tables and figures follow.
    text = json.dumps(options.study, indent=1, ensure_ascii=False)
    write_text(options.out, f"{text}\n", provenance(["immunization.study"], {}))


if __name__ == "__main__":
    stage.run(main)
