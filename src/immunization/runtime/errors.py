"""The one exception that stages raise for what a user can repair."""

from __future__ import annotations


class UserError(Exception):
    """Bad input, with a message that names the place, what is allowed and the remedy."""
