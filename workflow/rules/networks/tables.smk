localrules:
    tables,


TABLES = ("table3", "spectra", "attacks", "resistance", "hessians", "claims")
# All that is no figure and not the report.
RESULT_FILES = [
    *expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),
    *rules.spectrum.output,
    *attack_files("runs"),
    *attack_files("curves"),
]


rule tables:
    input:
        study=rules.study.output[0],
        spectra=rules.spectrum.output.spectra,
        densities=rules.spectrum.output.densities,
        curves=attack_files("curves"),
        published=os.path.relpath(ROOT / "config" / "published_networks.csv"),
        code=[source("networks/tables.py"), source("networks/resistance.py")],
    output:
        report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),
            caption="../../report/table.rst",
            category="Tables",
            labels=lambda wildcards, output: {"format": "CSV"},
        ),
        expand(f"{RESULTS}/tables/{{table}}.{{suffix}}", table=TABLES, suffix=("md", "tex")),
    log:
        f"{LOGS}/tables.log",
    benchmark:
        f"{LOGS}/benchmark/tables.jsonl"
    conda:
        "../../../envs/plotting.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=growing(30),
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        code=fingerprint("immunization.networks.tables"),
    shell:
        'exec "$PYTHON" -m immunization.networks.tables --spectra {input.spectra:q}'
        " --densities {input.densities:q} --curves {input.curves:q}"
        " --published {input.published:q} --study {input.study:q}"
        " --folder {params.folder:q} 2> {log:q}"
