rule prepare:
    input:
        source("networks/prepare.py"),
        lambda wildcards: source(
            f"networks/images/{STUDY['images'][wildcards.images]['source']}.py"
        ),
        lambda wildcards: own_file(STUDY["images"][wildcards.images], "path"),
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
        code=lambda wildcards: fingerprint(
            "immunization.networks.prepare",
            f"immunization.networks.images.{STUDY['images'][wildcards.images]['source']}",
        ),
    shell:
        'exec "$PYTHON" -m immunization.networks.prepare --name {wildcards.images}'
        " --source {params.source} --parameters {params.parameters:q} --size {params.size}"
        ' --mirror "$MIRROR" --cache "$CACHE" --out {output:q} 2> {log:q}'
