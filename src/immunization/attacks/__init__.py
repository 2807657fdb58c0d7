"""Attackers on the probe, one file a family.

A file declares `PARAMETERS` and `attack(spectrum, parameters, plan)`, which runs one attacker on
M problems at once in the eigenbasis of their Hessians. Files that start with an underscore are
helpers, not families.
"""
