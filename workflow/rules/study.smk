localrules:
    study,


# The checked and completed config, for the stages that order and explain, and for the record.
rule study:
    output:
        f"{RESULTS}/study.json",
    log:
        f"{LOGS}/study.log",
    benchmark:
        f"{LOGS}/benchmark/study.jsonl"
    conda:
        "../../envs/plotting.yaml"
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        # In the order of the config, which tables and figures follow.
        study=json.dumps(
            {
                # What results do not depend on is left out, so that a change of it reruns nothing.
                "config": {
                    k: v
                    for k, v in STUDY.items()
                    if k not in ("device", "threads", "data", "checkpoint_seconds")
                },
                "order": ORDER,
            }
        ),
    shell:
        "printf '%s\\n' {params.study:q} > {output:q} 2> {log:q}"
