rule attack:
    input:
        images=IMAGE_FILES,
        pretrained=PRETRAINED,
        immunized=IMMUNIZED,
        code=[source("networks/attack.py"), source("progress.py")],
        component=lambda wildcards: source(
            f"networks/attacks/{STUDY['attacks'][wildcards.attack]['use']}.py"
        ),
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
        settings=compact({k: v for k, v in STUDY["attack"].items() if "target" not in k}),
        third=STUDY["third"],
        exact=EXACT,
        progress=lambda wildcards: f"{RESULTS}/progress/attack/{wildcards.attack}",
        code=lambda wildcards: fingerprint(
            "immunization.networks.attack",
            f"immunization.networks.attacks.{STUDY['attacks'][wildcards.attack]['use']}",
        ),
    shell:
        'exec "$PYTHON" -m immunization.networks.attack --label {wildcards.attack}'
        " --attack {params.use} --parameters {params.parameters:q}"
        " --settings {params.settings:q} --images {input.images:q} --third {params.third}"
        " --pretrained {input.pretrained:q} --immunized {input.immunized:q}"
        " --progress {params.progress:q} --runs {output.runs:q} --curves {output.curves:q}"
        ' $THREADS{params.exact} --device "$DEVICE" 2> {log:q}'
