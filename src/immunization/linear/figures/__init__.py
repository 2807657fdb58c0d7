"""Figures of linear studies, one file each (see `immunization.reporting.contracts`).

Files that start with an underscore are helpers, not figures.
"""
