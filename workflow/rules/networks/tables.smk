TABLES = ("table3", "spectra", "attacks", "resistance", "hessians", "claims")
TABLE_FILES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}", table=TABLES, suffix=("csv", "md", "tex")
)
# All that is no figure and not the report.
RESULT_FILES = [
    *expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),
    *SPECTRUM.values(),
    *attack_files("runs"),
    *attack_files("curves"),
]


making(TABLE_FILES, ["immunization.networks.tables"])


rule tables:
    input:
        study=STUDY_FILE,
        spectra=SPECTRUM["spectra"],
        densities=SPECTRUM["densities"],
        curves=attack_files("curves"),
        published=os.path.relpath(ROOT / "config" / "published_networks.csv"),
    output:
        report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),
            caption="../../report/table.rst",
            category="Tables",
            labels=lambda wildcards, output: {"format": "CSV"},
        ),
        expand(f"{RESULTS}/tables/{{table}}.{{suffix}}", table=TABLES, suffix=("md", "tex")),
    log:
        f"{LOGS}/tables.log",
    benchmark:
        f"{LOGS}/benchmark/tables.jsonl"
    conda:
        "../../../envs/plotting.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.networks.tables --spectra {input.spectra:q}"
        " --densities {input.densities:q} --curves {input.curves:q}"
        " --published {input.published:q} --study {input.study:q}"
        " --folder {params.folder:q} 2> {log:q}"
