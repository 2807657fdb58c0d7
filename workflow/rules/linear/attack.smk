ATTACK_SETTINGS = {k: v for k, v in STUDY["attack"].items() if k != "flops_per_second"}
for dataset in DATASETS:
    for name, attackers in ATTACKERS.items():
        making(
            [f"{RESULTS}/attack/{dataset}.{name}.{kind}.parquet" for kind in ("steps", "curves")],
            [
                "immunization.attack",
                f"immunization.engines.{name}",
                *(f"immunization.attacks.{entry['use']}" for entry in attackers.values()),
            ],
            [attackers, ATTACK_SETTINGS],
        )


rule attack:
    input:
        tasks=f"{RESULTS}/tasks/{{dataset}}.safetensors",
        thetas=expand(f"{RESULTS}/immunized/{{method}}/{{{{dataset}}}}.safetensors", method=METHODS),
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
        settings=compact(ATTACK_SETTINGS),
        # Finished pieces, which a killed job goes on from: no output, so that they stay.
        progress=lambda wildcards: f"{RESULTS}/attack/progress/{wildcards.dataset}.{wildcards.engine}",
        made_by=made_by,
    shell:
        "stage {params.made_by:q} immunization.attack --engine {wildcards.engine}"
        " --attackers {params.attackers:q} --settings {params.settings:q}"
        " --tasks {input.tasks:q} --thetas {input.thetas:q} --progress {params.progress:q}"
        " --steps {output.steps:q} --curves {output.curves:q} --threads {threads}"
        ' --device "$DEVICE" 2> {log:q}'
