"""Attackers on the probe, one file a family.

A file declares `PARAMETERS` (with `EXTENDS = "_probe_parameters"` for those that all probes share), the
literals `EIGENBASIS` and `GRID`, `flops(rows, dimension, parameters)`, and
`attack(objective, parameters, plan)`, which runs a grid of G attackers on M problems at once.
Files that start with an underscore are helpers, not families.

PREDICTS: whether the family declares `predict` instead, which gives scores of held-out rows and
    takes no steps: non-linear attackers, and linear ones (with a parameter ``loss``) that weigh
    rows unequally.

EIGENBASIS: whether a rotation of the features changes nothing, so that a squared-loss attack
    follows exactly from eigenvalues and label coefficients.
ROWS: whether `attack` needs the features themselves beside their Gram matrix, in
    ``objective.data``.
GRID: numeric parameters that come as tensors of shape (G, 1), one entry an attacker.
"""
