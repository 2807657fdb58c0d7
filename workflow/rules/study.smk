# `raw` is what the files say, from which an archive makes a config of its own.
WHOLE_STUDY = {
    "config": RECORDED,
    "order": ORDER,
    "raw": {key: value for key, value in config.items() if key not in SITE},
}
making([STUDY_FILE], ["immunization.study"], WHOLE_STUDY)


# The checked and completed config, for the stages that order and explain, and for the record.
rule study:
    input:
        what_lies_there,
    output:
        f"{RESULTS}/study.json",
    log:
        f"{LOGS}/study.log",
    benchmark:
        f"{LOGS}/benchmark/study.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        # In the order of the config, which tables and figures follow.
        study=compact(WHOLE_STUDY, sort_keys=False),
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.study --study {params.study:q} --out {output:q} 2> {log:q}"
