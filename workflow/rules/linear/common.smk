wildcard_constraints:
    dataset="|".join(LIE.datasets),
    method="|".join(LIE.methods),
    engine="|".join(LIE.engines),


TABLE_CONTENTS = texts("linear/tables/published.csv", "linear/tables/published_fig2.csv")
FIGURE_INPUTS = [*LIE.numbers(), *LIE.all_trajectories()]
REPORT_INPUT = LIE.ratios
