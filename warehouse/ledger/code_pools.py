"""Pools of codes: brought in from files, given out once per experiment and customer, never to two customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.offer_tables import code_pools, pool_codes
from warehouse.ledger.types import instant_text

_P = code_pools
_C = pool_codes
_O = schema.outbox
_CHUNK: Final = 50_000


class StockError(LedgerError):
    """A pool has fewer codes left than a run needs."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: codes that are new, codes that the pool had already, codes that stood in the file twice."""

    added: int
    known: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Stock:
    """One pool as of an instant: `free` may be given out, `expired` never will be, `reserved` belong to customers.

    `last_taken`: how many the last run took. The pool is low when another run like it would find too few.
    """

    pool: str
    free: int
    reserved: int
    expired: int
    last_taken: int = 0

    @property
    def is_low(self) -> bool:
        """Whether another run as large as the last one would find too few codes."""
        return self.free < max(self.last_taken, 1)


@dataclass(frozen=True, slots=True)
class OwnCode:
    """The code a customer has of a pool, and when the shop stops taking it."""

    code: str
    expires_at: datetime | None


def code_key(code: str) -> str:
    """A code as shops compare it: without case and without blanks around it."""
    return code.strip().casefold()


def import_codes(
    tx: sa.Connection, pool: str, codes: Sequence[tuple[str, datetime | None]], *, at: datetime
) -> Imported:
    """Bring codes (each with the end of its validity) into a pool, which is made where there is none of that name.

    Importing the same codes again changes nothing. Raises LedgerError where a code is in another pool already, or comes
    again with another end: two customers could get it, or one a promise that does not hold.
    """
    _open_pool(tx, pool, at)
    wanted: dict[str, tuple[str, datetime | None]] = {}
    for code, expires_at in codes:
        wanted.setdefault(code_key(code), (code.strip(), expires_at))
    found = _lookup(tx, list(wanted))
    for key, row in found.items():
        if row.pool != pool:
            raise LedgerError(f"pool {pool}: one of the codes is in pool {row.pool} already; nothing was imported")
        if row.expires_at != wanted[key][1]:
            raise LedgerError(
                f"pool {pool}: one of the codes was imported before with another end of validity; nothing was imported"
            )
    new = {key: value for key, value in sorted(wanted.items()) if key not in found}
    dialect.insert_rows(
        tx,
        _C,
        {
            "code_key": list(new),
            "pool": [pool] * len(new),
            "code": [code for code, _ in new.values()],
            "imported_at": [instant_text(at)] * len(new),
            "expires_at": [None if end is None else instant_text(end) for _, end in new.values()],
        },
    )
    return Imported(len(new), len(found), len(codes) - len(wanted))


def reserve_codes(
    tx: sa.Connection,
    experiment_id: str,
    wanted: Mapping[str, Sequence[str]],
    *,
    at: datetime,
    until: Mapping[str, datetime],
) -> None:
    """Give every customer of the experiment a code of a pool: `wanted` is pool -> customers. All of them, or nobody.

    Who has a code of this experiment keeps it. Only codes that hold beyond `until[pool]` are given out. The pools are
    locked until the commit, so that runs at the same time, of other campaigns too, take other codes.

    Raises StockError where a pool has too few; nothing is reserved then.
    """
    _lock_pools(tx, wanted)
    short = []
    for pool in sorted(wanted):
        owners = own_codes(tx, experiment_id, wanted[pool])
        without = sorted(customer for customer in wanted[pool] if customer not in owners)
        free = _free_codes(tx, pool, limit=len(without), until=until[pool])
        if len(free) < len(without):
            short.append(f"pool {pool} has {len(free):,} codes that hold long enough, {len(without):,} are needed")
            continue
        n = len(without)
        dialect.update_rows(
            tx,
            _C,
            "code_key",
            {
                "code_key": free,
                "experiment_id": [experiment_id] * n,
                "customer_id": without,
                "reserved_at": [instant_text(at)] * n,
            },
        )
    if short:
        raise StockError(f"{'; '.join(short)}; nothing was recorded; bring more in: retain codes import POOL FILE")


def own_codes(tx: sa.Connection, experiment_id: str, customers: Iterable[str]) -> dict[str, OwnCode]:
    """The codes that these customers have in the experiment, of whatever pool."""
    query = sa.select(_C.c.customer_id, _C.c.code, _C.c.expires_at).where(_C.c.experiment_id == experiment_id)
    found: dict[str, OwnCode] = {}
    for part in _chunks(sorted(set(customers))):
        for customer, code, end in tx.execute(query.where(dialect.among(tx, _C.c.customer_id, part))):
            found[customer] = OwnCode(code, end)
    return found


def release_unshown(tx: sa.Connection, pool: str) -> int:
    """Take back the codes of ended experiments that nobody can have seen; give how many.

    A code was seen, or may have been, as soon as an attempt was made to send any message that shows it: such a code is
    never given out again. One whose messages were all skipped before an attempt was seen by nobody.
    """
    _lock_pools(tx, [pool])
    e = schema.experiments
    shown = sa.exists().where(
        _O.c.experiment_id == _C.c.experiment_id,
        _O.c.customer_id == _C.c.customer_id,
        sa.or_(_O.c.attempts > 0, _O.c.state != "skipped"),
    )
    ended = sa.select(e.c.experiment_id).where(e.c.status == "ended")
    change = sa.update(_C).where(_C.c.pool == pool, _C.c.experiment_id.in_(ended), ~shown)
    return tx.execute(change.values(experiment_id=None, customer_id=None, reserved_at=None)).rowcount


def stock(tx: sa.Connection, *, at: datetime, pools: Iterable[str] | None = None) -> list[Stock]:
    """Every pool as of an instant, or those named; a named pool that nobody made is empty."""
    names = sorted(tx.execute(sa.select(_P.c.pool)).scalars() if pools is None else set(pools))
    is_free, is_over = _C.c.customer_id.is_(None), _C.c.expires_at <= at
    query = sa.select(
        _C.c.pool,
        sa.func.sum(sa.case((sa.and_(is_free, sa.not_(sa.func.coalesce(is_over, sa.false()))), 1), else_=0)),
        sa.func.sum(sa.case((is_free, 0), else_=1)),
        sa.func.sum(sa.case((sa.and_(is_free, is_over), 1), else_=0)),
    ).group_by(_C.c.pool)
    counted = {row[0]: Stock(row[0], *map(int, row[1:])) for row in tx.execute(query)}
    taken: dict[str, int] = {}
    runs = (
        sa.select(_C.c.pool, _C.c.reserved_at, sa.func.count())
        .where(_C.c.reserved_at.is_not(None))
        .group_by(_C.c.pool, _C.c.reserved_at)
        .order_by(_C.c.reserved_at)
    )
    for pool, _, n in tx.execute(runs):
        taken[pool] = int(n)
    return [replace(counted.get(pool, Stock(pool, 0, 0, 0)), last_taken=taken.get(pool, 0)) for pool in names]


def usable(tx: sa.Connection, pool: str, *, until: datetime) -> int:
    """How many codes of a pool may be given out that hold beyond an instant."""
    query = sa.select(sa.func.count()).where(_C.c.pool == pool, _C.c.customer_id.is_(None), _holds(until))
    return int(tx.execute(query).scalar() or 0)


def code_rows(tx: sa.Connection, codes: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """What is known of codes: key -> pool, experiment_id, customer_id, expires_at; unknown codes are left out."""
    found = _lookup(tx, [code_key(code) for code in codes])
    return {key: dict(row._mapping) for key, row in found.items()}


def reserved_codes(tx: sa.Connection, experiment_id: str) -> list[tuple[str, str]]:
    """Every (code key, customer) of the experiment, in the order of the keys."""
    query = sa.select(_C.c.code_key, _C.c.customer_id).where(_C.c.experiment_id == experiment_id)
    return [(key, customer) for key, customer in tx.execute(query.order_by(_C.c.code_key))]


def _open_pool(tx: sa.Connection, pool: str, at: datetime) -> None:
    sql = "INSERT INTO code_pools (pool, created_at) VALUES (:pool, :at) ON CONFLICT DO NOTHING"
    tx.execute(sa.text(sql).bindparams(sa.bindparam("at", at, _P.c.created_at.type), pool=pool))
    _lock_pools(tx, [pool])


def _lock_pools(tx: sa.Connection, pools: Iterable[str]) -> None:
    """Let one transaction at a time look at the free codes of a pool (SQLite: there is one writer anyway)."""
    query = sa.select(_P.c.pool).where(_P.c.pool.in_(sorted(pools))).order_by(_P.c.pool)
    tx.execute(query.with_for_update()).all()


def _free_codes(tx: sa.Connection, pool: str, *, limit: int, until: datetime) -> list[str]:
    if not limit:
        return []
    query = (
        sa.select(_C.c.code_key)
        .where(_C.c.pool == pool, _C.c.customer_id.is_(None), _holds(until))
        .order_by(_C.c.code_key)
        .limit(limit)
    )
    return list(tx.execute(query).scalars())


def _holds(until: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(_C.c.expires_at.is_(None), _C.c.expires_at > until)


def _lookup(tx: sa.Connection, keys: list[str]) -> dict[str, Any]:
    columns = (_C.c.code_key, _C.c.pool, _C.c.experiment_id, _C.c.customer_id, _C.c.expires_at)
    found = {}
    for part in _chunks(keys):
        for row in tx.execute(sa.select(*columns).where(dialect.among(tx, _C.c.code_key, part))):
            found[row.code_key] = row
    return found


def _chunks(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))
