rule attack:
    input:
        tasks=TASKS,
        thetas=THETAS,
        code=source("attack.py"),
        component=lambda wildcards: source(f"attacks/{wildcards.family}.py"),
    output:
        steps=f"{RESULTS}/attack/{{family}}.steps.parquet",
        curves=f"{RESULTS}/attack/{{family}}.curves.parquet",
    log:
        f"{LOGS}/attack/{{family}}.log",
    benchmark:
        f"{LOGS}/benchmark/attack/{{family}}.jsonl"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
        gpu=GPU,
    params:
        attackers=lambda wildcards: compact(
            {
                label: entry["parameters"]
                for label, entry in STUDY["attacks"].items()
                if entry["use"] == wildcards.family
            }
        ),
        plan=compact(STUDY["attack"]),
        code=lambda wildcards: fingerprint(
            "immunization.attack", f"immunization.attacks.{wildcards.family}"
        ),
    shell:
        '"$PYTHON" -m immunization.attack --family {wildcards.family}'
        " --attackers {params.attackers:q} --plan {params.plan:q}"
        " --tasks {input.tasks:q} --thetas {input.thetas:q}"
        " --steps {output.steps:q} --curves {output.curves:q}"
        ' --device "$DEVICE" 2> {log:q}'
