"""The variables a template may use: the one list that the documentation, the preview and the checks share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from channels.nearest import nearest

ADDRESS_FIELDS: Final = frozenset({"email", "phone", "push_token"})
"""Customer columns that no template sees."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: its name as written in a template, what it says, an example, and whether it may be missing."""

    name: str
    meaning: str
    example: str
    optional: bool = False


_ALL: Final = (
    Variable("customer.customer_id", "the company's own id of the customer", "C-10042"),
    Variable("customer.first_name", "the customer's first name, where the company knows it", "Ana", optional=True),
    Variable("customer.last_name", "the customer's last name, where the company knows it", "Silva", optional=True),
    Variable(
        "customer.created_at", "when the customer was first known (UTC)", "2024-03-05 09:30:00+00:00", optional=True
    ),
    Variable("customer.time_zone", "the customer's time zone", "Europe/London", optional=True),
    Variable("customer.locale", "the customer's language and region", "en-GB", optional=True),
    Variable("customer.country", "the customer's country (ISO 3166)", "GB", optional=True),
    Variable("customer.region", "the customer's region", "Kent", optional=True),
    Variable("customer.birthday", "the customer's birthday", "1990-07-21", optional=True),
    Variable("customer.preferred_channel", "the channel the customer prefers", "email", optional=True),
    Variable("customer.consent_sms", "whether SMS are allowed", "True", optional=True),
    Variable("customer.consent_email", "whether e-mails are allowed", "True", optional=True),
    Variable("customer.consent_push", "whether push notifications are allowed", "True", optional=True),
    Variable("customer.tier", "the customer's tier", "silver", optional=True),
    Variable("customer.household_id", "the household the customer belongs to", "H-77", optional=True),
    Variable("offer.name", "the offer's name in offers.yaml", "ten-percent"),
    Variable("offer.text", "the offer in words, in the customer's language", "10 % off your next order"),
    Variable("offer.value", "the offer's value as written", "10%", optional=True),
    Variable("offer.tier", "the customer's tier, of an offer that has tiers", "gold", optional=True),
    Variable("offer.code", "the code to redeem the offer with", "BACK10", optional=True),
    Variable("offer.expires_on", "the last day of the offer", "2026-12-31", optional=True),
    Variable("company.name", "the company's name", "Northwind Coffee"),
    Variable("company.postal_address", "the company's postal address (e-mails must carry it)", "1 High Street, London"),
    Variable("company.website", "the company's website", "https://northwind.example"),
    Variable("campaign.name", "the campaign's name", "winback-90d"),
    Variable("campaign.arm", "the arm the customer is in", "ten-percent-sms"),
    Variable(
        "unsubscribe_url",
        "the link that ends these messages (e-mails must carry it)",
        "https://northwind.example/u/AbC",
    ),
)
VARIABLES: Final[Mapping[str, Variable]] = {variable.name: variable for variable in _ALL}


def is_known(path: str, attributes: Iterable[str] = ()) -> bool:
    """Whether a template may use `path`; `attributes` are the customers' extra columns."""
    return path in known_paths(attributes)


def known_paths(attributes: Iterable[str] = ()) -> frozenset[str]:
    """Every path a template may use: the variables, their groups, and the customers' own attributes."""
    own = {f"customer.{name}" for name in attributes if name not in ADDRESS_FIELDS}
    groups = {name.split(".")[0] for name in VARIABLES}
    return frozenset(VARIABLES) | own | groups


def suggest(path: str, attributes: Iterable[str] = ()) -> str | None:
    """The known path nearest to a misspelt one, or None."""
    return nearest(path, known_paths(attributes))


def sample_context(attributes: Mapping[str, object] | None = None) -> dict[str, object]:
    """A context made of the examples, for previews and checks: group -> field -> value.

    `attributes` are example values of the customers' extra columns.
    """
    context: dict[str, object] = {}
    for variable in _ALL:
        group, _, field = variable.name.partition(".")
        if field:
            fields = context.setdefault(group, {})
            assert isinstance(fields, dict)  # a group is never a variable of its own
            fields[field] = variable.example
        else:
            context[group] = variable.example
    customer = context["customer"]
    assert isinstance(customer, dict)  # listed above
    customer.update(attributes or {})
    return context
