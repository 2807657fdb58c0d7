"""Immunization methods, one file each.

A file declares `PARAMETERS` and `immunize(problem, parameters)`, which returns θ for every pair
of the problem, shape (B, D, D). Files that start with an underscore are helpers, not methods.
"""
