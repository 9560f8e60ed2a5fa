"""Column types: aware UTC instants and canonical JSON, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from warehouse.ledger.errors import LedgerError


def instant_text(value: datetime) -> str:
    """Give an aware instant as fixed-width ISO 8601 UTC text, so that text order is time order.

    Raises LedgerError for a naive datetime.
    """
    if value.tzinfo is None:
        raise LedgerError(
            f"naive datetime {value.isoformat()}: the ledger takes aware instants only; attach a time zone"
        )
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def canonical_json(value: object) -> str:
    """Give JSON with sorted keys, no NaN and readable characters: byte-identical for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@lru_cache(maxsize=8_192)
def read_instant(text: str) -> datetime:
    """Read what `instant_text` wrote, or PostgreSQL in UTC; a batch's messages share few slots (half the time)."""
    return datetime.fromisoformat(text)


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC instant: timestamptz on PostgreSQL, fixed-width ISO text elsewhere. Naive datetimes are refused.

    Date arithmetic in SQL is refused too (SQLite would concatenate text): compute the cut-off in Python and bind it.
    """

    impl = sa.Text
    cache_ok = True

    class Comparator(sa.types.TypeDecorator.Comparator[datetime]):
        """Comparisons only."""

        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            """Refuse arithmetic; pass every comparison on."""
            if getattr(op, "__name__", "") in {"add", "sub", "concat_op"}:
                raise LedgerError("no date arithmetic in SQL: compute the instant in Python and compare with it")
            return super().operate(op, *other, **kwargs)

    comparator_factory = Comparator

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Choose the column's storage."""
        storage = sa.TIMESTAMP(timezone=True) if dialect.name == "postgresql" else sa.Text()
        return dialect.type_descriptor(storage)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """Refuse naive datetimes; normalise to UTC."""
        text = None if value is None else instant_text(value)
        return value if dialect.name == "postgresql" else text

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> datetime | None:
        """Give an aware UTC datetime."""
        if value is None:
            return None
        if isinstance(value, str):
            return read_instant(value)
        instant: datetime = value
        return instant.astimezone(UTC)


class CanonicalJson(sa.types.TypeDecorator[Any]):
    """A JSON value kept as canonical text: what was hashed is what is stored."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> str | None:
        """Write canonical JSON."""
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, _dialect: sa.Dialect) -> Any:
        """Read it back."""
        return None if value is None else json.loads(value)
