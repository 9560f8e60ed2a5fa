"""What every table of the ledger is made of: the one metadata, the id and serial types, the form of a check."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(referred_table_name)s_fk",
    }
)

# ids compare by code point on both databases ("C" collation), as Python sorts them
Id = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Write "column is one of the values" as equalities: an IN list costs SQLite 2 us a row (it builds a table)."""
    return " OR ".join(f"{column} = '{value}'" for value in values)
