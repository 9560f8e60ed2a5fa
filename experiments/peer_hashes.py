"""Assignment hashes of other systems, to recompute who was in which arm of an experiment that ran elsewhere."""

from __future__ import annotations

import hashlib

_PLANOUT_SPAN = 0xFFFFFFFFFFFFFFF
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


def planout_hash(salt: str, parameter: str, unit: str) -> int:
    """PlanOut's 60-bit hash of experiment salt, parameter salt and unit (vector planout_hash)."""
    text = f"{salt}.{parameter}.{unit}".encode()
    return int(hashlib.sha1(text, usedforsecurity=False).hexdigest()[:15], 16)


def planout_fraction(salt: str, parameter: str, unit: str) -> float:
    """PlanOut's place in [0, 1]."""
    return planout_hash(salt, parameter, unit) / _PLANOUT_SPAN


def growthbook_fraction(seed: str, unit: str) -> float:
    """GrowthBook's hash version 2: a place in [0, 1) in steps of 1/10,000 (vector growthbook_hash_v2)."""
    return _fnv32a(str(_fnv32a(seed + unit))) % 10_000 / 10_000


def _fnv32a(text: str) -> int:
    value = _FNV_OFFSET
    for byte in text.encode():
        value = ((value ^ byte) * _FNV_PRIME) % 2**32
    return value
