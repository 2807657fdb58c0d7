making([f"{RESULTS}/SHA256SUMS", f"{RESULTS}/provenance.json"], ["immunization.manifest"])


# Sums and provenance of every result, tasks and extractors included.
rule manifest:
    input:
        files=MANIFEST_FILES,
    output:
        sums=f"{RESULTS}/SHA256SUMS",
        provenance=f"{RESULTS}/provenance.json",
    log:
        f"{LOGS}/manifest.log",
    benchmark:
        f"{LOGS}/benchmark/manifest.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output.sums),
        files=lambda wildcards, input: compact(list(input.files)),
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.manifest --folder {params.folder:q} --files {params.files:q}"
        " --sums {output.sums:q} --provenance {output.provenance:q} 2> {log:q}"
