"""The small ledger of loyalty points: postings that never change, frozen customers, exports that repeat nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa

from warehouse.ledger import dialect
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.offer_tables import point_exported, point_exports, point_freezes, point_postings

Kind = Literal["multiplier", "bonus", "refund", "expiry"]

_P = point_postings
_F = point_freezes
_X = point_exports
_D = point_exported
_CHUNK: Final = 5_000
_COLUMNS: Final = (
    "posting_key", "customer_id", "experiment_id", "offer", "kind", "points", "at", "posted_at", "expires_at",
    "order_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """Points that were given (above 0) or taken back (below 0), `at` the instant of what they follow from."""

    posting_key: str
    customer_id: str
    experiment_id: str
    offer: str
    kind: Kind
    points: int
    at: datetime
    posted_at: datetime
    expires_at: datetime | None = None
    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """One export: the file that it is for, and its postings in the order of their keys."""

    export_id: int
    file: str
    postings: tuple[Posting, ...]
    resumed: bool


def posting_key(kind: Kind, *parts: str) -> str:
    """The key of a posting: the same for the same cause, so that it is posted once. It names nobody."""
    text = "\x1f".join((kind, *parts))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def post(tx: sa.Connection, postings: Sequence[Posting]) -> int:
    """Record those postings whose keys are not recorded yet; give how many were new."""
    known = _known(tx, [posting.posting_key for posting in postings])
    new = {p.posting_key: p for p in postings if p.posting_key not in known}
    if new:
        names, values = ", ".join(_COLUMNS), ", ".join(f":{name}" for name in _COLUMNS)
        instants = [sa.bindparam(name, type_=_P.c[name].type) for name in ("at", "posted_at", "expires_at")]
        insert = sa.text(f"INSERT INTO point_postings ({names}) VALUES ({values}) ON CONFLICT DO NOTHING")  # noqa: S608 - names are ours
        rows = [{name: getattr(posting, name) for name in _COLUMNS} for posting in new.values()]
        tx.execute(insert.bindparams(*instants), rows)
    return len(new)


def postings_of(
    tx: sa.Connection, *, customer_id: str | None = None, experiment_id: str | None = None
) -> list[Posting]:
    """The postings of a customer or of an experiment (or all), in the order of time."""
    query = sa.select(*(_P.c[name] for name in _COLUMNS)).order_by(_P.c.at, _P.c.posting_key)
    if customer_id is not None:
        query = query.where(_P.c.customer_id == customer_id)
    if experiment_id is not None:
        query = query.where(_P.c.experiment_id == experiment_id)
    return [Posting(**row) for row in tx.execute(query).mappings()]


def freeze(tx: sa.Connection, customer_id: str, *, frozen: bool, at: datetime, by: str, reason: str) -> bool:
    """Freeze a customer's points, or let them go on; False where they were so already."""
    if (customer_id in frozen_customers(tx)) == frozen:
        return False
    tx.execute(sa.insert(_F).values(customer_id=customer_id, frozen=frozen, at=at, by=by, reason=reason))
    return True


def frozen_customers(tx: sa.Connection) -> set[str]:
    """Everybody whose points are frozen: nothing is posted for them and nothing of theirs is exported."""
    last = sa.select(sa.func.max(_F.c.freeze_id)).group_by(_F.c.customer_id)
    query = sa.select(_F.c.customer_id).where(_F.c.freeze_id.in_(last), _F.c.frozen)
    return set(tx.execute(query).scalars())


def begin_export(tx: sa.Connection, file: str, *, at: datetime) -> Export:
    """Take every posting that no export has yet, or take up an export that was begun and never finished.

    From the commit on the postings are this export's for ever. Raises LedgerError where another file was begun: its
    postings may have been handed on already.
    """
    if dialect.is_postgres(tx):
        tx.exec_driver_sql("LOCK TABLE point_exports IN SHARE ROW EXCLUSIVE MODE")
    begun = tx.execute(sa.select(_X.c.export_id, _X.c.file).where(_X.c.done_at.is_(None))).first()
    if begun is not None:
        if begun.file != file:
            raise LedgerError(
                f"export {begun.export_id} into {begun.file} was begun and not finished, so its points may have been "
                f"handed on; finish it first: retain points export {begun.file}"
            )
        return Export(begun.export_id, file, _exported(tx, begun.export_id), resumed=True)
    export_id = int(tx.execute(sa.insert(_X).values(file=file, begun_at=at).returning(_X.c.export_id)).scalar_one())
    taken = sa.select(_D.c.posting_key)
    frozen = frozen_customers(tx)
    query = sa.select(_P.c.posting_key, _P.c.customer_id).where(_P.c.posting_key.not_in(taken))
    keys = [key for key, customer in tx.execute(query.order_by(_P.c.posting_key)) if customer not in frozen]
    dialect.insert_rows(tx, _D, {"posting_key": keys, "export_id": [export_id] * len(keys)})
    return Export(export_id, file, _exported(tx, export_id), resumed=False)


def finish_export(tx: sa.Connection, export_id: int, *, at: datetime) -> None:
    """Say that the file of an export is written."""
    tx.execute(sa.update(_X).where(_X.c.export_id == export_id, _X.c.done_at.is_(None)).values(done_at=at))


def unexported(tx: sa.Connection, customer_id: str) -> int:
    """How many of a customer's points no export has handed on yet."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_P.c.points), 0)).where(
        _P.c.customer_id == customer_id, _P.c.posting_key.not_in(sa.select(_D.c.posting_key))
    )
    return int(tx.execute(query).scalar() or 0)


def balances(postings: Iterable[Posting]) -> Mapping[str, int]:
    """The sum of the points of each customer."""
    total: dict[str, int] = {}
    for posting in postings:
        total[posting.customer_id] = total.get(posting.customer_id, 0) + posting.points
    return total


def _exported(tx: sa.Connection, export_id: int) -> tuple[Posting, ...]:
    query = (
        sa.select(*(_P.c[name] for name in _COLUMNS))
        .join(_D, _D.c.posting_key == _P.c.posting_key)
        .where(_D.c.export_id == export_id)
        .order_by(_P.c.posting_key)
    )
    return tuple(Posting(**row) for row in tx.execute(query).mappings())


def _known(tx: sa.Connection, keys: list[str]) -> set[Any]:
    found: set[Any] = set()
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        found.update(tx.execute(sa.select(_P.c.posting_key).where(dialect.among(tx, _P.c.posting_key, part))).scalars())
    return found
