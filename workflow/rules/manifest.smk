making([LIE.sums, LIE.provenance], ["immunization.stages.manifest"])


# Sums and provenance of every result, tasks and extractors included.
rule manifest:
    input:
        LIE.everything(),
    output:
        LIE.sums,
        LIE.provenance,
    log:
        f"{LOGS}/manifest.log",
    benchmark:
        f"{LOGS}/benchmark/manifest.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        made_by=made_by,
    message:
        "manifest"
    shell:
        "stage {params.made_by:q} manifest 2> {log:q}"
