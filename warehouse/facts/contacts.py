"""How to reach customers: addresses, consents and template fields, looked up at dispatch and then forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.cohorts import Cohort, joined_rows
from warehouse.facts.schema import ADDRESS_COLUMNS

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
    found: dict[str, Contact] = {}
    for frame in joined_rows(facts, cohort, customers, columns, sa.true(), grouped=False):
        names = list(frame.columns)
        for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None):
            values = dict(zip(names, row, strict=True))
            customer_id = ids[values.pop("unit")]
            found[customer_id] = _contact(customer_id, values)
    return {customer_id: found[customer_id] for customer_id in dict.fromkeys(customer_ids) if customer_id in found}


def _contact(customer_id: str, values: dict[str, Any]) -> Contact:
    consents = {channel: values.pop(f"consent_{channel}") is True for channel in _ADDRESS_OF}
    addresses = {name: values.pop(name) or None for name in sorted(ADDRESS_COLUMNS)}
    places = {name: values.pop(name) for name in ("time_zone", "locale", "country")}
    attributes = {name: _plain(value) for name, value in values.items()}
    return Contact(customer_id, **addresses, **places, consents=consents, attributes=attributes)


def _plain(value: Any) -> object:
    """A value as templates show it: instants as datetime, whole numbers without a point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
