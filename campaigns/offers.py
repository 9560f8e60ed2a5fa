"""Offers: promises that cost money. Their words for a customer, their code, their end, their expected cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final

from campaigns.codes import make_code
from campaigns.offer_terms import (
    AmountOff,
    Bundle,
    Cost,
    FreeShipping,
    GeneratedCode,
    Gift,
    NoOffer,
    PercentOff,
    Points,
    PoolCode,
    Promise,
    SharedCode,
    Terms,
    Tiered,
    Upgrade,
)
from campaigns.units import Difference, Money

NOTHING: Final = Money(Decimal(0), "XXX")
"""No money: XXX is the ISO 4217 code for no currency."""
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


POOL_PLACEHOLDER: Final = "CODE-OF-POOL"
"""What a preview shows in place of a code out of a pool: a look uses none up."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One promise: an offer of offers.yaml, or one tier of it ("NAME/TIER")."""

    name: str
    terms: Promise
    whole: Tiered | None = None
    """The tiered offer of which it is one tier."""

    @property
    def valid_for(self) -> timedelta | None:
        """How long after the assignment it holds; None: for ever."""
        return self.terms.valid_for if self.whole is None else self.whole.valid_for

    @property
    def value(self) -> str:
        """What is given in its shortest form: "10%", "5 EUR", "2x", "500", a gift's name; empty where there is none."""
        match self.terms:
            case PercentOff(percent=share):
                return str(Difference(share, "relative", "%"))
            case AmountOff(amount=amount):
                return str(amount)
            case Points(multiplier=float() as times):
                return f"{times:g}x"
            case Points(bonus=bonus):
                return str(bonus)
            case Gift(item=item):
                return item
            case Bundle(items=items):
                return " + ".join(items)
            case Upgrade(to=better):
                return better
            case FreeShipping() | NoOffer():
                return ""


@dataclass(frozen=True, slots=True)
class TieredOffer:
    """An offer of offers.yaml that promises every tier of customers something else."""

    name: str
    terms: Tiered

    @property
    def valid_for(self) -> timedelta | None:
        """How long after the assignment it holds, in every tier; None: for ever."""
        return self.terms.valid_for

    @property
    def tiers(self) -> Mapping[str, Offer]:
        """The promises by tier; the name of each is "NAME/TIER"."""
        return {tier: Offer(f"{self.name}/{tier}", terms, self.terms) for tier, terms in self.terms.tiers.items()}

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """Where the tiers begin, the highest first: (tier, amount). Empty for tiers that go by name."""
        least = {tier: float(amount.amount) for tier, amount in self.terms.least.items()}
        return tuple(sorted(least.items(), key=lambda item: -item[1]))


AnyOffer = Offer | TieredOffer


def make_offer(name: str, terms: Terms) -> AnyOffer:
    """The offer of that name."""
    return TieredOffer(name, terms) if isinstance(terms, Tiered) else Offer(name, terms)


def promises_of(offer: AnyOffer | None) -> tuple[Offer, ...]:
    """What customers may be promised: the offer itself, or one promise for each of its tiers; nothing without one."""
    if offer is None:
        return ()
    return tuple(offer.tiers.values()) if isinstance(offer, TieredOffer) else (offer,)


def find_promise(offers: Mapping[str, AnyOffer], name: str | None) -> Offer | None:
    """The promise a message names: "NAME", or "NAME/TIER"; None where the file has it no more."""
    offer = offers.get((name or "").partition("/")[0])
    return next((promise for promise in promises_of(offer) if promise.name == name), None)


def pools_of(offers: Iterable[AnyOffer]) -> frozenset[str]:
    """The code pools that these offers draw on."""
    return frozenset(
        promise.terms.code.pool
        for offer in offers
        for promise in promises_of(offer)
        if isinstance(promise.terms.code, PoolCode)
    )


def offer_code(offer: Offer, *, secret: str, experiment_id: str, customer_id: str) -> str | None:
    """The code this customer gets in this experiment, or None where the offer has none.

    The same arguments give the same code: reminders and previews repeat it, a new experiment makes a new one. Of a pool
    only a placeholder is shown: its codes are given out by the ledger. Raises CampaignError when a generated code is
    wanted and the secret is too short.
    """
    match offer.terms.code:
        case SharedCode(value=value):
            return value
        case GeneratedCode(prefix=prefix, length=length):
            return make_code(secret, offer.name, experiment_id, customer_id, prefix=prefix, length=length)
        case PoolCode():
            return POOL_PLACEHOLDER
        case None:
            return None


def offer_facts(
    offer: Offer, *, locale: str | None, as_of: datetime, code: str | None = None, code_ends_at: datetime | None = None
) -> dict[str, str]:
    """What templates may say of an offer: name, text, value; tier, code and expires_on only where the offer has them.

    `as_of` is the instant of the assignment, so that a reminder names the same last day as the first message;
    `code_ends_at` the end of the customer's own code, where it has one: the last day before the earlier end is told.
    """
    name, _, tier = offer.name.partition("/")
    facts = {"name": name, "text": pick_text(offer.terms.text, locale), "value": offer.value}
    if tier:
        facts["tier"] = tier
    if code is not None:
        facts["code"] = code
    ends = [end for end in (offer_ends_at(offer, as_of=as_of), code_ends_at) if end is not None]
    if ends:
        last = min(ends) - timedelta(microseconds=1)  # an end at midnight belongs to the day before
        facts["expires_on"] = show_date(last.date(), locale)
    return facts


def offer_ends_at(offer: AnyOffer, *, as_of: datetime) -> datetime | None:
    """When an offer made at `as_of` ends, or None when it never does."""
    return None if offer.valid_for is None else as_of + offer.valid_for


def expected_cost(offer: Offer, *, customers: int = 1) -> Money:
    """What making the offer to so many customers should cost: redeemed share x value; 0 XXX where it costs nothing."""
    cost: Cost | None = offer.terms.cost
    return NOTHING if cost is None else cost.value * (Decimal(str(cost.redeemed)) * customers)


def pick_text(texts: Mapping[str, str], locale: str | None) -> str:
    """The text for a locale: exactly its own, else its language's, else the one for all, else the first."""
    wanted = (locale or "").replace("_", "-").casefold()
    by_locale = {key.casefold(): text for key, text in texts.items()}
    while wanted:
        if wanted in by_locale:
            return by_locale[wanted]
        wanted = wanted.rpartition("-")[0]
    return texts.get("", next(iter(texts.values())))


def show_date(day: date, locale: str | None) -> str:
    """A date as its readers write it: 3 March 2026, March 3, 2026 (en-US), 2026年3月3日; elsewhere 2026-03-03."""
    language, _, region = (locale or "en").replace("_", "-").partition("-")
    match language.casefold():
        case "en" if region.casefold() == "us":
            return f"{_MONTHS[day.month - 1]} {day.day}, {day.year}"
        case "en":
            return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
        case "zh" | "ja":
            return f"{day.year}年{day.month}月{day.day}日"
        case _:
            return day.isoformat()
