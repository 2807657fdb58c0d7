wildcard_constraints:
    dataset="|".join(LIE.datasets),
    network="|".join(LIE.networks),
    method="|".join(LIE.methods),
    attack="|".join(LIE.attacks),


# On a CPU the last digits depend on the config's threads (not on `{threads}`, which `--cores` may
# lower), and so does what a rerun depends on, where it is known that a CPU will compute.
EXACT = [STUDY["deterministic"], STUDY["threads"] if STUDY["device"] == "cpu" else None]
TABLE_CONTENTS = texts("networks/tables/published.csv")
FIGURE_INPUTS = [LIE.spectra, LIE.densities, *LIE.curves()]
REPORT_INPUT = LIE.spectra
