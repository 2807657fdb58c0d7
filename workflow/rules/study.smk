localrules:
    study,


# The checked and completed config, for the stages that order and explain, and for the record.
rule study:
    output:
        f"{RESULTS}/study.json",
    params:
        study=compact({"config": STUDY, "order": ORDER}),
    log:
        f"{LOGS}/study.log",
    benchmark:
        f"{LOGS}/benchmark/study.jsonl"
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    conda:
        "../../envs/plotting.yaml"
    shell:
        "printf '%s\\n' {params.study:q} > {output:q} 2> {log:q}"
