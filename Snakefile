from snakemake.utils import min_version

min_version("9.0")

# A --configfile stands for itself; without one the default study runs.
if not workflow.configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/study.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/immunize.smk"
include: "workflow/rules/spectrum.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        rules.tables.output,
        rules.spectrum.output,
        attack_files("steps"),
        attack_files("curves"),
        FIGURES,
