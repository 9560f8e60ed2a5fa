"""A year of a shop with 10,000 customers, six campaigns and everything that goes wrong; after every day all must hold.

`year/shop.py` builds the shop, `year/outside.py` is the world outside and its truth, `year/story.py` plays the days,
`year/watch.py` looks at the ledger in the evening. Nothing waits and nothing asks the clock: the year takes minutes.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import shutil
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from campaigns.eligibility import HoldoutRule
from campaigns.offer_terms import GeneratedCode, SharedCode
from campaigns.whereabouts import Whereabouts
from flows.steps import (
    address_checks,
    competition,
    deliver_messages,
    ledger_standing,
    offer_codes,
    planning_rules,
    sending_rules,
)
from flows.steps.reason_codes import reason_codes
from tests.invariants.year.shop import Shop, build_shop
from tests.invariants.year.story import Year
from warehouse.ledger import claims, outbox
from warehouse.ledger.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaigns.offers import Offer

SEED = 1
SMALL = 600
CONDITIONS = {"until not open_complaint"}
PROVIDERS_OWN = {"21614", "400", "429", "the provider broke down"}


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A small shop on the first day of the year; made once, played in copies."""
    return build_shop(tmp_path_factory.mktemp("small") / "shop", customers=SMALL, seed=SEED)


def copy_of(shop: Shop, root: Path) -> Shop:
    shutil.copytree(shop.root, root)
    return dataclasses.replace(copy.deepcopy(dataclasses.replace(shop, customers=shop.customers.copy())), root=root)


def play(shop: Shop, days: int, *, trouble: int = 1) -> Year:
    with ExitStack() as stack:
        year = Year(stack, shop, seed=SEED, trouble=trouble)
        year.play(days)
        year.told = year.watch.reasons()
    return year


@pytest.mark.slow
@pytest.mark.no_cover  # five minutes, and twice that where lines are counted
def test_a_year_of_ten_thousand_customers_and_random_faults_breaks_no_invariant(tmp_path: Path) -> None:
    """Control, the global holdout and the suppressed got nothing all year: the oracle fails on the first that does."""
    year = play(build_shop(tmp_path / "shop", customers=10_000, seed=5), 365)
    assert year.watch.days == 365
    told = Counter({name: n for name, n in year.done.items() if n})
    assert not {
        "run killed", "launch approved", "pauses", "bounces", "STOP", "START", "unsubscribed",
        "suppressed", "consents", "erased", "receipts repeated", "planned twice", "promotions",
        "opted out between claim and intent", "delivery ended by Killed", "delivery ended by ChannelError",
        "doubts settled by hand",
    } - told.keys()  # fmt: skip
    by_campaign = Counter(sent.campaign for sent in year.truth.sent.values())
    assert len(by_campaign) == 6
    assert min(by_campaign.values()) > 100
    assert {sent.arm for sent in year.truth.sent.values()} >= {"morning", "night", "coupon", "news"}
    assert len(year.watch.held) > 3_000
    assert year.watch.controls.keys() >= {"winback:1", "winback:2"}
    known = {reason.code for reason in reason_codes()}
    assert year.told - known - CONDITIONS - PROVIDERS_OWN == set()
    assert year.outside["email"].doubled > 0  # sent once more under its key, and taken once


def test_the_same_shop_and_seed_live_through_the_same_days(small_shop: Shop, tmp_path: Path) -> None:
    once, again = (play(copy_of(small_shop, tmp_path / name), 9) for name in ("a", "b"))
    assert len(once.truth.sent) > 50
    assert [dataclasses.astuple(sent) for sent in once.truth.sent.values()] == [
        dataclasses.astuple(sent) for sent in again.truth.sent.values()
    ]
    assert once.done == again.done


def of_a_counter(offer: Offer, **_named: Any) -> str | None:
    """A new code whenever one is asked for."""
    match offer.terms.code:
        case GeneratedCode(prefix=prefix):
            return f"{prefix}{next(_NUMBERS):07d}"
        case SharedCode(value=value):
            return value
    return None


_NUMBERS = itertools.count()


def settle_that_forgets_doubt(ledger: Any, results: Any, now: Any) -> Any:
    """Take no answer for a refusal."""
    told = [dataclasses.replace(r, state="pending") if r.state == "in_doubt" else r for r in results]
    return outbox.settle(ledger, told, now)


@contextmanager
def bug(name: str) -> Iterator[None]:  # noqa: C901 (one case for each bug)
    """Break one thing."""
    with ExitStack() as stack:

        def put(where: Any, what: str, value: Any) -> None:
            stack.enter_context(patch.object(where, what, value))

        match name:
            case "caps":
                for module in (sending_rules, ledger_standing, competition):
                    put(module, "caps_of", lambda *_: ())
            case "opt-outs":
                for module in (claims, outbox):
                    put(module, "is_suppressed", lambda *_: sa.false())
                for module in (address_checks, outbox):
                    put(module, "stopped_keys", lambda *_: set())
            case "holdout":
                for module in (planning_rules, deliver_messages):
                    put(module, "holdout_rule", lambda *_args, **_named: HoldoutRule(0.0, "nobody"))
            case "zones":
                stack.enter_context(
                    patch("campaigns.whereabouts.locate", lambda **_: (Whereabouts(("UTC",)), "profile"))
                )
                put(deliver_messages, "look_at_clock", _all_pass)
            case "doubt":
                put(deliver_messages, "settle", settle_that_forgets_doubt)
            case "pause":
                for module in (claims, outbox):
                    put(module, "paused", lambda _: set())
            case "codes":
                put(offer_codes, "offer_code", of_a_counter)
            case "books":
                put(claims, "adjust_budgets", lambda *_: None)
        yield


def _all_pass(_ws: Any, _sending: Any, claimed: Any, _now: Any) -> Any:
    from campaigns.timing import Bounds
    from flows.steps.legal_hours import Hours, Looked

    always = Hours(("UTC",), Bounds((), None, ()))
    return Looked(list(claimed), {m.message_key: always for m in claimed}, 0, 0)


SEEDED = {
    "caps": "no 20 hours between|more than",
    "opt-outs": "was out",
    "holdout": "of the global holdout",
    "zones": "is off|quiet hours",
    "doubt": "was taken twice",
    "pause": "left while paused",
    "codes": "another code than before",
    "books": "the books|budgets_used",
}


@pytest.mark.slow
@pytest.mark.no_cover  # five minutes, and twice that where lines are counted
@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_bug_is_seen_within_weeks(name: str, small_shop: Shop, tmp_path: Path) -> None:
    shop = copy_of(small_shop, tmp_path / "shop")
    with bug(name), pytest.raises((AssertionError, LedgerError), match=SEEDED[name]):
        play(shop, 120, trouble=6)
