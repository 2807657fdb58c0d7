rule prepare:
    input:
        source("prepare.py"),
        lambda wildcards: source(f"datasets/{STUDY['datasets'][wildcards.dataset]['source']}.py"),
        lambda wildcards: own_files(wildcards.dataset),
    output:
        f"{RESULTS}/tasks/{{dataset}}.safetensors",
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    benchmark:
        f"{LOGS}/benchmark/prepare/{{dataset}}.jsonl"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=growing(60),
    params:
        source=lambda wildcards: STUDY["datasets"][wildcards.dataset]["source"],
        parameters=lambda wildcards: compact(STUDY["datasets"][wildcards.dataset]["parameters"]),
        seeds=compact(STUDY["seeds"]),
        intercept=compact(STUDY["spectrum"]["intercept"]),
        code=lambda wildcards: fingerprint(
            "immunization.prepare",
            f"immunization.datasets.{STUDY['datasets'][wildcards.dataset]['source']}",
        ),
    shell:
        'exec "$PYTHON" -m immunization.prepare --name {wildcards.dataset} --source {params.source}'
        " --parameters {params.parameters:q} --seeds {params.seeds:q} --intercept {params.intercept:q}"
        ' --mirror "$MIRROR" --cache "$CACHE" --threads {threads} --out {output:q} 2> {log:q}'
