"""Tolerances that evaluation, tables and tools share."""

from __future__ import annotations

UNCHANGED = 1e-6
"""Slack for "not larger than": of ratios, of RIR, and of losses as a share of ‖y‖²/(2N)."""
