"""How to reach customers: addresses, consents and template fields, looked up at dispatch and then forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.cohorts import Cohort, joined_values
from warehouse.facts.schema import ADDRESS_COLUMNS, SCHEMAS, TABLES

if TYPE_CHECKING:
    from warehouse.facts.store import Facts

_ADDRESS_OF: Final[Mapping[str, str]] = {"sms": "phone", "email": "email", "push": "push_token"}


@dataclass(frozen=True, slots=True)
class Contact:
    """One customer at dispatch; addresses never show in its repr, `attributes` hold every other column of customers."""

    customer_id: str
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    push_token: str | None = field(default=None, repr=False)
    time_zone: str | None = None
    locale: str | None = None
    country: str | None = None
    consents: Mapping[str, bool] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    """Channels on which the facts say no in so many words; elsewhere a missing consent may stand in the ledger."""
    attributes: Mapping[str, object] = field(default_factory=dict, repr=False)

    def address(self, channel: str) -> str | None:
        """The address of a channel (sms, email or push), or None."""
        value: str | None = getattr(self, _ADDRESS_OF[channel])
        return value


def look_up_contacts(facts: Facts, customer_ids: Sequence[str]) -> dict[str, Contact]:
    """The contacts of these customers by customer_id; customers the facts do not know are left out."""
    if not customer_ids:
        return {}
    cohort = Cohort.of(customer_ids)
    ids = cohort.ids.to_pylist()
    customers = facts.tables.customers
    columns = [column for column in customers.c if column.name != "customer_id"]
    names = [column.name for column in columns]
    found: dict[str, Contact] = {}
    for unit, row in joined_values(facts, cohort, customers, columns, sa.true()):
        found[ids[unit]] = _contact(ids[unit], dict(zip(names, row, strict=True)))
    return {customer_id: found[customer_id] for customer_id in dict.fromkeys(customer_ids) if customer_id in found}


def filled_columns(facts: Facts) -> frozenset[str]:
    """The columns of customers in which at least one customer has a value."""
    columns = facts.tables.customers.c
    counts = facts.frame(sa.select(*(sa.func.count(column).label(column.name) for column in columns)))
    return frozenset(str(name) for name in counts.columns if counts[name].iloc[0])


def customer_rows(facts: Facts, customer_id: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of the three tables that is the customer's, by table and column; missing values as None."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        selected: sa.FromClause = getattr(facts.tables, table)
        frame = facts.frame(sa.select(*selected.c).where(selected.c.customer_id == customer_id))
        frame = frame.sort_values(SCHEMAS[table].key).astype(object).where(frame.notna(), None)
        found[table] = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    return found


def customers_refusing(facts: Facts, customer_ids: Sequence[str], channel: str) -> set[str]:
    """Those of the customers whose consent to the channel is no in the facts (and not just missing)."""
    said = facts.tables.customers.c[f"consent_{channel}"]
    return {customer_id for customer_id, _ in _values(facts, customer_ids, [said], sa.not_(said))}


def each_address(facts: Facts, customer_ids: Sequence[str], channel: str) -> Iterator[tuple[str, str, str | None]]:
    """The addresses of these customers on a channel, as (customer_id, address, country); those without are left out."""
    customers = facts.tables.customers
    address = customers.c[_ADDRESS_OF[channel]]
    wanted = [address.label("address"), customers.c.country]
    for customer_id, (value, country) in _values(facts, customer_ids, wanted, address.is_not(None)):
        yield customer_id, value, country


def shared_addresses(facts: Facts, channel: str) -> dict[str, str]:
    """Every customer who has a channel's address in common with another one -> a name of that address.

    Two spellings are the same up to case and blanks around. The name is a number and tells nothing of the address.
    """
    customers = facts.tables.customers
    spelled = sa.func.lower(sa.func.trim(customers.c[_ADDRESS_OF[channel]]), type_=sa.String())
    counted = sa.select(spelled.label("spelled")).where(spelled != "").group_by(spelled)
    repeated = counted.having(sa.func.count() > 1).subquery("repeated")
    statement = sa.select(customers.c.customer_id, repeated.c.spelled).select_from(
        customers.join(repeated, spelled == repeated.c.spelled)
    )
    frame = facts.frame(statement).sort_values("customer_id")
    numbers = {spelling: number for number, spelling in enumerate(dict.fromkeys(frame["spelled"]))}
    return {
        customer: f"{channel}-{numbers[spelling]}"
        for customer, spelling in zip(frame["customer_id"], frame["spelled"], strict=True)
    }


def _values(
    facts: Facts, customer_ids: Sequence[str], columns: Sequence[Any], condition: Any
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(customer_id, values of the columns) of those of the customers of whom the condition is true."""
    if not customer_ids:
        return
    cohort = Cohort.of(customer_ids)
    ids = cohort.ids.to_pylist()
    for unit, row in joined_values(facts, cohort, facts.tables.customers, columns, condition):
        yield ids[unit], row


def _contact(customer_id: str, values: dict[str, Any]) -> Contact:
    said = {channel: values.pop(f"consent_{channel}") for channel in _ADDRESS_OF}
    consents = {channel: value is True for channel, value in said.items()}
    refused = frozenset(channel for channel, value in said.items() if value is False)
    addresses = {name: values.pop(name) or None for name in sorted(ADDRESS_COLUMNS)}
    places = {name: values.pop(name) for name in ("time_zone", "locale", "country")}
    attributes = {name: _plain(value) for name, value in values.items()}
    return Contact(customer_id, **addresses, **places, consents=consents, refused=refused, attributes=attributes)


def _plain(value: Any) -> object:
    """A value as templates show it: whole numbers without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
