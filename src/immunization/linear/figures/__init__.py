"""Figures, one module each.

A file declares `CAPTION`, for a reader who does not know the paper, and `draw(results, dataset)`,
which returns a matplotlib figure. Files that start
with an underscore are helpers, not figures.
"""
