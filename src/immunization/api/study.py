"""A finished study, read back: tables, figures, extractors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_csv, read_metadata, read_text
from immunization.runtime.spelling import near_spelling
from immunization.study.layout import LinearLayout, NetworkLayout, layout
from immunization.study.whole import read_study

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from immunization.api.extractor import Extractor


def load_study(folder: str | Path) -> StudyResults:
    """Open the results of a study.

    Args:
        folder: such as ``"results/default"``.

    Raises:
        UserError: when there is no study, or one of another version.

    ::

        study = im.load_study("results/default")
        study.tables["ratios"]
        study.figure("slowdown", "digits")
        study.extractor("alg1_paper", "digits", pair=(0, 1)).to_module()
    """
    folder = Path(folder)
    if not (folder / "study.json").is_file():
        raise UserError(
            f"{folder}: holds no study.json, and so no study. Results lie in results/NAME, where "
            "NAME is the config's `study`."
        )
    return StudyResults(folder, read_study(folder / "study.json"))


class Tables(Mapping[str, "pd.DataFrame"]):
    """Tables by name, each read from its CSV file when it is asked for."""

    def __init__(self, names: list[str], paths: LinearLayout | NetworkLayout) -> None:
        self._names, self._paths = names, paths

    def __getitem__(self, name: str) -> pd.DataFrame:
        _known(name, self._names, "table")
        if not Path(self._paths.table(name)).is_file():
            raise UserError(
                f"{self._paths.results}: the study is not finished; the table '{name}' is not "
                "there. Run the command that began it again: it goes on where it ended."
            )
        return read_csv(self._paths.table(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Tables: {', '.join(self._names)}"


@dataclass(frozen=True)
class DrawnFigure:
    """A figure of a study; it shows itself in a notebook.

    Attributes:
        svg, png: its files.
        text: what it shows, in words.
    """

    svg: Path
    png: Path
    text: str

    def _repr_svg_(self) -> str:
        return read_text(self.svg)


@dataclass(frozen=True, repr=False)
class StudyResults:
    """Results of a study, read when they are asked for and checked against their sums.

    Attributes:
        folder: of the results.
        study: what study.json holds.
    """

    folder: Path
    study: dict[str, Any]

    @cached_property
    def _paths(self) -> LinearLayout | NetworkLayout:
        return layout(self.config, str(self.folder))

    @property
    def config(self) -> dict[str, Any]:
        """The config with every default filled in."""
        config: dict[str, Any] = self.study["config"]
        return config

    @property
    def kind(self) -> str:
        """ "linear" or "networks"."""
        return self._paths.wing

    @property
    def methods(self) -> list[str]:
        """Labels of the methods."""
        return self._paths.methods

    @property
    def datasets(self) -> list[str]:
        """Labels of the data sets."""
        return self._paths.datasets

    @property
    def figures(self) -> list[str]:
        """Labels of the figures."""
        return self._paths.figures

    @property
    def tables(self) -> Tables:
        """DataFrames by name."""
        return Tables(self._paths.tables, self._paths)

    @property
    def report(self) -> Path:
        """The page."""
        return Path(self._paths.report)

    def figure(self, label: str, subject: str) -> DrawnFigure:
        """One figure.

        Args:
            label: of the figure.
            subject: the data set, or NETWORK-D_H in a study of networks.

        Raises:
            UserError: for one that the study has not.
        """
        _known(label, self.figures, "figure")
        _known(subject, self._paths.subjects(label), f"'{label}' for")
        svg, png, text = map(Path, self._paths.one_figure(label, subject))
        return DrawnFigure(svg, png, read_text(text))

    def tasks_file(self, dataset: str) -> str:
        """File with the tasks of a data set of a linear study."""
        assert isinstance(self._paths, LinearLayout)
        return self._paths.tasks(dataset)

    def network_files(self, method: str, network: str, harmful: str) -> dict[str, str]:
        """Files of an immunized network: ``pretrained``, ``immunized``, ``images`` of D_P.

        Raises:
            UserError: for what the study has not.
        """
        if not isinstance(self._paths, NetworkLayout):
            raise UserError("a linear study has no networks.")
        _known(method, self.methods, "method")
        _known(network, self._paths.networks, "network")
        _known(harmful, self._paths.harmful, "harmful task")
        place = self._paths.settings.index((network, harmful))
        return {
            "pretrained": self._paths.pretrained(network),
            "immunized": self._paths.immunized(method)[place],
            "images": self._paths.images(self.config["primary"]),
        }

    def pairs(self, dataset: str) -> list[tuple[str, str]]:
        """Names of D_P and D_H of every pair of a data set of a linear study."""
        return [(p, h) for p, h in self._about(dataset)["pair_names"]]

    def _about(self, dataset: str) -> dict[str, Any]:
        if not isinstance(self._paths, LinearLayout):
            raise UserError("a study of networks has no pairs of linear tasks.")
        _known(dataset, self.datasets, "data set")
        return read_metadata(self._paths.tasks(dataset))

    def theta(
        self, method: str, dataset: str, *, pair: int | tuple[Any, Any] = 0, seed: int | None = None
    ) -> Tensor:
        """θ alone, shape (D, D), float64; see `extractor` for the arguments."""
        from immunization.linear.files import open_extractors

        number = self._pair(dataset, pair)
        file, seed = self._file(method, dataset, seed)
        return open_extractors(file).theta(seed, pairs=[number])[0]

    def _pair(self, dataset: str, pair: int | tuple[Any, Any]) -> int:
        names = self.pairs(dataset)
        if isinstance(pair, tuple):
            wanted = (str(pair[0]), str(pair[1]))
            if wanted not in names:
                shown = ", ".join(f"({p}, {h})" for p, h in names[:6])
                raise UserError(
                    f"data set '{dataset}' has no pair {wanted}; it has {shown}"
                    f"{', …' if len(names) > 6 else ''}."
                )
            return names.index(wanted)
        if not 0 <= pair < len(names):
            raise UserError(f"data set '{dataset}' has pairs 0 to {len(names) - 1}. Got {pair}.")
        return pair

    def _file(self, method: str, dataset: str, seed: int | None) -> tuple[str, int]:
        _known(method, self.methods, "method")
        seeds = self.config["seeds"]
        if seed is not None and seed not in seeds:
            raise UserError(f"the study has seeds {', '.join(map(str, seeds))}. Got {seed}.")
        assert isinstance(self._paths, LinearLayout)
        place = self.datasets.index(dataset)
        return self._paths.thetas(method)[place], seeds[0] if seed is None else seed

    def extractor(
        self, method: str, dataset: str, *, pair: int | tuple[Any, Any] = 0, seed: int | None = None
    ) -> Extractor:
        """The immunized layer of one pair, with the scaling that the study applied.

        Args:
            method: label of the method.
            dataset: label of the data set.
            pair: its number, or the names of D_P and D_H, as `pairs` lists them.
            seed: one of the study's; its first by default.

        Raises:
            UserError: for what the study has not, or a scaling that it did not record.
        """
        import torch

        from immunization.api.extractor import Extractor
        from immunization.linear.own_tasks.scaling import ANY_SEED, Scale, Scaler

        theta = self.theta(method, dataset, pair=pair, seed=seed)
        file, seed = self._file(method, dataset, seed)
        about, made = self._about(dataset), read_metadata(file)
        scaler = Scaler()
        kind = about["info"].get("scale", "none")
        known = about["info"].get("scaling", {})
        if kind == "none" and (about["scale"], about["shift"]) != (1.0, 0.0):
            # Images: features are inputs·scale + shift.
            ones = torch.ones(len(theta), dtype=torch.float64)
            one = Scale(ones * (-about["shift"] / about["scale"]), ones / about["scale"])
            scaler = Scaler("joint", (one, one))
        elif kind != "none":
            first = str(self.config["seeds"][0])
            by_seed = known.get(str(seed)) or known.get(ANY_SEED) or known.get(first)
            if not by_seed:
                raise UserError(
                    f"data set '{dataset}' was scaled {kind!r}, and the study did not record by "
                    "what. theta(...) gives θ alone, which holds for features scaled alike."
                )
            parts = by_seed if isinstance(by_seed, list) else [by_seed, by_seed]
            scales = [
                Scale(
                    torch.tensor(part["mean"], dtype=torch.float64),
                    torch.tensor(part["deviation"], dtype=torch.float64),
                )
                for part in parts
            ]
            scaler = Scaler(kind, (scales[0], scales[1]))
        record = {
            "method": self.config["methods"][method]["use"], "label": method, "dataset": dataset,
            "pair": list(self.pairs(dataset)[self._pair(dataset, pair)]), "seed": seed,
            "study": self.config["study"], "parameters": made["parameters"], "code": made["code"],
            "commit": made["commit"], "immunization": made["immunization"],
            "columns": about["info"].get("columns") or [],
        }  # fmt: skip
        return Extractor(theta, scaler, made["singular"], made["intercept"], record)

    def __repr__(self) -> str:
        return (
            f"Study '{self.config['study']}' ({self.kind}): {len(self.methods)} methods on "
            f"{', '.join(self.datasets)}"
        )


def _known(name: str, known: list[str], what: str) -> None:
    if name not in known:
        near = near_spelling(str(name), known)
        raise UserError(f"the study has no {what} '{name}'{near}; it has {', '.join(known)}.")
