"""What each table shows, for a reader who does not know the paper."""

from __future__ import annotations

TABLES = {
    "ratios": (
        "Condition numbers after immunization over those before, one row a method. "
        "(i) harmful task, wanted large; (ii) benign task, wanted at most 1; RIR = (i)/(ii), "
        "wanted large. Means over pairs, ± standard deviation over seeds; a few pairs can carry "
        "a mean, so the median stands beside it. The released κ is that of the paper's code, with "
        "the share of pairs on which it is its own floor; the ridge κ adds a small multiple of the "
        "largest eigenvalue. The limit is the RIR that no invertible linear extractor exceeds, for "
        "a squared-loss probe without an intercept, and beside it for one with an intercept; "
        "optimality is log RIR over log limit, on pairs where the limit is finite."
    ),
    "definition": (
        "On how many pairs of tasks each part of the paper's Definition 3.1 is met (mean over "
        "seeds): (a) the harmful condition number grew by the factor that the config names, "
        "(b) the benign one did not grow, (c) the best loss on the benign task is kept. Two "
        "weaker readings of success stand beside it. κ is resolved where every non-zero eigenvalue "
        "stands above the round-off of float64; elsewhere θ is numerically singular and κ a number "
        "without meaning beyond 'very large'."
    ),
    "resistance": (
        "The best attacker against the immunized model over the best attacker against the model as"
        " it was, by steps to threshold on D_H: geometric mean over seeds of the median over "
        "pairs, with its 95 % interval over seeds, for each training loss. ≥ marks lower bounds: "
        "the budget ran out on pairs that the number rests on. 'broken': S is at most 1.05. "
        "'slowed': S is more, and its interval lies above 1. 'not shown': the interval holds 1. "
        "'withstood': with every seed no attacker solved at least 95 % of the pairs within the "
        "budget. 'destroyed': more than a tenth of what the best benign probe explained is gone "
        "(Definition 3.1 (c) fails). 'no verdict': one seed. Beside it the same in floating point "
        "operations (cheapest against cheapest), and held-out accuracies: of the best linear "
        "attacker on all rows of D_H, of the best non-linear probe, of a linear attacker with few "
        "of the rows or with rows that the publisher never saw, and of the best probe on D_P."
    ),
    "attacks": (
        "Slowdown of each attacker on the harmful task: median over pairs and seeds of steps to "
        "threshold with θ over steps without immunization, which stand in the second column. '≥' "
        "marks a lower bound, because the budget ran out on pairs that the median rests on; '–' a "
        "slowdown that is unknown, because it ran out without immunization. An attacker that "
        "diverged is counted as that, and not among bounds. 'best of all' lets each pair's fastest"
        " attacker count."
    ),
    "measures": (
        "Further measures of each attacker on D_H: floating point operations to threshold, and "
        "seconds at the rate that the config names; the share of problems solved within a "
        "hundredth, a tenth and all of the budget; mean accuracy over the logarithm of the step; "
        "RFD (100 · mean |b − i|/b over recorded accuracies), and signed, negative where the model "
        "became easier to fine-tune; and selectivity, log slowdown on D_H minus the worst over "
        "benign third tasks: ≥ where the budget ran out on D_H, ≤ where it ran out on third tasks, "
        "? where on both."
    ),
    "prediction": (
        "Does κ predict resistance? Spearman's rank correlation between each predictor and the "
        "measured slowdown on D_H, for every attacker whose slowdown varies: over all methods, "
        "pairs and seeds, and in brackets the mean within a method. Lower bounds count at their "
        "bound; the last column is their share."
    ),
    "accuracy": (
        "Held-out accuracy in percent where labels vary within a task: of the best probe on each "
        "task, and of an attacker of the harmful task who stops after so many steps."
    ),
    "steps": (
        "Steps that each method took, and the share of pairs on which it had converged by then: "
        "half as many steps again, twice in a row, moved neither log κ by more than `stop`."
    ),
    "replication": (
        "Every figure that the paper prints on these data beside ours. Released: as the released "
        "program trains where a method has such a profile, by its own floored κ. Paper: the method "
        "as printed, and corrected: at its best, both by the κ over the non-zero spectrum. Means "
        "over pairs, ± standard deviation over seeds; the limit is that of RIR, median. Reproduced "
        "means within a quarter, or five pairs. The paper does not say what it counts as a "
        "success, so each reading has a row."
    ),
}
