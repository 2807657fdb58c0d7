"""Ways to fine-tune a released network, one file each.

A module declares `PARAMETERS`, `TUNES` (what it changes) and `fine_tune(victim, parameters,
seed_of_member)`; see `_fine_tune.py`.
"""
