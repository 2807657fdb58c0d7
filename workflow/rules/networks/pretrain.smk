rule pretrain:
    input:
        images=f"{RESULTS}/images/{STUDY['primary']}.safetensors",
        code=source("networks/pretrain.py"),
        component=lambda wildcards: source(
            f"networks/backbones/{STUDY['networks'][wildcards.network]['use']}.py"
        ),
        weights=lambda wildcards: own_file(STUDY["networks"][wildcards.network], "weights"),
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
        gpu=min(GPU, 1),
    params:
        use=lambda wildcards: STUDY["networks"][wildcards.network]["use"],
        parameters=lambda wildcards: compact(STUDY["networks"][wildcards.network]["parameters"]),
        seed=STUDY["seeds"][0],
        exact=EXACT,
        # Checkpoints, which a killed job goes on from: no output, so that they stay.
        progress=lambda wildcards: f"{RESULTS}/progress/pretrain/{wildcards.network}",
        code=lambda wildcards: fingerprint(
            "immunization.networks.pretrain",
            f"immunization.networks.backbones.{STUDY['networks'][wildcards.network]['use']}",
        ),
    shell:
        'exec "$PYTHON" -m immunization.networks.pretrain --name {wildcards.network} --use {params.use}'
        " --parameters {params.parameters:q} --images {input.images:q} --seed {params.seed}"
        " --progress {params.progress:q} --out {output:q} $THREADS{params.exact}"
        ' $CHECKPOINT --device "$DEVICE" 2> {log:q}'
