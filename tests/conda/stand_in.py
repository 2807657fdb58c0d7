"""Not conda: the few subcommands that Snakemake and envs/pin.sh call, for machines without conda.

The solver and the installer are real (py-rattler); the channel is a local one of stub packages
(`channel.py`). So the workflow's wiring is tested, and nothing about real packages.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import rattler
import yaml


def channel(name: str) -> rattler.Channel:
    return rattler.Channel(Path(os.environ["STAND_IN_CHANNELS"], name).as_uri())


async def solve_and_install(file: str, prefix: str) -> None:
    text = Path(file).read_text()
    if file.endswith((".yaml", ".yml")):
        wanted = yaml.safe_load(text)
        specs = [rattler.MatchSpec(line, strict=True) for line in wanted["dependencies"]]
        channels = [channel(name) for name in wanted["channels"]]
    else:  # an explicit file: one address a line, perhaps with a checksum
        specs, bases = [], {}
        for line in text.splitlines():
            if not line.strip() or line.startswith(("#", "@")):
                continue
            base, _, name = line.split("#")[0].strip().rsplit("/", 2)
            bases[base] = rattler.Channel(base)
            name, version, build = name.removesuffix(".tar.bz2").rsplit("-", 2)
            specs.append(rattler.MatchSpec(f"{name} =={version} {build}"))
        channels = list(bases.values())
    found = await rattler.solve(
        channels, specs, platforms=["linux-64", "noarch"],
        virtual_packages=[v.into_generic() for v in rattler.VirtualPackage.detect()],
    )  # fmt: skip
    await rattler.install(found, target_prefix=prefix, show_progress=False)
    history = Path(prefix, "conda-meta", "history")
    history.parent.mkdir(parents=True, exist_ok=True)
    history.touch()


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file")
    parser.add_argument("--prefix")
    options, _ = parser.parse_known_args(words)
    match words:
        case ["--version"]:
            print("conda 24.7.1")
        case ["info", *_]:
            here = str(Path(__file__).parent)
            told = {"conda_prefix": here, "platform": "linux-64", "conda_version": "24.7.1"}
            print(json.dumps(told))
        case ["config", *_]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", *_] | ["create", *_]:
            try:
                asyncio.run(solve_and_install(options.file, options.prefix))
            except Exception as error:
                sys.exit(f"{type(error).__name__}: {error}")
        case ["list", *_]:
            print("@EXPLICIT")
            for path in sorted(Path(options.prefix, "conda-meta").glob("*.json")):
                record = json.loads(path.read_text())
                print(f"{record['url']}#{record['md5']}")
        case ["clean", *_]:
            pass
        case _:
            sys.exit(f"not understood: {words}")


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # the solver's threads do not always survive the end of the interpreter
