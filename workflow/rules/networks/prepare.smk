for label, entry in STUDY["datasets"].items():
    making(
        [LIE.images(label)],
        ["immunization.networks.prepare", component("networks/datasets", entry["source"]).module],
        [entry, STUDY["size"]],
        [entry["parameters"].get("path")],
    )


rule prepare:
    input:
        what_lies_there,
    output:
        LIE.images("{dataset}"),
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    benchmark:
        f"{LOGS}/benchmark/prepare/{{dataset}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: 1
    resources:
        **needs(12000, 240),
    params:
        made_by=made_by,
    message:
        "prepare {wildcards.dataset}"
    shell:
        "stage {params.made_by:q} prepare {wildcards.dataset} 2> {log:q}"
