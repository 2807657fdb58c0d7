"""What a misspelt name may have meant."""

from __future__ import annotations

import difflib


def near_spelling(name: str, known: list[str]) -> str:
    """In brackets, behind a space; nothing where no name is near.

    >>> near_spelling("optimun", ["alg1", "optimum"])
    " (did you mean 'optimum'?)"
    """
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
