for label, entry in STUDY["methods"].items():
    making(
        [*LIE.immunized(label), *LIE.trajectories(label)],
        ["immunization.networks.immunize", component("networks/methods", entry["use"]).module],
        [entry, STUDY["primary"], STUDY["harmful"], STUDY["seeds"], EXACT],
    )


rule immunize:
    input:
        [LIE.images(name) for name in (STUDY["primary"], *STUDY["harmful"])],
        LIE.all_pretrained(),
    output:
        LIE.immunized("{method}"),
        LIE.trajectories("{method}"),
    log:
        f"{LOGS}/immunize/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmark/immunize/{{method}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(12000, 240, gpu=GPU),
    params:
        made_by=made_by,
    message:
        "immunize {wildcards.method}"
    shell:
        "stage {params.made_by:q} immunize {wildcards.method} 2> {log:q}"
