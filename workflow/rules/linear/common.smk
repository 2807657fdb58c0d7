# What the rules of a linear study share.
DATASETS = list(STUDY["datasets"])
METHODS = list(STUDY["methods"])
# Attackers by the engine that runs them; a job is one engine on one data set.
ATTACKERS = {}
for label, entry in STUDY["attacks"].items():
    ATTACKERS.setdefault(engine(entry), {})[label] = entry
ENGINES = list(ATTACKERS)

TASKS = expand(f"{RESULTS}/tasks/{{dataset}}.safetensors", dataset=DATASETS)
THETAS = expand(
    f"{RESULTS}/immunized/{{method}}/{{dataset}}.safetensors",
    method=METHODS,
    dataset=DATASETS,
)
SPECTRUM = {name: f"{RESULTS}/spectrum/{name}.parquet" for name in ("spectra", "ratios")}
TRAJECTORIES = [path.replace(".safetensors", ".parquet") for path in THETAS]


wildcard_constraints:
    dataset="|".join(DATASETS),
    method="|".join(METHODS),
    engine="|".join(ENGINES),


def attack_files(kind):
    """Steps or curves of every engine on every data set."""
    return expand(
        f"{RESULTS}/attack/{{dataset}}.{{engine}}.{kind}.parquet", dataset=DATASETS, engine=ENGINES
    )


def figure_files(figure):
    """Every file of a figure: an SVG, a PNG and a sentence for each data set it applies to."""
    return [
        f"{RESULTS}/figures/{figure}.{name}.{suffix}"
        for name in figure_datasets(STUDY, figure)
        for suffix in ("svg", "png", "txt")
    ]


# What tables need to know of the study: its order, and what each label stands for.
ORDER = {
    "datasets": {
        label: [entry["source"], entry["parameters"].get("task", "regression")]
        for label, entry in STUDY["datasets"].items()
    },
    "methods": {label: entry["use"] for label, entry in STUDY["methods"].items()},
    "attacks": {label: entry["use"] for label, entry in STUDY["attacks"].items()},
    "figures": {label: entry["use"] for label, entry in STUDY["figures"].items()},
    "sweeps": STUDY["sweeps"],
    "intercept": STUDY["spectrum"]["intercept"],
    "replication": STUDY["replication"],
    "flops_per_second": STUDY["attack"]["flops_per_second"],
}
FIGURES = [path for figure in STUDY["figures"] for path in figure_files(figure)]
