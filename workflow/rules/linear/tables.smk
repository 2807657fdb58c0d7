TABLES = (
    "ratios",
    "definition",
    "resistance",
    "attacks",
    "measures",
    "prediction",
    "accuracy",
    "steps",
    "replication",
)
TABLE_FILES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}", table=TABLES, suffix=("csv", "md", "tex")
)
# All that is no figure and not the report.
RESULT_FILES = [
    *expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),
    *SPECTRUM.values(),
    *attack_files("steps"),
    *attack_files("curves"),
]


making(TABLE_FILES, ["immunization.tables"])


rule tables:
    input:
        study=STUDY_FILE,
        ratios=SPECTRUM["ratios"],
        steps=attack_files("steps"),
        curves=attack_files("curves"),
        trajectories=TRAJECTORIES,
        published=os.path.relpath(ROOT / "config" / "published.csv"),
        grids=os.path.relpath(ROOT / "config" / "published_fig2.csv"),
    output:
        report(
            expand(
                f"{RESULTS}/tables/{{table}}.csv",
                table=TABLES,
            ),
            caption="../report/table.rst",
            category="Tables",
            labels=lambda wildcards, output: {"format": "CSV"},
        ),
        expand(
            f"{RESULTS}/tables/{{table}}.{{suffix}}",
            table=TABLES,
            suffix=("md", "tex"),
        ),
    log:
        f"{LOGS}/tables.log",
    benchmark:
        f"{LOGS}/benchmark/tables.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.tables --ratios {input.ratios:q} --steps {input.steps:q}"
        " --curves {input.curves:q} --published {input.published:q} --grids {input.grids:q}"
        " --trajectories {input.trajectories:q} --study {input.study:q}"
        " --folder {params.folder:q} 2> {log:q}"
