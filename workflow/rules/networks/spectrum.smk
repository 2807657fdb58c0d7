making(
    SPECTRUM.values(),
    ["immunization.networks.spectrum"],
    [STUDY["primary"], STUDY["harmful"], STUDY["third"], STUDY["spectrum"], EXACT],
)


rule spectrum:
    input:
        images=IMAGE_FILES,
        pretrained=PRETRAINED,
        immunized=IMMUNIZED,
    output:
        spectra=f"{RESULTS}/spectrum/spectra.parquet",
        densities=f"{RESULTS}/spectrum/densities.parquet",
    log:
        f"{LOGS}/spectrum.log",
    benchmark:
        f"{LOGS}/benchmark/spectrum.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=growing(240),
        gpu=GPU,
    params:
        primary=STUDY["primary"],
        harmful=STUDY["harmful"],
        third=STUDY["third"],
        parameters=compact(STUDY["spectrum"]),
        exact=EXACT,
        progress=f"{RESULTS}/progress/spectrum",
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.networks.spectrum --images {input.images:q}"
        " --primary {params.primary} --harmful {params.harmful} --third {params.third}"
        " --pretrained {input.pretrained:q} --immunized {input.immunized:q}"
        " --parameters {params.parameters:q} --progress {params.progress:q}"
        " --spectra {output.spectra:q} --densities {output.densities:q}"
        ' $THREADS{params.exact} --device "$DEVICE" 2> {log:q}'
