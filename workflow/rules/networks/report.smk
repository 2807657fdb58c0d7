MANIFEST_FILES = [
    f"{RESULTS}/study.json",
    f"{RESULTS}/report.html",
    *IMAGE_FILES,
    *PRETRAINED,
    *IMMUNIZED,
    *(path.replace(".safetensors", ".parquet") for path in IMMUNIZED),
    *SPECTRUM.values(),
    *attack_files("runs"),
    *attack_files("curves"),
    *TABLE_FILES,
    *FIGURES,
]


making(
    [f"{RESULTS}/report.html"],
    ["immunization.networks.report"],
    templates("networks/report.html.jinja", "page.html.jinja", "macros.html.jinja"),
)


rule report_page:
    input:
        study=STUDY_FILE,
        tables=TABLE_FILES,
        figures=FIGURES,
        spectra=SPECTRUM["spectra"],
    output:
        report(
            f"{RESULTS}/report.html",
            caption="../../report/page.rst",
            category="Report",
        ),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{LOGS}/benchmark/report.jsonl"
    conda:
        "../../../envs/plotting.yaml"
    params:
        tables=lambda wildcards, input: os.path.dirname(input.tables[0]),
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.networks.report --study {input.study:q}"
        " --tables {params.tables:q} --figures {input.figures:q} --spectra {input.spectra:q}"
        " --out {output:q} 2> {log:q}"
