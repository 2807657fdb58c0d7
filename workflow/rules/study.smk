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
        mem_mb=lambda wildcards, attempt: 100 * attempt,
        runtime=growing(5),
    params:
        # In the order of the config, which tables and figures follow. `raw` is what the files say,
        # from which an archive makes a config of its own.
        study=compact(
            {
                "config": RECORDED,
                "order": ORDER,
                "raw": {key: value for key, value in config.items() if key not in SITE},
            },
            sort_keys=False,
        ),
        code=fingerprint("immunization.study"),
    shell:
        'exec "$PYTHON" -m immunization.study --study {params.study:q} --out {output:q} 2> {log:q}'
