making(
    [LIE.spectra, LIE.densities],
    ["immunization.networks.spectra"],
    [STUDY["primary"], STUDY["harmful"], STUDY["third_tasks"], STUDY["spectrum"], EXACT],
)


rule spectrum:
    input:
        LIE.all_images(),
        LIE.all_pretrained(),
        LIE.all_immunized(),
    output:
        LIE.spectra,
        LIE.densities,
    log:
        f"{LOGS}/spectrum.log",
    benchmark:
        f"{LOGS}/benchmark/spectrum.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(16000, 240, gpu=GPU),
    params:
        made_by=made_by,
    message:
        "spectrum"
    shell:
        "stage {params.made_by:q} spectrum 2> {log:q}"
