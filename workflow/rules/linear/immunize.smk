for label, entry in STUDY["methods"].items():
    making(
        [
            f"{RESULTS}/immunized/{label}/{dataset}.{suffix}"
            for dataset in DATASETS
            for suffix in ("safetensors", "parquet")
        ],
        ["immunization.immunize", f"immunization.methods.{entry['use']}"],
        entry,
    )


rule immunize:
    input:
        tasks=TASKS,
    output:
        thetas=expand(
            f"{RESULTS}/immunized/{{{{method}}}}/{{dataset}}.safetensors", dataset=DATASETS
        ),
        trajectories=expand(
            f"{RESULTS}/immunized/{{{{method}}}}/{{dataset}}.parquet", dataset=DATASETS
        ),
    log:
        f"{LOGS}/immunize/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmark/immunize/{{method}}.jsonl"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, threads, attempt: (6000 + 2500 * threads) * attempt,
        runtime=growing(240),
        gpu=GPU,
    params:
        use=lambda wildcards: STUDY["methods"][wildcards.method]["use"],
        parameters=lambda wildcards: compact(STUDY["methods"][wildcards.method]["parameters"]),
        # Finished batches, which a killed job goes on from: no output, so that they stay.
        progress=lambda wildcards: f"{RESULTS}/progress/immunize/{wildcards.method}",
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.immunize --label {wildcards.method} --method {params.use}"
        " --parameters {params.parameters:q} --tasks {input.tasks:q} --out {output.thetas:q}"
        " --trajectories {output.trajectories:q} --progress {params.progress:q} --threads {threads}"
        ' $CHECKPOINT --device "$DEVICE" 2> {log:q}'
