"""The command line of all stages: it parses a job, and calls the wing that does it.

    python -m immunization.stages.immunize results/default/study.json alg1

A stage reads its parameters from the study and writes into the study's folder. The wing is loaded
when the kind of study is known, so that neither depends on the other.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from immunization.runtime.errors import UserError
from immunization.runtime.jobs.stage import Stage
from immunization.study.layout import Layout, layout
from immunization.study.whole import read_study, recorded


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if int(text) < 1:
        raise ValueError
    return int(text)


@dataclass(frozen=True)
class Command:
    """The command of one stage.

    Attributes:
        name: of the stage.
        about: first line of its help.
        labels: for each kind of study that has the stage, the sections of the study that the
            job's labels are from, such as ``("methods",)``.
        module: of the wing, with a function ``run(stage)``.
        work: in place of that, where both kinds of study do the same.
    """

    name: str
    about: str
    labels: dict[str, tuple[str, ...]]
    module: str = ""
    work: Callable[[Stage], None] | None = None

    def stage(self, arguments: list[str] | None = None) -> Stage:
        """What a command line asks for.

        Raises:
            UserError: when the study is not one, or has no such labels.
        """
        sections = " or ".join(
            " ".join(names) for names in dict.fromkeys(self.labels.values()) if names
        )
        parser = argparse.ArgumentParser(
            prog=f"python -m immunization.stages.{self.name}", description=self.about
        )
        parser.add_argument("study", type=Path, help="study.json")
        parser.add_argument(
            "labels", nargs="*", help=f"a label of the study's {sections}" if sections else "none"
        )
        parser.add_argument("--results", help="folder of the study; default: results/STUDY")
        parser.add_argument(
            "--device", choices=["auto", "cpu", "cuda"], help="default: the study's, or auto"
        )
        parser.add_argument("--threads", type=positive, help="default: the study's, or 1")
        parser.add_argument("--checkpoint-seconds", type=float, help="work that a kill may cost")
        parser.add_argument("--mirror", help="folder with the public files")
        parser.add_argument("--cache", help="folder for downloads; default: .cache/data")
        options = parser.parse_intermixed_args(arguments)
        study = read_study(options.study)
        config = study["config"]
        try:
            paths = layout(config, options.results or f"results/{config['study']}")
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{options.study}: its config is not complete ({error!r}). Stages want study.json "
                "as the workflow writes it; a config of your own goes to snakemake --configfile."
            ) from error
        self._check(options.labels, paths)
        site = config | (config.get("data") or {})
        given = {"wanted": options.device or site.get("device")} | {
            name: site.get(name) if getattr(options, name) is None else getattr(options, name)
            for name in ("threads", "checkpoint_seconds", "mirror", "cache")
        }
        given = {name: value for name, value in given.items() if value is not None}
        # What no number depends on stays out of what stages read and write.
        study = study | {"config": recorded(config)}
        return Stage(self.name, study, tuple(options.labels), paths, **given)

    def _check(self, labels: list[str], paths: Layout) -> None:
        sections = self.labels.get(paths.wing)
        if sections is None:
            raise UserError(f"{self.name}: studies of this kind ({paths.wing}) have no such stage.")
        if len(labels) != len(sections):
            raise UserError(
                f"{self.name}: expects one label of each of ({', '.join(sections)}), got "
                f"{len(labels)}."
            )
        for label, section in zip(labels, sections, strict=True):
            known = list(getattr(paths, section))
            if label not in known:
                raise UserError(
                    f"{self.name}: the study has no '{label}' under {section}; it has "
                    f"{', '.join(known)}."
                )

    def main(self, arguments: list[str] | None = None) -> None:
        """Do what a command line asks for."""
        stage = self.stage(arguments)
        if self.work is not None:
            self.work(stage)
        else:
            wing = stage.paths.wing
            importlib.import_module(f"immunization.{wing}.{self.module}").run(stage)
