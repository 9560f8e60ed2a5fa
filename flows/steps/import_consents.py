"""Consents from a company's files, or said by one customer, into the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.steps.listed_import import CHUNK, ListImport, read_instant, read_scope, write_refused
from warehouse.facts.listed_rows import read_listed
from warehouse.facts.mapping import NO_TEXTS, YES_TEXTS
from warehouse.ledger.audit import record_audit
from warehouse.ledger.consents import Statement, record_consents
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.schema import CHANNELS

if TYPE_CHECKING:
    from flows.wiring import Workspace

COLUMNS: Final = ("customer_id", "channel", "topic", "given", "at", "source", "wording")
_GIVEN: Final = frozenset({*YES_TEXTS, "given", "granted", "opt-in"})
_WITHDRAWN: Final = frozenset({*NO_TEXTS, "withdrawn", "revoked", "opt-out"})


def import_consents(
    ws: Workspace, files: Sequence[Path], *, renames: Mapping[str, str], source: str | None, by: str, now: datetime
) -> ListImport:
    """Take statements of consent from CSV or Parquet files; the newest of each scope takes effect at once.

    Rows that cannot be used are set aside with a reason. Importing the same file again changes nothing.
    Raises FactsError where a file is missing or broken: what stood before its broken line is kept.
    """
    outcome = ListImport()
    for path in files:
        batch: list[Statement] = []
        for number, row in read_listed(path, COLUMNS, renames=renames, required=("customer_id", "given", "at")):
            outcome.read += 1
            found = _statement(row, source or path.name, ws.settings.load_time_zone, now)
            if isinstance(found, str):
                outcome.refuse(found, path, number)
                continue
            batch.append(found)
            if len(batch) >= CHUNK:
                outcome.added += record_consents(ws.ledger, batch)
                batch = []
        outcome.added += record_consents(ws.ledger, batch)
    write_refused(ws, "consents", outcome, now=now)
    with ws.ledger.begin() as tx:
        names = ", ".join(path.name for path in files)
        record_audit(tx, at=now, actor=by, action="import consents", subject=names, detail=outcome.counts())
    return outcome


def record_consent(ws: Workspace, statement: Statement, *, by: str) -> bool:
    """Record what one customer said; False where it was known. Raises LedgerError for a scope that does not exist."""
    scope = read_scope(statement.channel, statement.topic, channels=CHANNELS)
    if isinstance(scope, str):
        raise LedgerError(
            f'channel "{statement.channel}", topic "{statement.topic}": expected a channel of '
            f"{', '.join((*CHANNELS, 'all'))} and a topic in lower-case letters, digits and dashes, or all"
        )
    new = record_consents(ws.ledger, [statement]) == 1
    detail = {
        "channel": statement.channel,
        "topic": statement.topic,
        "given": statement.given,
        "source": statement.source,
        "wording": statement.wording,
        "changed": new,
    }
    with ws.ledger.begin() as tx:
        record_audit(tx, at=statement.at, actor=by, action="consent", subject=statement.customer_id, detail=detail)
    return new


def _statement(row: Mapping[str, str | None], source: str, zone: str, now: datetime) -> Statement | str:
    """What a row says, or why it is refused."""
    customer, said = row["customer_id"], (row["given"] or "").lower()
    scope = read_scope(row["channel"], row["topic"], channels=CHANNELS)
    at = read_instant(row["at"], zone)
    if not customer:
        return "missing_key"
    if isinstance(scope, str):
        return scope
    if said not in _GIVEN | _WITHDRAWN:
        return "bad_statement"
    if at is None:
        return "bad_time"
    if at > now:
        return "future_time"
    return Statement(
        customer, scope[0], said in _GIVEN, at, row["source"] or source, row["wording"] or "", topic=scope[1]
    )
