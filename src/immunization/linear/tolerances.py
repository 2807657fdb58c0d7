"""Tolerances that several tables share."""

from __future__ import annotations

UNCHANGED = 1e-6
"""Slack for "not larger than", as in `immunization.linear.evaluation`."""
