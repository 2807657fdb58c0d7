rule spectrum:
    input:
        tasks=TASKS,
        thetas=THETAS,
        code=source("spectrum.py"),
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
        gpu=min(GPU, 1),
    params:
        parameters=compact(STUDY["spectrum"]),
        code=fingerprint("immunization.spectrum"),
    shell:
        'exec "$PYTHON" -m immunization.spectrum --tasks {input.tasks:q} --thetas {input.thetas:q}'
        " --parameters {params.parameters:q} --spectra {output.spectra:q}"
        " --ratios {output.ratios:q} --threads {threads}"
        ' --device "$DEVICE" 2> {log:q}'
