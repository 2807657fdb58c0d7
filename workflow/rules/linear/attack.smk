for dataset in LIE.datasets:
    for name, attackers in LIE.engines.items():
        families = {component("linear/attacks", e["use"]).module for e in attackers.values()}
        making(
            LIE.attack(dataset, name),
            [
                "immunization.linear.attack",
                f"immunization.linear.engines.{name}",
                *sorted(families),
            ],
            [attackers, attack_settings(STUDY)],
        )


rule attack:
    input:
        LIE.tasks("{dataset}"),
        LIE.thetas_on("{dataset}"),
    output:
        LIE.attack("{dataset}", "{engine}"),
    log:
        f"{LOGS}/attack/{{dataset}}.{{engine}}.log",
    benchmark:
        f"{LOGS}/benchmark/attack/{{dataset}}.{{engine}}.jsonl"
    conda:
        "../../../envs/torch.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(6000, 240, per_thread=2000, gpu=GPU),
    params:
        made_by=made_by,
    message:
        "attack {wildcards.dataset} {wildcards.engine}"
    shell:
        "stage {params.made_by:q} attack {wildcards.dataset} {wildcards.engine} --threads {threads} 2> {log:q}"
