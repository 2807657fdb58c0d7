"""Data sets, one file each.

A file declares `PARAMETERS` and `load(parameters, place)`, which returns a `Labelled` or a
`Paired` source. Files that start with an underscore are helpers, not data sets.
"""
