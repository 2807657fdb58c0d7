"""Random generators that depend on names alone: what is drawn does not depend on a batch."""

from __future__ import annotations

import hashlib
import json

import torch


def seed_of(*parts: object) -> int:
    """63 bits from the JSON of the parts."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded(*parts: object) -> torch.Generator:
    """A generator on the CPU, so that every device draws the same."""
    return torch.Generator().manual_seed(seed_of(*parts))
