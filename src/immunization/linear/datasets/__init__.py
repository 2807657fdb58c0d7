"""Data sets, one file each (see `immunization.linear.contracts.DatasetComponent`).

Files that start with an underscore are helpers, not data sets.
"""
