"""Where the files of a study lie: one place for the workflow, the stages and the tools.

Methods give paths; a label may also be one of Snakemake's wildcards, such as ``"{method}"``.
"""

from __future__ import annotations

from typing import Any

from immunization.study.components import components
from immunization.study.derived import engine, figure_datasets, is_of_networks

SUFFIXES = ("svg", "png", "txt")
"""Of a figure: for the page, for slides, and the sentence that it comes with."""


class Layout:
    """What both kinds of study have.

    Args:
        config: resolved.
        results: folder of the study.
    """

    wing = ""

    def __init__(self, config: dict[str, Any], results: str) -> None:
        self.config, self.results = config, results
        self.methods, self.attacks = list(config["methods"]), list(config["attacks"])
        self.study = f"{results}/study.json"
        self.report = f"{results}/report.html"
        self.sums = f"{results}/SHA256SUMS"
        self.provenance = f"{results}/provenance.json"
        self.spectra = f"{results}/spectrum/spectra.parquet"
        self.tables = list(components(f"{self.wing}/tables"))
        self.figures = list(config["figures"])
        self.figure_files = [path for label in config["figures"] for path in self.figure(label)]

    def progress(self, stage: str, *labels: str) -> str:
        """Folder with finished units of a job. No other job reads it."""
        return "/".join([self.results, "progress", stage, *labels])

    def table(self, name: str, suffix: str = "csv") -> str:
        """A table: CSV for programs, md and tex for people."""
        return f"{self.results}/tables/{name}.{suffix}"

    def subjects(self, figure: str) -> list[str]:
        """What a figure is drawn for."""
        raise NotImplementedError

    def figure(self, label: str) -> list[str]:
        """All files of a figure."""
        return [
            path for subject in self.subjects(label) for path in self.one_figure(label, subject)
        ]

    def one_figure(self, label: str, subject: str) -> list[str]:
        """A figure of one subject, a file each of `SUFFIXES`."""
        return [f"{self.results}/figures/{label}.{subject}.{suffix}" for suffix in SUFFIXES]

    def all_tables(self, *suffixes: str) -> list[str]:
        """Files of all tables."""
        return [self.table(name, suffix) for name in self.tables for suffix in suffixes]

    def numbers(self) -> list[str]:
        """Results of spectra and attacks, which tables and figures are made from."""
        raise NotImplementedError

    def heavy(self) -> list[str]:
        """Inputs and extractors."""
        raise NotImplementedError

    def everything(self) -> list[str]:
        """Every result, as the manifest lists them."""
        return [
            self.study, self.report, *self.heavy(), *self.numbers(),
            *self.all_tables("csv", "md", "tex"), *self.figure_files,
        ]  # fmt: skip


class LinearLayout(Layout):
    """A linear study."""

    wing = "linear"

    def __init__(self, config: dict[str, Any], results: str) -> None:
        super().__init__(config, results)
        self.datasets = list(config["datasets"])
        self.ratios = f"{results}/spectrum/ratios.parquet"
        self.engines: dict[str, dict[str, Any]] = {}
        for label, entry in config["attacks"].items():
            self.engines.setdefault(engine(entry), {})[label] = entry

    def tasks(self, dataset: str) -> str:
        """Tasks of a data set."""
        return f"{self.results}/tasks/{dataset}.safetensors"

    def all_tasks(self) -> list[str]:
        """Tasks of every data set."""
        return [self.tasks(dataset) for dataset in self.datasets]

    def all_thetas(self) -> list[str]:
        """θ of every method and data set."""
        return [path for method in self.methods for path in self.thetas(method)]

    def thetas(self, method: str) -> list[str]:
        """θ of a method, a file a data set."""
        return [f"{self.results}/immunized/{method}/{d}.safetensors" for d in self.datasets]

    def thetas_on(self, dataset: str) -> list[str]:
        """θ of every method on one data set."""
        return [f"{self.results}/immunized/{m}/{dataset}.safetensors" for m in self.methods]

    def trajectories(self, method: str) -> list[str]:
        """What a method recorded on its way, a file a data set."""
        return [f"{self.results}/immunized/{method}/{d}.parquet" for d in self.datasets]

    def attack(self, dataset: str, engine: str) -> list[str]:
        """Steps and curves of the attackers of one engine on one data set."""
        base = f"{self.results}/attack/{dataset}.{engine}"
        return [f"{base}.steps.parquet", f"{base}.curves.parquet"]

    def attacked(self, which: int) -> list[str]:
        """Steps (0) or curves (1) of all attackers."""
        return [self.attack(d, e)[which] for d in self.datasets for e in self.engines]

    def all_trajectories(self) -> list[str]:
        """Of every method and data set."""
        return [path for method in self.methods for path in self.trajectories(method)]

    def subjects(self, figure: str) -> list[str]:
        """Data sets."""
        return figure_datasets(self.config, figure)

    def heavy(self) -> list[str]:
        """Tasks, θ and trajectories."""
        return [*self.all_tasks(), *self.all_thetas(), *self.all_trajectories()]

    def numbers(self) -> list[str]:
        """Spectra, ratios, steps and curves."""
        return [self.spectra, self.ratios, *self.attacked(0), *self.attacked(1)]


class NetworkLayout(Layout):
    """A study of networks."""

    wing = "networks"

    def __init__(self, config: dict[str, Any], results: str) -> None:
        self.networks, self.harmful = list(config["networks"]), list(config["harmful"])
        # A network and the D_H that it is immunized against.
        self.settings = [
            (network, harmful) for network in self.networks for harmful in self.harmful
        ]
        super().__init__(config, results)
        self.datasets = list(config["datasets"])
        self.densities = f"{results}/spectrum/densities.parquet"

    def images(self, dataset: str) -> str:
        """Prepared images of a data set."""
        return f"{self.results}/images/{dataset}.safetensors"

    def all_images(self) -> list[str]:
        """Prepared images of every data set."""
        return [self.images(dataset) for dataset in self.datasets]

    def all_pretrained(self) -> list[str]:
        """θ₀ of every network."""
        return [self.pretrained(network) for network in self.networks]

    def pretrained(self, network: str) -> str:
        """θ₀ of a network."""
        return f"{self.results}/pretrained/{network}.safetensors"

    def immunized(self, method: str) -> list[str]:
        """Released networks of a method, a file a network and D_H."""
        base = f"{self.results}/immunized/{method}"
        return [f"{base}/{network}.{harmful}.safetensors" for network, harmful in self.settings]

    def trajectories(self, method: str) -> list[str]:
        """What a method recorded on its way, a file a network and D_H."""
        return [path.replace(".safetensors", ".parquet") for path in self.immunized(method)]

    def all_immunized(self) -> list[str]:
        """Of every method."""
        return [path for method in self.methods for path in self.immunized(method)]

    def attack(self, label: str) -> list[str]:
        """Runs and curves of one attacker."""
        base = f"{self.results}/attack/{label}"
        return [f"{base}.runs.parquet", f"{base}.curves.parquet"]

    def curves(self) -> list[str]:
        """Curves of all attackers."""
        return [self.attack(label)[1] for label in self.attacks]

    def subjects(self, figure: str) -> list[str]:
        """NETWORK-D_H."""
        return [f"{network}-{harmful}" for network, harmful in self.settings]

    def heavy(self) -> list[str]:
        """Images, networks and trajectories."""
        return [
            *self.all_images(), *self.all_pretrained(), *self.all_immunized(),
            *(path for method in self.methods for path in self.trajectories(method)),
        ]  # fmt: skip

    def numbers(self) -> list[str]:
        """Spectra, densities, runs and curves."""
        runs = [self.attack(label)[0] for label in self.attacks]
        return [self.spectra, self.densities, *runs, *self.curves()]


def layout(config: dict[str, Any], results: str) -> LinearLayout | NetworkLayout:
    """The layout of a study.

    Args:
        config: resolved.
        results: folder of the study.
    """
    return (NetworkLayout if is_of_networks(config) else LinearLayout)(config, results)
