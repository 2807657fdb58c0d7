"""What each table of a study of networks shows, for a reader who does not know the paper."""

from __future__ import annotations

TABLES = {
    "claims": (
        "Which claims of the paper survive: for every profile of Algorithm 1, a claim by the "
        "paper's own measure (released κ on 20 groups of 100 images; SGD on the features as they "
        "are) and by the strict one (κ over the non-zero spectrum on many more images than "
        "features, which no scaling changes; the best tuned attacker against the best "
        "without immunization)."
    ),
    "table3": (
        "The paper's Table 3. (i) κ on D_H over its value at θ₀, wanted large; (ii) the same on "
        "D_P, wanted at most 1; RIR = (i)/(ii). Over the non-zero spectrum on many more images "
        "than features; trimmed, without the smallest hundredth of the eigenvalues, which few "
        "directions can't sway; on 20 groups of 100 images (where FᵀF has rank 100 at most); and "
        "by the paper's protocol, where the released κ is its floor, so that its ratio is one of "
        "feature energies. Where the rank fell, κ compares different spaces. Means over seeds ± "
        "standard deviation. Published figures stand beside ours where data and network are "
        "the same."
    ),
    "resistance": (
        "The best attacker against the immunized network over the best against θ₀, by steps until "
        "the held-out accuracy on D_H is the config's share of the best that any attacker of the "
        "kind reaches without immunization: geometric mean over seeds with its 95 % interval. "
        "'broken': S is at most 1.05. 'slowed': S is more, and its interval lies above 1. 'not "
        "shown': the interval holds 1. 'withstood': with no seed did an attacker get there; the "
        "column beside it tells S for a lower share: holding attackers just below one target is "
        "not resistance. 'destroyed': a tenth or more of the accuracy on D_P is gone. ≥: with some"
        " seeds nobody got there, their budget counts, and the interval is that of lower bounds. "
        "Selectivity: natural log of S minus the largest over benign third tasks."
    ),
    "attacks": (
        "Every attacker, each with a goal of its own, on D_H and on third tasks: best "
        "held-out accuracy, steps to the goal, slowdown over θ₀ with its 95 % interval over seeds, "
        "RFD (100 · mean |b − i|/b over recorded accuracies) and signed, negative where the "
        "network became easier to fine-tune."
    ),
    "spectra": (
        "Condition numbers themselves, rank, effective rank, largest eigenvalue and scale of the "
        "features on each task, means over seeds. Released κ at unit scale is what the released "
        "definition gives once all features are divided by their root mean square."
    ),
    "hessians": (
        "The Hessian of D_P's loss on the part of the network that was trained, by Lanczos: it "
        "tells how sharp the released network is for those who fine-tune it."
    ),
}
