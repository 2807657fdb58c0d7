ATTACK_SETTINGS = {k: v for k, v in STUDY["attack"].items() if "target" not in k}
for label, entry in STUDY["attacks"].items():
    making(
        [f"{RESULTS}/attack/{label}.{kind}.parquet" for kind in ("runs", "curves")],
        ["immunization.networks.attack", f"immunization.networks.attacks.{entry['use']}"],
        [entry, ATTACK_SETTINGS, STUDY["third"], EXACT],
    )


rule attack:
    input:
        images=IMAGE_FILES,
        pretrained=PRETRAINED,
        immunized=IMMUNIZED,
    output:
        runs=f"{RESULTS}/attack/{{attack}}.runs.parquet",
        curves=f"{RESULTS}/attack/{{attack}}.curves.parquet",
    log:
        f"{LOGS}/attack/{{attack}}.log",
    benchmark:
        f"{LOGS}/benchmark/attack/{{attack}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=growing(240),
        gpu=GPU,
    params:
        use=lambda wildcards: STUDY["attacks"][wildcards.attack]["use"],
        parameters=lambda wildcards: compact(STUDY["attacks"][wildcards.attack]["parameters"]),
        settings=compact(ATTACK_SETTINGS),
        third=STUDY["third"],
        exact=EXACT,
        progress=lambda wildcards: f"{RESULTS}/progress/attack/{wildcards.attack}",
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.networks.attack --label {wildcards.attack}"
        " --attack {params.use} --parameters {params.parameters:q}"
        " --settings {params.settings:q} --images {input.images:q} --third {params.third}"
        " --pretrained {input.pretrained:q} --immunized {input.immunized:q}"
        " --progress {params.progress:q} --runs {output.runs:q} --curves {output.curves:q}"
        ' $THREADS{params.exact} --device "$DEVICE" 2> {log:q}'
