"""Ways to fine-tune a released network, one file each.

A module declares `PARAMETERS` and `attack(victim, parameters)`, which returns one row a run and
one a recorded step; `IMAGES` says that it feeds images through the whole network, `MIRRORS` that
it wants the trunk's answers to mirrored images too, and `CONTROL` that it does not depend on the
method.
"""
