for label, entry in STUDY["images"].items():
    making(
        [f"{RESULTS}/images/{label}.safetensors"],
        ["immunization.networks.prepare", f"immunization.networks.images.{entry['source']}"],
        [entry, STUDY["size"]],
        [entry["parameters"].get("path")],
    )


rule prepare:
    input:
        what_lies_there,
    output:
        f"{RESULTS}/images/{{images}}.safetensors",
    log:
        f"{LOGS}/prepare/{{images}}.log",
    benchmark:
        f"{LOGS}/benchmark/prepare/{{images}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 12000 * attempt,
        runtime=growing(240),
    params:
        source=lambda wildcards: STUDY["images"][wildcards.images]["source"],
        parameters=lambda wildcards: compact(STUDY["images"][wildcards.images]["parameters"]),
        size=STUDY["size"],
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.networks.prepare --name {wildcards.images}"
        " --source {params.source} --parameters {params.parameters:q} --size {params.size}"
        ' --mirror "$MIRROR" --cache "$CACHE" --out {output:q} 2> {log:q}'
