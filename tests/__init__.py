"""Tests. Guards against hangs wait long: a slow or busy machine fails none of them."""

HANG = 1800
"""Seconds after which what a test waits for counts as hung, and after nothing less."""
