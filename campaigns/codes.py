"""Generated offer codes: unguessable without the secret, the same whenever asked, and safe to read out.

A code is a prefix, then symbols of an alphabet without look-alikes (no 0, O, 1, I), the last of which is a check symbol
over GF(32): every single wrong symbol and every swap of two symbols is noticed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Final

from campaigns.errors import CampaignError

ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
MIN_SECRET: Final = 16
"""Characters a secret must have at least."""
_REDUCED: Final = 0b100101  # x^5 + x^2 + 1, primitive over GF(2): x generates all 31 non-zero elements


def make_code(secret: str, *parts: str, prefix: str = "", length: int = 10) -> str:
    """The code of `parts` (offer, experiment, customer): `prefix`, `length` symbols of HMAC-SHA256, one check symbol.

    10 symbols are 50 bits. Raises CampaignError when the secret is too short to be one.
    """
    if len(secret) < MIN_SECRET:
        raise CampaignError(
            f"the secret for offer codes has {len(secret)} characters; set one of at least {MIN_SECRET} random ones"
        )
    message = json.dumps(["offer code", *parts], ensure_ascii=False).encode()
    number = int.from_bytes(hmac.digest(secret.encode(), message, hashlib.sha256), "big")
    symbols = [number >> (5 * i) & 31 for i in range(length)]
    return prefix + "".join(ALPHABET[symbol] for symbol in (*symbols, _check_symbol(symbols)))


def is_code(text: str, *, prefix: str = "", length: int = 10) -> bool:
    """Whether `text` is well formed: its check symbol fits. Case, spaces and dashes do not matter."""
    plain = "".join(text.upper().split()).replace("-", "").removeprefix(prefix.replace("-", ""))
    if len(plain) != length + 1 or not set(plain) <= set(ALPHABET):
        return False
    *symbols, check = (ALPHABET.index(symbol) for symbol in plain)
    return _check_symbol(symbols) == check


def _check_symbol(symbols: list[int]) -> int:
    """The sum of x^(i+1) * symbol_i over GF(32): no two positions share a factor, and none has the check's own, 1."""
    total = 0
    for symbol in reversed(symbols):
        total = _times_x(total ^ symbol)
    return total


def _times_x(element: int) -> int:
    shifted = element << 1
    return shifted ^ _REDUCED if shifted & 32 else shifted
