FIGURE_INPUTS = {
    "ratios": SPECTRUM["ratios"],
    "spectra": SPECTRUM["spectra"],
    "curves": attack_files("curves"),
    "trajectories": TRAJECTORIES,
    "steps": attack_files("steps"),
}

# One rule a figure of the config, since each has its own list of data sets.
for label, entry in STUDY["figures"].items():
    if not figure_files(label):
        continue
    making(
        figure_files(label),
        ["immunization.figure", f"immunization.figures.{entry['use']}"],
        [entry["parameters"], FIGURE_INPUTS],
    )

    rule:
        name:
            f"figure_{label}"
        input:
            study=STUDY_FILE,
            results=[
                path
                for paths in FIGURE_INPUTS.values()
                for path in ([paths] if isinstance(paths, str) else paths)
            ],
        output:
            report(
                [path for path in figure_files(label) if path.endswith(".svg")],
                caption="../report/figure.rst",
                category="Figures",
                subcategory=label.replace("_", " "),
            ),
            [path for path in figure_files(label) if not path.endswith(".svg")],
        log:
            f"{LOGS}/figures/{label}.log",
        benchmark:
            f"{LOGS}/benchmark/figures/{label}.jsonl"
        localrule: True
        conda:
            "../../envs/plotting.yaml"
        params:
            figure=entry["use"],
            parameters=compact(entry["parameters"]),
            caption=components("figures")[entry["use"]].traits.get("CAPTION", ""),
            paths=compact(FIGURE_INPUTS),
            made_by=made_by,
        shell:
            "stage {params.made_by:q} immunization.figure --figure {params.figure} --paths {params.paths:q}"
            " --parameters {params.parameters:q} --study {input.study:q} --out {output:q} 2> {log:q}"
