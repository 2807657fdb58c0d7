# One rule a figure of the config, since each has its own list of files.
for label, entry in STUDY["figures"].items():
    files = LIE.figure(label)
    if not files:
        continue
    making(
        files,
        ["immunization.reporting.draw", component(f"{WING}/figures", entry["use"]).module],
        entry["parameters"],
    )

    rule:
        name:
            f"figure_{label}"
        input:
            LIE.study,
            FIGURE_INPUTS,
        output:
            report(
                [path for path in files if path.endswith(".svg")],
                caption="../report/figure.rst",
                category="Figures",
                subcategory=label.replace("_", " "),
            ),
            [path for path in files if not path.endswith(".svg")],
        log:
            f"{LOGS}/figures/{label}.log",
        benchmark:
            f"{LOGS}/benchmark/figures/{label}.jsonl"
        localrule: True
        conda:
            "../../envs/plotting.yaml"
        params:
            label=label,
            caption=component(f"{WING}/figures", entry["use"]).traits.get("CAPTION", ""),
            made_by=made_by,
        message:
            "figure {params.label}"
        shell:
            "stage {params.made_by:q} figure {params.label} 2> {log:q}"
