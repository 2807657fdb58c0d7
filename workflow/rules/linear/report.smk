MANIFEST_FILES = [
    f"{RESULTS}/study.json",
    f"{RESULTS}/report.html",
    *TASKS,
    *THETAS,
    *TRAJECTORIES,
    *SPECTRUM.values(),
    *attack_files("steps"),
    *attack_files("curves"),
    *TABLE_FILES,
    *FIGURES,
]


making(
    [f"{RESULTS}/report.html"],
    ["immunization.report"],
    templates("report.html.jinja", "page.html.jinja", "macros.html.jinja"),
)


rule report_page:
    input:
        study=STUDY_FILE,
        tables=TABLE_FILES,
        figures=FIGURES,
        ratios=SPECTRUM["ratios"],
    output:
        report(
            f"{RESULTS}/report.html",
            caption="../report/page.rst",
            category="Report",
        ),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{LOGS}/benchmark/report.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        tables=lambda wildcards, input: os.path.dirname(input.tables[0]),
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.report --study {input.study:q} --tables {params.tables:q}"
        " --figures {input.figures:q} --ratios {input.ratios:q} --out {output:q} 2> {log:q}"
