"""Brings the shop's codes into a pool, takes unseen ones back, and tells whether a code is one of ours."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.codes import is_code
from campaigns.errors import CampaignError
from campaigns.nearest import did_you_mean
from campaigns.offer_terms import GeneratedCode, SharedCode
from campaigns.offers import pools_of, promises_of
from warehouse.ledger.audit import record_audit
from warehouse.ledger.code_pools import Imported, code_key, code_rows, import_codes, release_unshown, stock

if TYPE_CHECKING:
    from flows.wiring import Workspace

_CODE: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]{3,64}")
_POOL: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_EXPECTED: Final = "a code of 3 to 64 letters, digits and signs, without blanks or commas"


def import_code_file(
    ws: Workspace, pool: str, path: Path, *, expires_on: date | None, now: datetime, actor: str
) -> Imported:
    """Bring a CSV file of codes into a pool: one column, or the columns `code` and `expires_on` under a header.

    `expires_on` is the last day (UTC) on which the shop takes a code; a column of that name goes before the argument.
    Importing the same file again changes nothing. Raises CampaignError with file and line for what cannot be used, and
    then nothing is imported. No code stands in a message, the log or the audit.
    """
    if not _POOL.fullmatch(pool):
        raise CampaignError(f'"{pool}" is no name of a pool; expected lower-case letters, digits and dashes')
    codes = list(_read(path, expires_on))
    if not codes:
        raise CampaignError(f"{path}: holds no codes; expected one a line")
    with ws.ledger.begin() as tx:
        imported = import_codes(tx, pool, codes, at=now)
        if imported.added:
            detail = {"added": imported.added, "known": imported.known, "repeated": imported.repeated}
            record_audit(tx, at=now, actor=actor, action="codes imported", subject=f"pool {pool}", detail=detail)
    return imported


def release_codes(ws: Workspace, pool: str, *, now: datetime, actor: str) -> int:
    """Take back the codes of ended experiments that nobody can have seen; give how many.

    Raises CampaignError for a pool that was never imported and that no offer draws on.
    """
    with ws.ledger.begin() as tx:
        released = release_unshown(tx, pool)
        if released:
            record_audit(
                tx, at=now, actor=actor, action="codes released", subject=f"pool {pool}", detail={"released": released}
            )
    if not released:
        _require_pool(ws, pool, now)
    return released


def check_code(ws: Workspace, code: str, *, now: datetime) -> dict[str, Any]:
    """What a shop wants to know of a code: is it ours, of which kind and offers, does it still hold.

    Keys: known, kind (pool, shared, generated), offers, pool, reserved, expires_at, holds. A generated code is known by
    its check symbol and prefix; that a customer has it only the ledger's messages tell.
    """
    with ws.ledger.read() as tx:
        row = code_rows(tx, [code]).get(code_key(code))
    if row is not None:
        end = row["expires_at"]
        return {
            "known": True,
            "kind": "pool",
            "pool": row["pool"],
            "offers": _offers_of_pool(ws, row["pool"]),
            "reserved": row["customer_id"] is not None,
            "expires_at": None if end is None else end.isoformat(),
            "holds": end is None or end > now,
        }
    shared, generated = [], []
    for offer in ws.usable_book[0].offers.values():
        for promise in promises_of(offer):
            match promise.terms.code:
                case SharedCode(value=value) if code_key(value) == code_key(code):
                    shared.append(promise.name)
                case GeneratedCode(prefix=prefix, length=length) if is_code(code, prefix=prefix, length=length):
                    generated.append(promise.name)
    kind = "shared" if shared else "generated" if generated else None
    return {"known": kind is not None, "kind": kind, "offers": shared or generated}


def _offers_of_pool(ws: Workspace, pool: str) -> list[str]:
    return [
        promise.name
        for offer in ws.usable_book[0].offers.values()
        for promise in promises_of(offer)
        if getattr(promise.terms.code, "pool", None) == pool
    ]


def _require_pool(ws: Workspace, pool: str, now: datetime) -> None:
    with ws.ledger.read() as tx:
        known = {row.pool for row in stock(tx, at=now)}
    if pool in known:
        return
    known |= pools_of(ws.usable_book[0].offers.values())
    if pool not in known:
        there = ", ".join(sorted(known)) or "none; bring codes in with `retain codes import POOL FILE`"
        raise CampaignError(f'no pool "{pool}"{did_you_mean(pool, known)}; pools there: {there}')


def _read(path: Path, expires_on: date | None) -> Iterator[tuple[str, datetime | None]]:
    if not path.is_file():
        raise CampaignError(f"{path}: no such file; expected a CSV file of codes, one a line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CampaignError(f"{path}: is not UTF-8 text; expected a CSV file of codes, one a line") from None
    names, last = ["code"], _end_of(expires_on)
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        cells = [cell.strip() for cell in row]
        if number == 1 and "code" in (headers := [cell.casefold() for cell in cells]):
            if unknown := sorted(set(headers) - {"code", "expires_on"}):
                expected = "expected the columns code and expires_on"
                raise CampaignError(f"{path}:1: unknown column {unknown[0]}; {expected}")
            names = headers
            continue
        if not any(cells):
            continue
        if len(cells) != len(names):
            raise CampaignError(f"{path}:{number}: expected {len(names)} columns, got {len(cells)}")
        values = dict(zip(names, cells, strict=True))
        if not _CODE.fullmatch(values["code"]):
            raise CampaignError(f"{path}:{number}: expected {_EXPECTED}; nothing was imported")
        own = values.get("expires_on")
        yield values["code"], _end_of(_parse_day(own, path, number)) if own else last


def _parse_day(text: str, path: Path, line: int) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CampaignError(
            f"{path}:{line}: expires_on: expected a day such as 2026-12-31; nothing was imported"
        ) from None


def _end_of(day: date | None) -> datetime | None:
    """The instant from which a code whose last day it is no longer holds."""
    return None if day is None else datetime.combine(day + timedelta(days=1), time(), UTC)
