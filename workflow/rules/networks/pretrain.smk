for label, entry in STUDY["networks"].items():
    making(
        [LIE.pretrained(label)],
        [
            "immunization.networks.pretrain",
            component("networks/backbones", entry["use"]).module,
            *code_of(entry["parameters"]),
        ],
        [entry, STUDY["primary"], STUDY["seeds"][0], EXACT],
        [entry["parameters"].get("weights")],
    )


rule pretrain:
    input:
        LIE.images(STUDY["primary"]),
    output:
        LIE.pretrained("{network}"),
    log:
        f"{LOGS}/pretrain/{{network}}.log",
    benchmark:
        f"{LOGS}/benchmark/pretrain/{{network}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(12000, 240, gpu=GPU),
    params:
        made_by=made_by,
    message:
        "pretrain {wildcards.network}"
    shell:
        "stage {params.made_by:q} pretrain {wildcards.network} 2> {log:q}"
