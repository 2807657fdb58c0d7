"""Immunization methods, one file each.

A file declares `PARAMETERS` and `immunize(problem, parameters)`, which returns θ for every pair of
the problem, shape (B, D, D), or an `Immunized` with its trajectory (see `_descent`). If it also has
`draws(parameters)` and that is false, θ depends on the two tasks alone, and is computed once for
seeds that share them. Files that start with an underscore are helpers, not methods.
"""
