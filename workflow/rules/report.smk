making(
    [LIE.report],
    [
        f"immunization.{WING}.page",
        *(component(f"{WING}/tables", name).module for name in LIE.tables),
    ],
    texts(
        f"{WING}/page.html.jinja",
        "reporting/templates/frame.html.jinja",
        "reporting/templates/macros.html.jinja",
    ),
)


rule report_page:
    input:
        LIE.study,
        LIE.all_tables("csv", "md", "tex"),
        LIE.figure_files,
        REPORT_INPUT,
    output:
        report(LIE.report, caption="../report/page.rst", category="Report"),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{LOGS}/benchmark/report.jsonl"
    conda:
        "../../envs/plotting.yaml"
    params:
        made_by=made_by,
    message:
        "report"
    shell:
        "stage {params.made_by:q} report 2> {log:q}"
