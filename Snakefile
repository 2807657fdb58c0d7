from snakemake.utils import min_version

min_version("9.0")

# A --configfile stands for itself; without one the default study runs.
if not workflow.configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: f"workflow/rules/{WING}/common.smk"
include: "workflow/rules/study.smk"
include: f"workflow/rules/{WING}/prepare.smk"


if WING == "networks":

    include: "workflow/rules/networks/pretrain.smk"


include: f"workflow/rules/{WING}/immunize.smk"
include: f"workflow/rules/{WING}/spectrum.smk"
include: f"workflow/rules/{WING}/attack.smk"
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
        LIE.report,
        LIE.sums,
        LIE.all_tables("csv"),
        LIE.numbers(),
        LIE.figure_files,
