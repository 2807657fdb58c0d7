"""A local conda channel of stub packages, one for each that `envs/*.yaml` name."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
IMPORTED = {
    "pytorch": "torch",
    "pillow": "PIL",
    "matplotlib-base": "matplotlib",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "pydantic": "pydantic",
    "snakemake": "snakemake",
}
"""What packages are imported as, where it is not their name; the last three are Snakemake's own, in
no environment of a stage."""
BRINGS = {
    "pytorch": ["jinja2"],
    "matplotlib-base": ["pillow"],
    "timm": ["pyyaml"],
    "peft": ["pyyaml", "jinja2"],
}
"""What real packages depend on, of those that environments name."""
HIDE = """# Only what the environment names can be imported, as with real packages.
import json, os, sys
from pathlib import Path

IMPORTED, BRINGS, KNOWN = json.loads({told!r})
prefix = Path(__file__).parents[2]
here = {{json.loads(p.read_text())["name"] for p in prefix.glob("conda-meta/*.json")}}
here |= {{more for name in here for more in BRINGS.get(name, [])}}
hidden = {{IMPORTED.get(name, name) for name in {{*KNOWN, *IMPORTED}} - here}}


class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}} in {{prefix}}", name=name)


sys.meta_path.insert(0, Hide())
"""


def wanted() -> dict[str, str]:
    """Version of every package that an environment names, with three parts."""
    found = {}
    for path in (ROOT / "envs").glob("*.yaml"):
        for line in yaml.safe_load(path.read_text())["dependencies"]:
            name, version = line.split("=")
            found[name] = ".".join([*version.split("."), "0", "0"][:3])
    return found


def package(folder: Path, name: str, version: str, files: dict[str, str]) -> dict[str, Any]:
    """Write one package; its entry in the index."""
    index = {
        "name": name, "version": version, "build": "stub_0", "build_number": 0, "arch": "x86_64",
        "platform": "linux", "subdir": "linux-64", "license": "Apache-2.0",
        "depends": [] if name == "python" else ["python >=3.11"], "timestamp": 1700000000000,
    }  # fmt: skip
    paths = [
        {
            "_path": place, "path_type": "hardlink", "size_in_bytes": len(text),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        for place, text in files.items()
    ]  # fmt: skip
    contents = files | {
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{place}\n" for place in files),
    }
    path = folder / f"{name}-{version}-stub_0.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        for place, text in contents.items():
            member = tarfile.TarInfo(place)
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    data = path.read_bytes()
    return index | {
        "size": len(data),
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def build(folder: Path, python: str) -> None:
    """Write the channel; its `python` runs an interpreter of this machine, and hides from it what
    its environment does not name.

    Args:
        folder: of the channel.
        python: the interpreter.
    """
    for subdir in ("linux-64", "noarch"):
        (folder / subdir).mkdir(parents=True)
    packages = {}
    for name, version in wanted().items():
        files = {f"share/{name}/stub": "stub\n"}
        if name == "python":
            script = (
                '#!/bin/sh\nhere=$(dirname "$(dirname "$0")")\n'
                f'PYTHONPATH="$PYTHONPATH:$here/share/hide" exec "{python}" "$@"\n'
            )
            files |= {f"bin/{alias}": script for alias in ("python", "python3")}
            known = json.dumps([IMPORTED, BRINGS, sorted({*wanted()} - {"python"})])
            files["share/hide/sitecustomize.py"] = HIDE.format(told=known)
        packages[f"{name}-{version}-stub_0.tar.bz2"] = package(
            folder / "linux-64", name, version, files
        )
    for subdir, known in (("linux-64", packages), ("noarch", {})):
        told = {
            "info": {"subdir": subdir}, "packages": known, "packages.conda": {},
            "repodata_version": 1,
        }  # fmt: skip
        (folder / subdir / "repodata.json").write_text(json.dumps(told))
