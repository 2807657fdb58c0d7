for label, entry in STUDY["attacks"].items():
    making(
        LIE.attack(label),
        ["immunization.networks.attack", component("networks/attacks", entry["use"]).module],
        [entry, attack_settings(STUDY), STUDY["third_tasks"], EXACT],
    )


rule attack:
    input:
        LIE.all_images(),
        LIE.all_pretrained(),
        LIE.all_immunized(),
    output:
        LIE.attack("{attack}"),
    log:
        f"{LOGS}/attack/{{attack}}.log",
    benchmark:
        f"{LOGS}/benchmark/attack/{{attack}}.jsonl"
    conda:
        "../../../envs/networks.yaml"
    threads: STUDY["threads"]
    resources:
        **needs(16000, 240, gpu=GPU),
    params:
        made_by=made_by,
    message:
        "attack {wildcards.attack}"
    shell:
        "stage {params.made_by:q} attack {wildcards.attack} 2> {log:q}"
