from snakemake.utils import min_version

min_version("9.0")

# A --configfile stands for itself; without one the default study runs.
if not workflow.configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


# A study of networks has a key `networks`; the other shape is linear.
if "networks" in config:

    include: "workflow/rules/networks/common.smk"
    include: "workflow/rules/study.smk"
    include: "workflow/rules/networks/prepare.smk"
    include: "workflow/rules/networks/pretrain.smk"
    include: "workflow/rules/networks/immunize.smk"
    include: "workflow/rules/networks/spectrum.smk"
    include: "workflow/rules/networks/attack.smk"
    include: "workflow/rules/networks/tables.smk"
    include: "workflow/rules/networks/figures.smk"
    include: "workflow/rules/networks/report.smk"

else:

    include: "workflow/rules/linear.smk"
    include: "workflow/rules/study.smk"
    include: "workflow/rules/data.smk"
    include: "workflow/rules/immunize.smk"
    include: "workflow/rules/spectrum.smk"
    include: "workflow/rules/attack.smk"
    include: "workflow/rules/tables.smk"
    include: "workflow/rules/figures.smk"
    include: "workflow/rules/report.smk"


include: "workflow/rules/manifest.smk"


# Each takes seconds: where Snakemake runs, also on a cluster.
localrules:
    study,
    tables,
    report_page,
    manifest,


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        f"{RESULTS}/SHA256SUMS",
        RESULT_FILES,
        FIGURES,
