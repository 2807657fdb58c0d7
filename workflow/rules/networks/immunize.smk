for label, entry in STUDY["methods"].items():
    making(
        [
            f"{RESULTS}/immunized/{label}/{setting}.{suffix}"
            for setting in SETTINGS
            for suffix in ("safetensors", "parquet")
        ],
        ["immunization.networks.immunize", f"immunization.networks.methods.{entry['use']}"],
        [entry, STUDY["primary"], STUDY["harmful"], STUDY["seeds"], EXACT],
    )


rule immunize:
    input:
        images=[
            f"{RESULTS}/images/{label}.safetensors"
            for label in (STUDY["primary"], *STUDY["harmful"])
        ],
        pretrained=PRETRAINED,
    output:
        expand(
            f"{RESULTS}/immunized/{{{{method}}}}/{{setting}}.{{suffix}}",
            setting=SETTINGS,
            suffix=("safetensors", "parquet"),
        ),
    log:
        f"{LOGS}/immunize/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmark/immunize/{{method}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 12000 * attempt,
        runtime=growing(240),
        gpu=GPU,
    params:
        use=lambda wildcards: STUDY["methods"][wildcards.method]["use"],
        parameters=lambda wildcards: compact(STUDY["methods"][wildcards.method]["parameters"]),
        primary=STUDY["primary"],
        harmful=STUDY["harmful"],
        seeds=compact(STUDY["seeds"]),
        exact=EXACT,
        progress=lambda wildcards: f"{RESULTS}/progress/immunize/{wildcards.method}",
        folder=lambda wildcards: f"{RESULTS}/immunized/{wildcards.method}",
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.networks.immunize --label {wildcards.method}"
        " --method {params.use} --parameters {params.parameters:q} --images {input.images:q}"
        " --primary {params.primary} --harmful {params.harmful} --pretrained {input.pretrained:q}"
        " --seeds {params.seeds:q} --progress {params.progress:q} --out {params.folder:q}"
        ' $THREADS{params.exact} $CHECKPOINT --device "$DEVICE" 2> {log:q}'
