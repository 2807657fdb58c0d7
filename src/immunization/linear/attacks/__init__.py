"""Attackers on the probe, one file a family (see `immunization.linear.contracts`).

`EXTENDS = "_probe_parameters"` adds the parameters that all probes share. Files that start with an
underscore are helpers, not families.
"""
