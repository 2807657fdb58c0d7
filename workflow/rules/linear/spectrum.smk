making(SPECTRUM.values(), ["immunization.spectrum"], STUDY["spectrum"])


rule spectrum:
    input:
        tasks=TASKS,
        thetas=THETAS,
    output:
        spectra=f"{RESULTS}/spectrum/spectra.parquet",
        ratios=f"{RESULTS}/spectrum/ratios.parquet",
    log:
        f"{LOGS}/spectrum.log",
    benchmark:
        f"{LOGS}/benchmark/spectrum.jsonl"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=growing(240),
        gpu=GPU,
    params:
        parameters=compact(STUDY["spectrum"]),
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.spectrum --tasks {input.tasks:q} --thetas {input.thetas:q}"
        " --parameters {params.parameters:q} --spectra {output.spectra:q}"
        " --ratios {output.ratios:q} --threads {threads}"
        ' --device "$DEVICE" 2> {log:q}'
