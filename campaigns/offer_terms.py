"""The kinds of offers as offers.yaml writes them: what each promises, its code, how long it holds, what it costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

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
from campaigns.words import Part, as_tuple

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


Code = Annotated[SharedCode | GeneratedCode, Field(discriminator="kind")]


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


Terms = Annotated[
    PercentOff | AmountOff | FreeShipping | Points | Gift | Bundle | Upgrade | NoOffer, Field(discriminator="kind")
]


def check_offers(raw: object) -> list[Issue]:
    """Every issue between the keys of offers.yaml; what does not even parse is left to the model."""
    issues = []
    for name, terms in (raw if isinstance(raw, Mapping) else {}).items():
        if (
            isinstance(terms, Mapping)
            and terms.get("kind") == "points"
            and ("multiplier" in terms) == ("bonus" in terms)
        ):
            issues.append(Issue((name,), "give exactly one of multiplier and bonus", at_key=True))
    return issues
