"""Ways to immunize a network, one file each.

`immunize(problem, parameters)` changes the problem's tail and head in place, or sets its layer, and
returns the rows of its trajectory. See `_problem.py` and `_descent.py`.
"""
