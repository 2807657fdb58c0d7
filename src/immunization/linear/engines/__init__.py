"""How attackers are run: simulated in the eigenbasis, trained on rows, or predicting.

Which engine an attacker takes follows from its family and loss (`immunization.study.derived`).
Each module declares `units(job)`: units of work that are run, saved and resumed one by one.
"""
