"""The kinds of offers as offers.yaml writes them: what each promises, its code, how long it holds, what it costs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from campaigns.problems import Location
from campaigns.units import (
    AMOUNT_SCHEMA,
    Amount,
    Money,
    PositiveDuration,
    Share,
    above_zero,
    parse_money,
    parse_share,
    show,
)
from campaigns.validation import Issue
from campaigns.words import Part, Slug, as_tuple

_LOCALE: Final = r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"


def _parse_texts(value: object) -> dict[str, str]:
    """One text for every language ({"": text}), or a mapping of locale to text."""
    texts = value if isinstance(value, Mapping) else {"": value}
    for locale, text in texts.items():
        if locale and not re.match(_LOCALE, locale):
            raise ValueError(f'expected locales such as en, zh or zh-CN, got "{locale}"')
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected a text, or one text per locale, got {show(text)}")
    if not texts:
        raise ValueError("expected at least one text")
    return dict(texts)


def _parse_code(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z0-9][A-Z0-9-]{1,31}", value):
        raise ValueError(f"expected a code of capital letters, digits and dashes such as COMEBACK10, got {show(value)}")
    return value


def _parse_prefix(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z0-9-]{1,10}", value):
        raise ValueError(
            f"expected a prefix of up to 10 capital letters, digits and dashes such as WB-, got {show(value)}"
        )
    return value


Texts = Annotated[
    dict[str, str],
    BeforeValidator(_parse_texts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "patternProperties": {_LOCALE: {"type": "string"}}, "additionalProperties": False},
            ],
            "examples": ["10% off your next order", {"en": "10% off your next order", "zh": "下次购物九折"}],
        }
    ),
]
Percent = Annotated[
    float,
    BeforeValidator(above_zero(parse_share, "a share")),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?%$", "examples": ["10%"]}),
]


class SharedCode(Part):
    """One code for everybody."""

    kind: Literal["shared"]
    """What kind of code it is."""
    value: Annotated[str, BeforeValidator(_parse_code), WithJsonSchema({"type": "string", "examples": ["COMEBACK10"]})]
    """The code as the shop knows it."""


class GeneratedCode(Part):
    """A code of one's own for every customer: unguessable, the same in every reminder, with a check symbol."""

    kind: Literal["generated"]
    """What kind of code it is."""
    prefix: Annotated[
        str, BeforeValidator(_parse_prefix), WithJsonSchema({"type": "string", "pattern": "^[A-Z0-9-]{1,10}$"})
    ] = ""
    """What every code begins with."""
    length: int = Field(default=10, ge=8, le=20)
    """How many symbols follow the prefix, without the check symbol."""


class PoolCode(Part):
    """A code of one's own for every customer out of those the shop made: `retain codes import` brings them in."""

    kind: Literal["pool"]
    """What kind of code it is."""
    pool: Slug
    """The name of the pool. Every customer of an experiment gets one of its codes; reminders repeat it."""


Code = Annotated[SharedCode | PoolCode | GeneratedCode, Field(discriminator="kind")]


class Cost(Part):
    """What the offer is expected to cost: the share of customers who redeem it times what one redemption costs."""

    redeemed: Share
    """The share of the customers offered it who are expected to redeem it."""
    value: Amount
    """What one redemption costs the company."""


class _Terms(Part):
    """What every kind of offer has."""

    text: Texts
    """The promise in words, as messages show it: one text, or one per locale."""
    code: Code | None = None
    """The code the customer types in."""
    valid_for: PositiveDuration | None = None
    """How long after the assignment the offer holds; nothing is sent later than that."""


class _Costly(_Terms):
    """What every kind of offer has that costs money."""

    cost: Cost
    """What it is expected to cost, so that margin is net of the offer."""


class PercentOff(_Costly):
    """A discount in per cent."""

    kind: Literal["percent_off"]
    """What kind of offer it is."""
    percent: Percent
    """How much is taken off."""


class AmountOff(_Costly):
    """A discount of a fixed amount. From which order value on, the text says."""

    kind: Literal["amount_off"]
    """What kind of offer it is."""
    amount: Annotated[Money, BeforeValidator(above_zero(parse_money, "an amount")), AMOUNT_SCHEMA]
    """How much is taken off."""


class FreeShipping(_Costly):
    """The company pays for shipping. From which order value on, the text says."""

    kind: Literal["free_shipping"]
    """What kind of offer it is."""


class Points(_Costly):
    """Loyalty points: so many times the usual points, or so many extra."""

    kind: Literal["points"]
    """What kind of offer it is."""
    multiplier: float | None = Field(default=None, gt=1.0, le=100.0)
    """So many times the usual points."""
    bonus: int | None = Field(default=None, ge=1)
    """So many points extra."""
    earned: Literal["purchase", "message"] = "purchase"
    """When the bonus is earned: with the first purchase (with its code, if it has one), or by the message itself."""
    expire_after: PositiveDuration | None = None
    """How long the points hold after they were earned; without it for ever."""


class Gift(_Costly):
    """Something for nothing."""

    kind: Literal["gift"]
    """What kind of offer it is."""
    item: str = Field(min_length=1)
    """What is given."""


class Bundle(_Costly):
    """Several things together."""

    kind: Literal["bundle"]
    """What kind of offer it is."""
    items: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(min_length=2)
    """What is in it."""


class Upgrade(_Costly):
    """Something better for the same price."""

    kind: Literal["upgrade"]
    """What kind of offer it is."""
    to: str = Field(min_length=1)
    """What the customer gets instead."""


class NoOffer(_Terms):
    """Words without a gift: a reminder, a thank-you. Lets an experiment ask whether the money matters."""

    kind: Literal["none"]
    """What kind of offer it is."""
    cost: Cost | None = None
    """Usually nothing."""


Promise = PercentOff | AmountOff | FreeShipping | Points | Gift | Bundle | Upgrade | NoOffer
"""What one customer may be promised."""
VALUE_TIERS: Final = ("gold", "silver", "member")
"""The values of the feature value_tier."""


class Tiered(Part):
    """Another promise for every tier of customers, chosen as the campaign is planned and kept in every reminder."""

    kind: Literal["tiered"]
    """What kind of offer it is."""
    by: Literal["value_tier", "spend", "spend_365d", "average_order"]
    """The feature that tells the tiers apart, as of the instant of the run."""
    least: dict[Slug, Amount] = Field(default_factory=dict)
    """By spend: the amount from which each tier begins, one of them at 0. Not with value_tier."""
    tiers: dict[Slug, Annotated[Promise, Field(discriminator="kind")]] = Field(min_length=2, max_length=8)
    """The promise to each tier. With value_tier: gold, silver and member."""
    valid_for: PositiveDuration | None = None
    """How long after the assignment the offer holds, in every tier."""


Terms = Annotated[
    PercentOff | AmountOff | FreeShipping | Points | Gift | Bundle | Upgrade | NoOffer | Tiered,
    Field(discriminator="kind"),
]


def check_offers(raw: object) -> list[Issue]:
    """Every issue between the keys of offers.yaml; what does not even parse is left to the model."""
    return [
        issue
        for name, terms in (raw if isinstance(raw, Mapping) else {}).items()
        if isinstance(terms, Mapping)
        for issue in (_check_tiers if terms.get("kind") == "tiered" else _check_points)((name,), terms)
    ]


def _check_points(location: Location, terms: Mapping[str, Any]) -> Iterator[Issue]:
    if terms.get("kind") != "points":
        return
    if ("multiplier" in terms) == ("bonus" in terms):
        yield Issue(location, "give exactly one of multiplier and bonus", at_key=True)
    if terms.get("earned") == "message" and "multiplier" in terms:
        yield Issue((*location, "earned"), "a multiplier is of a purchase; only a bonus can be earned by the message")
    if terms.get("earned") == "message" and "code" in terms:
        yield Issue((*location, "code"), "a bonus that is earned by the message needs no code; leave one of them out")


def _check_tiers(location: Location, terms: Mapping[str, Any]) -> Iterator[Issue]:
    tiers, least = terms.get("tiers"), terms.get("least")
    if not isinstance(tiers, Mapping):
        return
    for name, promise in tiers.items():
        if isinstance(promise, Mapping):
            yield from _check_points((*location, "tiers", name), promise)
            if "valid_for" in promise:
                message = "stands beside tiers, once for all of them: a message must not outlive any customer's offer"
                yield Issue((*location, "tiers", name, "valid_for"), message, at_key=True)
    if terms.get("by") == "value_tier":
        if set(tiers) != set(VALUE_TIERS):
            yield Issue((*location, "tiers"), f"by value_tier the tiers are {', '.join(VALUE_TIERS)}", at_key=True)
        if least is not None:
            yield Issue((*location, "least"), "goes with a feature of money, not with value_tier", at_key=True)
        return
    yield from _check_least(location, list(tiers), least)


def _check_least(location: Location, tiers: Sequence[str], least: object) -> Iterator[Issue]:
    """Every tier has its own beginning, and one begins at nothing, so that everybody is promised something."""
    if not isinstance(least, Mapping) or set(least) != set(tiers):
        message = f"name the amount from which each tier begins: least: {{{', '.join(f'{t}: ...' for t in tiers)}}}"
        yield Issue((*location, "least") if least is not None else location, message, at_key=True)
        return
    try:
        amounts = [parse_money(amount) for amount in least.values()]
    except ValueError:
        return  # the model has said so
    if 0 not in [money.amount for money in amounts]:
        yield Issue((*location, "least"), "one tier must begin at 0, or some customers would be promised nothing")
    if len({money.amount for money in amounts}) < len(amounts):
        yield Issue((*location, "least"), "two tiers begin at the same amount")
    if len({money.currency for money in amounts}) > 1:
        yield Issue((*location, "least"), "the amounts are in several currencies")
