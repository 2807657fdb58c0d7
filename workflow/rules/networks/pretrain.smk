for label, entry in STUDY["networks"].items():
    making(
        [f"{RESULTS}/pretrained/{label}.safetensors"],
        ["immunization.networks.pretrain", f"immunization.networks.backbones.{entry['use']}"],
        [entry, STUDY["seeds"][0], EXACT],
        [entry["parameters"].get("weights")],
    )


rule pretrain:
    input:
        images=f"{RESULTS}/images/{STUDY['primary']}.safetensors",
    output:
        f"{RESULTS}/pretrained/{{network}}.safetensors",
    log:
        f"{LOGS}/pretrain/{{network}}.log",
    benchmark:
        f"{LOGS}/benchmark/pretrain/{{network}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 12000 * attempt,
        runtime=growing(240),
        gpu=GPU,
    params:
        use=lambda wildcards: STUDY["networks"][wildcards.network]["use"],
        parameters=lambda wildcards: compact(STUDY["networks"][wildcards.network]["parameters"]),
        seed=STUDY["seeds"][0],
        exact=EXACT,
        # Checkpoints, which a killed job goes on from: no output, so that they stay.
        progress=lambda wildcards: f"{RESULTS}/progress/pretrain/{wildcards.network}",
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.networks.pretrain --name {wildcards.network} --use {params.use}"
        " --parameters {params.parameters:q} --images {input.images:q} --seed {params.seed}"
        " --progress {params.progress:q} --out {output:q} $THREADS{params.exact}"
        ' $CHECKPOINT --device "$DEVICE" 2> {log:q}'
