"""The logger of all stages."""

from __future__ import annotations

import logging

LOG = logging.getLogger("immunization")
