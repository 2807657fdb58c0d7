"""The last stage: where every result of a study comes from, and SHA256SUMS over all.

    python -m immunization.manifest --folder results/default --files … \\
        --sums results/default/SHA256SUMS --provenance results/default/provenance.json

The sums are those that were taken when the files were written (see `immunization.seals`), not of
what lies on the disk now. `sha256sum --check SHA256SUMS` in that folder understands them, and
`python -m immunization.verify` says more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from immunization import stage
from immunization.errors import UserError
from immunization.files import write_text
from immunization.provenance import provenance
from immunization.seals import UNREADABLE, count_as_read, read_seal, sha256

SUMS = "SHA256SUMS"
PROVENANCE = "provenance.json"


def collect(folder: Path, files: Iterable[Path]) -> tuple[dict[str, str], dict[str, Any]]:
    """Sums and provenance of files, by path relative to the study's folder.

    Raises:
        UserError: for a file without a seal.
    """
    sums, records = {}, {}
    for path in sorted(files):
        name = path.relative_to(folder).as_posix()
        seal = read_seal(path)
        if seal is None or seal["sha256"] == UNREADABLE:
            raise UserError(
                f"{path}: has no seal. Delete it and run the same command again; it is made anew."
            )
        count_as_read(path, seal)
        sums[name], records[name] = seal["sha256"], seal.get("provenance")
    return sums, records


def compact_records(records: dict[str, Any]) -> dict[str, Any]:
    """Each distinct record once, with the files that have it."""
    found: dict[str, dict[str, Any]] = {}
    for name, record in records.items():
        key = json.dumps(record, sort_keys=True)
        found.setdefault(key, {"files": [], "provenance": record})["files"].append(name)
    return {"results": list(found.values())}


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Sums and provenance of every result of a study.")
    parser.add_argument("--folder", type=Path, required=True, help="of the study")
    parser.add_argument(
        "--files", type=stage.parse_json, required=True, help="JSON list of its results"
    )
    parser.add_argument("--sums", required=True, help="text file to write")
    parser.add_argument("--provenance", required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    sums, records = collect(options.folder, map(Path, options.files))
    record = provenance(["immunization.manifest"], {})
    text = json.dumps(compact_records(records), indent=1, ensure_ascii=False, sort_keys=True)
    write_text(options.provenance, f"{text}\n", record)
    sums[PROVENANCE] = sha256(options.provenance)
    lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
    write_text(options.sums, "".join(lines), record)


if __name__ == "__main__":
    stage.run(main)
