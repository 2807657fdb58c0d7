rule attack:
    input:
        tasks=f"{RESULTS}/tasks/{{dataset}}.safetensors",
        thetas=expand(f"{RESULTS}/immunized/{{method}}/{{{{dataset}}}}.safetensors", method=METHODS),
        code=[source("attack.py"), source("progress.py")],
        component=lambda wildcards: [
            source(f"engines/{wildcards.engine}.py"),
            *(
                source(f"attacks/{use}.py")
                for use in sorted({entry["use"] for entry in ATTACKERS[wildcards.engine].values()})
            ),
        ],
    output:
        steps=f"{RESULTS}/attack/{{dataset}}.{{engine}}.steps.parquet",
        curves=f"{RESULTS}/attack/{{dataset}}.{{engine}}.curves.parquet",
    log:
        f"{LOGS}/attack/{{dataset}}.{{engine}}.log",
    benchmark:
        f"{LOGS}/benchmark/attack/{{dataset}}.{{engine}}.jsonl"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        mem_mb=lambda wildcards, threads, attempt: (6000 + 2000 * threads) * attempt,
        runtime=growing(240),
        gpu=GPU,
    params:
        attackers=lambda wildcards: compact(ATTACKERS[wildcards.engine]),
        settings=compact({k: v for k, v in STUDY["attack"].items() if k != "flops_per_second"}),
        # Finished pieces, which a killed job goes on from: no output, so that they stay.
        progress=lambda wildcards: f"{RESULTS}/attack/progress/{wildcards.dataset}.{wildcards.engine}",
        code=lambda wildcards: fingerprint(
            "immunization.attack",
            f"immunization.engines.{wildcards.engine}",
            *(
                f"immunization.attacks.{entry['use']}"
                for entry in ATTACKERS[wildcards.engine].values()
            ),
        ),
    shell:
        'exec "$PYTHON" -m immunization.attack --engine {wildcards.engine}'
        " --attackers {params.attackers:q} --settings {params.settings:q}"
        " --tasks {input.tasks:q} --thetas {input.thetas:q} --progress {params.progress:q}"
        " --steps {output.steps:q} --curves {output.curves:q} --threads {threads}"
        ' --device "$DEVICE" 2> {log:q}'
