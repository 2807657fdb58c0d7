"""How attackers are run: exactly from spectra, on the features, or as non-linear probes.

Which engine an attacker takes follows from its family and loss (`immunization.study.semantics.engine`). Each
module declares `units(job)`, pieces of work that are run, kept and resumed one by one.
"""
