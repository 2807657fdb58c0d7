"""Write SHA256SUMS and provenance.json over all results of a study.

    python -m immunization.stages.manifest results/default/study.json

The sums are those that were taken when the files were written (see
`immunization.runtime.files.checksums`), not of what lies on the disk now. `sha256sum --check
SHA256SUMS` in that folder understands them, and `immunization verify` says more.
"""

from __future__ import annotations

import json
from pathlib import Path

from immunization.runtime.files.checksums import sha256
from immunization.runtime.files.io import write_text
from immunization.runtime.jobs.command import run_command
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.record.provenance import provenance
from immunization.runtime.record.sums import PROVENANCE, collect, compact_records
from immunization.stages._skeleton import Command


def run(stage: Stage) -> None:
    """The stage."""
    paths = stage.paths
    sums, records = collect(Path(paths.results), map(Path, paths.everything()))
    record = provenance(["immunization.stages.manifest"], {})
    text = json.dumps(compact_records(records), indent=1, ensure_ascii=False, sort_keys=True)
    write_text(paths.provenance, f"{text}\n", record)
    sums[PROVENANCE] = sha256(paths.provenance)
    lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
    write_text(paths.sums, "".join(lines), record)


main = Command(
    "manifest",
    "Write SHA256SUMS and provenance.json over all results of a study.",
    {"linear": (), "networks": ()},
    work=run,
).main

if __name__ == "__main__":
    run_command(main)
