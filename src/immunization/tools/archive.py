"""A finished study in one file: code, config, data and results, to be regenerated elsewhere.

    immunization archive results/default --out default.tar.gz
    immunization archive --extract default.tar.gz --into FOLDER

The archive holds the checkout without its history, the config as ``config/archived.yaml``, the data
files that the study was made from, with their checksums, and under ``archived/`` the results
without the extractors (`--extractors` takes them along). ``REGENERATE.md`` says how to make the
results anew and compare the tables. The same study gives the same bytes.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from immunization.data.download import content
from immunization.runtime.errors import UserError
from immunization.runtime.files.atomic import atomic
from immunization.runtime.files.checksums import sha256
from immunization.runtime.files.io import read_json
from immunization.runtime.jobs.command import run_command
from immunization.runtime.record.fingerprint import SOURCE, closure, fingerprint, tracked_files
from immunization.runtime.record.sums import PROVENANCE, SUMS, read_sums, verify
from immunization.study.components import is_path
from immunization.study.resolve import CODE, FILES
from immunization.study.whole import read_study
from immunization.tools._command import command
from immunization.tools.unpack import MOST_BYTES, extract

CHECKOUT = (
    "Snakefile", "Makefile", "pyproject.toml", "constraints.txt", "README.md", "CHANGELOG.md",
    "LICENSE", "CITATION.cff", "src", "workflow", "config", "envs", "profiles",
)  # fmt: skip
KINDS = {
    "", ".cfg", ".cff", ".csv", ".jinja", ".md", ".py", ".rst", ".sh", ".smk", ".toml", ".txt",
    ".typed", ".yaml",
}  # fmt: skip
"""Suffixes of what a checkout without git is made of."""
CODE_KEYS = ("use", "source", CODE)
"""Keys of a config that may name a file of code."""
HOW = """# {study}: how to regenerate this study

    make results ARGS="config/archived.yaml"
    diff -r --exclude='.*' archived/{study}/tables results/{study}/tables

The second command names every table that is not the archived one, byte by byte. Data files lie in
`data/` (public ones, named in the config as `data.mirror`) and `own/`;
`archived/{study}/provenance.json` tells versions, seeds, devices and the commit.
Tables are the same to the last byte with the same versions on the same kind of device.
"""
FOLDERS = """
These folders were not taken along. Put them where they were, or name their places in
`config/archived.yaml`:

{folders}
"""


def _checkout(root: Path, records: list[Any]) -> tuple[list[Path], list[Path]]:
    """Files of the checkout to take, and those that are left: what git tracks is taken, and the
    code that made the results.

    Without git, as in an unpacked archive: plain files of `KINDS`, no hidden ones, and of profiles
    only their ``config.yaml``. Links are left.
    """
    there = []
    for name in CHECKOUT:
        top = root / name
        if top.is_file():
            there.append(top)
        for path in sorted(top.rglob("*")) if top.is_dir() else ():
            parts = path.relative_to(root).parts
            made = any(part == "__pycache__" or part.endswith(".egg-info") for part in parts)
            if not made and not path.is_dir():
                there.append(path)
    tracked = tracked_files(root)
    if tracked is None:
        wanted = {
            path
            for path in there
            if path.suffix in KINDS
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
            and (path.relative_to(root).parts[0] != "profiles" or path.name == "config.yaml")
        }
    else:
        modules = {name for record in records for name in (record or {}).get("modules") or []}
        wanted = tracked | set(closure(*sorted(modules)))
    taken = [path for path in there if path in wanted and path.is_file() and not path.is_symlink()]
    return taken, [path for path in there if path not in taken]


def code_file(name: str) -> str:
    """The file of ``file.py`` or ``file.py:function``."""
    return name.partition(":")[0]


def _is_own(key: str, path: Path) -> bool:
    # Weights may also be a name, which a folder may have by chance.
    return path.is_file() or (key == "path" and path.is_dir())


def _places(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Every entry of a config that names a file or folder."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(item, str):
                yield from _places(item)
            elif (key in FILES and _is_own(key, Path(item).expanduser())) or (
                key in CODE_KEYS and is_path(code_file(item)) and Path(code_file(item)).is_file()
            ):
                yield value, key
    elif isinstance(value, list):
        for item in value:
            yield from _places(item)


def _public(records: list[Any], folders: list[Path]) -> dict[str, Path]:
    """Public files that the results were made from, by path in a mirror.

    Raises:
        UserError: when one is gone or has changed.
    """
    wanted: dict[str, str] = {}
    for record in records:
        wanted |= ((record or {}).get("files") or {}).get("public", {})
    public = {}
    for name, digest in sorted(wanted.items()):
        here = [folder / name for folder in folders if (folder / name).is_file()]
        if not here:
            raise UserError(
                f"{name}: a file that the study was made from is in none of "
                f"{', '.join(map(str, folders))}. Name the folder that it is in: --data FOLDER."
            )
        if sha256(here[0]) != digest:
            raise UserError(
                f"{here[0]}: is not the file that the study was made from; its SHA-256 was "
                f"{digest}. Run the study again, or name the right folder with --data."
            )
        public[name] = here[0]
    return public


def _check_own(records: list[Any]) -> None:
    """Compare the user's own files with what the results were made from.

    Raises:
        UserError: when one is gone or has changed.
    """
    wanted: dict[str, str] = {}
    for record in records:
        wanted |= ((record or {}).get("files") or {}).get("own", {})
    for name, digest in sorted(wanted.items()):
        if not Path(name).exists() or content(name) != digest:
            what_happened = "has changed since" if Path(name).exists() else "is gone"
            raise UserError(
                f"{name}: what the study was made from {what_happened}; its SHA-256 was {digest}. "
                "Put it back, or run the study again."
            )


def _refuse_other_code(records: list[Any]) -> None:
    for record in records:
        modules = (record or {}).get("modules") or []
        if modules and fingerprint(*modules) != record["code"]:
            raise UserError(
                f"{modules[-1]}: has changed, or what it imports has, since it made results of "
                f"this study (at commit {record.get('commit') or 'unknown'}). Run the study again, "
                "check that commit out, or take the archive as it is with --changed-code."
            )


def contents(
    folder: Path, root: Path, data: list[Path], *, extractors: bool = False, changed: bool = False
) -> tuple[dict[str, Path], dict[str, str], list[Path]]:
    """What goes into the archive: files by their path in it, and texts; and files of the checkout
    that do not.

    Args:
        folder: of the study.
        root: the checkout.
        data: folders where public files may be.
        extractors: take tasks and extractors along.
        changed: also where the code is not that which made the results.

    Raises:
        UserError: when the study is not finished, a file of it is damaged, or the code has changed.
    """
    if not (root / "Snakefile").is_file():
        raise UserError(
            f"{root}: is no checkout, and an archive holds the code. Run this from the folder of "
            "one: PYTHONPATH=src immunization archive ..."
        )
    problems = verify(folder)
    if problems:
        name, difference = next(iter(problems.items()))
        raise UserError(
            f"{folder / name}: {difference}. Repair the study first (immunization verify)."
        )
    study = read_study(folder / "study.json")
    label = study["config"]["study"]
    config = copy.deepcopy(study["raw"])
    records = [group["provenance"] for group in read_json(folder / PROVENANCE)["results"]]
    taken, left = _checkout(root, records)
    files = {path.relative_to(root).as_posix(): path for path in taken}
    folders = []
    for number, (entry, key) in enumerate(_places(config)):
        name = code_file(entry[key]) if key in CODE_KEYS else entry[key]
        place = Path(name).expanduser()
        if place.is_dir():
            folders.append(f"- `{place}`\n")
            continue
        packed = f"own/{number}/{place.name}"
        entry[key] = packed + entry[key].removeprefix(name)
        files[packed] = place
    _check_own(records)
    if not changed:
        _refuse_other_code(records)
    public = _public(records, data)
    files |= {f"data/{name}": path for name, path in public.items()}
    if public:
        config["data"] = {"mirror": "data"}
    for name in [*read_sums(folder / SUMS), SUMS]:
        if extractors or not name.endswith(".safetensors"):
            files[f"archived/{label}/{name}"] = folder / name
    files[f"archived/{label}/{PROVENANCE}"] = folder / PROVENANCE
    texts = {
        "config/archived.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        "REGENERATE.md": HOW.format(study=label)
        + (FOLDERS.format(folders="".join(folders)) if folders else ""),
        "results/.gitkeep": "",
    }
    return files, texts, left


def write(out: Path, files: dict[str, Path], texts: dict[str, str]) -> None:
    """Write a .tar.gz without dates, owners or host names."""
    with atomic(out, sealed=False) as temporary, temporary.open("wb") as raw:
        packed = gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
        with packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted({*files, *texts}):
                member = tarfile.TarInfo(name)
                member.mode = 0o644
                if name in texts:
                    data = texts[name].encode()
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                else:
                    with files[name].open("rb") as file:
                        if os.fstat(file.fileno()).st_mode & 0o100:  # envs/pin.sh
                            member.mode = 0o755
                        member.size = os.fstat(file.fileno()).st_size
                        archive.addfile(member, file)


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "archive",
        "Put a finished study into one file, or unpack one.",
        "immunization archive results/default\n"
        "immunization archive --extract default.tar.gz --into folder",
    )
    made.add_argument("folder", nargs="?", type=Path, help="results/NAME")
    made.add_argument("--out", type=Path, help="archive to write; default NAME.tar.gz")
    made.add_argument("--extractors", action="store_true", help="take tasks and θ along")
    made.add_argument("--data", nargs="+", type=Path, help="folders with the public files")
    made.add_argument("--extract", type=Path, help="archive to unpack")
    made.add_argument("--into", type=Path, help="new folder to unpack into")
    made.add_argument("--most-gb", type=float, default=MOST_BYTES / 2**30, help="to unpack")
    made.add_argument(
        "--changed-code", action="store_true", help="archive though the code has changed since"
    )
    return made


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parser().parse_args(arguments)
    if options.extract is not None:
        if options.into is None:
            raise UserError("--extract: name a new folder to unpack into: --into FOLDER.")
        count = extract(options.extract, options.into, int(options.most_gb * 2**30))
        print(f"{options.into}: {count} files; see {options.into}/REGENERATE.md")
        return
    if options.folder is None:
        raise UserError("Name the study: immunization archive results/NAME.")
    out = options.out or Path(f"{options.folder.resolve().name}.tar.gz")
    data = options.data or [Path(".cache/data")]
    files, texts, left = contents(
        options.folder,
        SOURCE.parent,
        data,
        extractors=options.extractors,
        changed=options.changed_code,
    )
    write(out, files, texts)
    for path in left:
        print(f"not taken: {path} (git does not track it, or it is a link)")
    print(f"{out}: {len(files) + len(texts)} files, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command(main)
