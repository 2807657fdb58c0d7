# What the rules of a study of networks share.
IMAGES = list(STUDY["images"])
NETWORKS = list(STUDY["networks"])
METHODS = list(STUDY["methods"])
ATTACKS = list(STUDY["attacks"])
# A network and the D_H that it is immunized against.
SETTINGS = [f"{network}.{harmful}" for network in NETWORKS for harmful in STUDY["harmful"]]

IMAGE_FILES = expand(f"{RESULTS}/images/{{images}}.safetensors", images=IMAGES)
PRETRAINED = expand(f"{RESULTS}/pretrained/{{network}}.safetensors", network=NETWORKS)
IMMUNIZED = expand(
    f"{RESULTS}/immunized/{{method}}/{{setting}}.safetensors", method=METHODS, setting=SETTINGS
)
SPECTRUM = {name: f"{RESULTS}/spectrum/{name}.parquet" for name in ("spectra", "densities")}
# The config's threads and not `{threads}`, which `--cores` may lower: the last digits depend on them.
_threads = f" --threads {STUDY['threads']}"
_exports["THREADS"] = _threads
if STUDY["deterministic"]:
    # Bitwise repeatable products need a workspace of their own.
    _exports["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
shell.prefix(prefix(_exports))
# Part of a command line, and so of what a rerun depends on; threads where it is known that they matter.
EXACT = (" --deterministic" if STUDY["deterministic"] else "") + (
    _threads if STUDY["device"] == "cpu" else ""
)


wildcard_constraints:
    images="|".join(IMAGES),
    network="|".join(NETWORKS),
    method="|".join(METHODS),
    attack="|".join(ATTACKS),


def attack_files(kind):
    """Runs or curves of every attacker."""
    return expand(f"{RESULTS}/attack/{{attack}}.{kind}.parquet", attack=ATTACKS)


def figure_files(figure):
    """Every file of a figure: an SVG, a PNG and a sentence for each network and D_H."""
    return [
        f"{RESULTS}/figures/{figure}.{setting.replace('.', '-')}.{suffix}"
        for setting in SETTINGS
        for suffix in ("svg", "png", "txt")
    ]


# What tables need to know of the study: its order, and what each label stands for.
ORDER = {
    "images": {label: entry["source"] for label, entry in STUDY["images"].items()},
    "forms": {
        label: entry["parameters"].get("form", "") for label, entry in STUDY["images"].items()
    },
    "networks": {
        label: entry["parameters"].get("name", entry["use"])
        for label, entry in STUDY["networks"].items()
    },
    "methods": {label: entry["use"] for label, entry in STUDY["methods"].items()},
    "attacks": {label: entry["use"] for label, entry in STUDY["attacks"].items()},
    "figures": {label: entry["use"] for label, entry in STUDY["figures"].items()},
    "profiles": {
        label: next(iter(entry["parameters"].values())).get("profile", "")
        for label, entry in STUDY["methods"].items()
    },
}
FIGURES = [path for figure in STUDY["figures"] for path in figure_files(figure)]
