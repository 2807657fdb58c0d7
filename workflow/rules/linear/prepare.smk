for label, entry in STUDY["datasets"].items():
    making(
        [LIE.tasks(label)],
        ["immunization.linear.prepare", component("linear/datasets", entry["source"]).module],
        [entry, STUDY["seeds"], STUDY["spectrum"]["intercept"]],
        [path for key, path in entry["parameters"].items() if key in FILES],
    )


rule prepare:
    input:
        what_lies_there,
    output:
        LIE.tasks("{dataset}"),
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    benchmark:
        f"{LOGS}/benchmark/prepare/{{dataset}}.jsonl"
    conda:
        "../../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(4000, 60),
    params:
        made_by=made_by,
    message:
        "prepare {wildcards.dataset}"
    shell:
        "stage {params.made_by:q} prepare {wildcards.dataset} --threads {threads} 2> {log:q}"
