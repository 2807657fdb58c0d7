TABLES = f"{WING}/tables"
making(
    LIE.all_tables("csv", "md", "tex"),
    [
        "immunization.reporting.table",
        *(component(f"{WING}/tables", name).module for name in LIE.tables),
    ],
    [WHOLE["order"], STUDY["attack"], STUDY.get("primary"), TABLE_CONTENTS],
)


rule tables:
    input:
        LIE.study,
        FIGURE_INPUTS,
    output:
        report(
            LIE.all_tables("csv"),
            caption="../report/table.rst",
            category="Tables",
            labels=lambda wildcards, output: {"format": "CSV"},
        ),
        LIE.all_tables("md", "tex"),
    log:
        f"{LOGS}/tables.log",
    benchmark:
        f"{LOGS}/benchmark/tables.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        made_by=made_by,
    message:
        "tables"
    shell:
        "stage {params.made_by:q} tables 2> {log:q}"
