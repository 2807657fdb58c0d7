making([LIE.spectra, LIE.ratios], ["immunization.linear.spectra"], STUDY["spectrum"])


rule spectrum:
    input:
        LIE.all_tasks(),
        LIE.all_thetas(),
    output:
        LIE.spectra,
        LIE.ratios,
    log:
        f"{LOGS}/spectrum.log",
    benchmark:
        f"{LOGS}/benchmark/spectrum.jsonl"
    conda:
        "../../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(8000, 240, gpu=GPU),
    params:
        made_by=made_by,
    message:
        "spectrum"
    shell:
        "stage {params.made_by:q} spectrum --threads {threads} 2> {log:q}"
