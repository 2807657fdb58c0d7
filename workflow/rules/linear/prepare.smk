for label, entry in STUDY["datasets"].items():
    making(
        [f"{RESULTS}/tasks/{label}.safetensors"],
        ["immunization.prepare", f"immunization.datasets.{entry['source']}"],
        [entry, STUDY["seeds"], STUDY["spectrum"]["intercept"]],
        [entry["parameters"].get("path")],
    )


rule prepare:
    input:
        what_lies_there,
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
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.prepare --name {wildcards.dataset} --source {params.source}"
        " --parameters {params.parameters:q} --seeds {params.seeds:q} --intercept {params.intercept:q}"
        ' --mirror "$MIRROR" --cache "$CACHE" --threads {threads} --out {output:q} 2> {log:q}'
