for label, entry in STUDY["methods"].items():
    making(
        [*LIE.thetas(label), *LIE.trajectories(label)],
        ["immunization.linear.immunize", component("linear/methods", entry["use"]).module],
        entry,
    )


rule immunize:
    input:
        LIE.all_tasks(),
    output:
        LIE.thetas("{method}"),
        LIE.trajectories("{method}"),
    log:
        f"{LOGS}/immunize/{{method}}.log",
    benchmark:
        f"{LOGS}/benchmark/immunize/{{method}}.jsonl"
    conda:
        "../../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(6000, 240, per_thread=2500, gpu=GPU),
    params:
        made_by=made_by,
    message:
        "immunize {wildcards.method}"
    shell:
        "stage {params.made_by:q} immunize {wildcards.method} --threads {threads} 2> {log:q}"
