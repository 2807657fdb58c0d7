"""Immunization methods, one file each (see `immunization.linear.contracts.MethodComponent`).

Files that start with an underscore are helpers, not methods.
"""
