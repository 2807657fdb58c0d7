making(
    [LIE.study], ["immunization.stages.study"], recorded(WHOLE["config"]) | {"raw": WHOLE["raw"]}
)


# The checked and completed config, for people, tools and the record.
rule study:
    input:
        what_lies_there,
    output:
        LIE.study,
    log:
        f"{LOGS}/study.log",
    benchmark:
        f"{LOGS}/benchmark/study.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        made_by=made_by,
    message:
        "study"
    shell:
        "stage {params.made_by:q} study 2> {log:q}"
