"""Invariants 4 and 15 under concurrency: after the commit of an opt-out, of whatever scope, nothing of it leaves."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from tests.together import Clerk, together
from tests.warehouse.ledger.ledgers import (
    ledger,
    postgres_ledger,
    postgres_ledger_url,
    sqlite_ledger,
    sqlite_template,
)
from tests.warehouse.ledger.story import CHANNELS, HOUR, MINUTE, T0, design, record
from warehouse.ledger import claims, outbox
from warehouse.ledger.address_suppressions import AddressSuppression, suppress_addresses
from warehouse.ledger.consents import Statement, record_consents
from warehouse.ledger.engine import Ledger
from warehouse.ledger.erasures import ErasureRequest, erase_from_ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.experiments import start_experiment
from warehouse.ledger.outbox import ClaimRequest, Settlement, claim, intend, release, settle, skip
from warehouse.ledger.suppressions import suppress

__all__ = ["ledger", "postgres_ledger", "postgres_ledger_url", "sqlite_ledger", "sqlite_template"]

NOW = T0 + HOUR
CUSTOMERS = 120
DISPATCHERS = 8
TOPICS = {"winback": "offers", "digest": "news"}


class Desk:
    """Who opted out of what, noted right after the commit; and whatever was let go, with what was known before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.out: set[tuple[str, str]] = set()
        self.left: list[tuple[str, frozenset[tuple[str, str]]]] = []

    def note(self, customer: str, *campaigns: str) -> None:
        with self.lock:
            self.out.update((customer, campaign) for campaign in campaigns)

    def known(self) -> frozenset[tuple[str, str]]:
        with self.lock:
            return frozenset(self.out)

    def leave(self, key: str, before: frozenset[tuple[str, str]]) -> None:
        with self.lock:
            self.left.append((key, before))


@pytest.fixture
def two_campaigns(ledger: Ledger) -> Ledger:
    """Two campaigns of different topics, each with a text to most of the same customers."""
    for campaign, topic in TOPICS.items():
        with ledger.begin() as tx:
            start_experiment(tx, design(campaign), design_hash="d" * 64, started_at=T0, topic=topic)
        record(ledger, f"{campaign}:1", CUSTOMERS, rows=50)
    return ledger


def dispatch(ledger: Ledger, name: str, desk: Desk, meanwhile: Callable[[set[str]], object] = lambda _: None) -> None:
    """Claim, intend and settle until there is nothing left; what an intent allows counts as having left.

    `meanwhile` is done with the customers of each claim before its intent.
    """
    rng = random.Random(name)
    while True:
        claimed = claim(
            ledger,
            ClaimRequest(worker=name, channels=CHANNELS, limit=rng.choice((1, 3, 7)), now=NOW, lease=10 * MINUTE),
        )
        if not claimed:
            return
        fence, keys = claimed[0].fence, [message.message_key for message in claimed]
        where = {m.message_key: (m.channel, TOPICS[m.campaign], (f"mac-{m.customer_id}",)) for m in claimed}
        meanwhile({message.customer_id for message in claimed})
        before = desk.known()
        allowed = intend(ledger, keys, name, fence, NOW, addressed=where)
        for key in allowed:
            desk.leave(key, before)
        stopped = {key for key in keys if key not in allowed}
        release(ledger, stopped, name, fence, NOW)
        skip(ledger, dict.fromkeys(stopped, "suppressed_address"), NOW)  # as a dispatcher's next look at it does
        settle(ledger, [Settlement(message_key=key, state="sent", fence=fence) for key in allowed], NOW)


def opt_out(ledger: Ledger, customer: str, kind: int, desk: Desk) -> None:
    """One of the ways in which a customer says no; noted once it is committed."""
    if kind == 0:
        suppress(ledger, customer, "sms", "stop", "inbound", NOW)
        desk.note(customer, *TOPICS)
    elif kind == 1:
        record_consents(ledger, [Statement(customer, "all", False, NOW, "page", topic="offers")])
        desk.note(customer, "winback")
    elif kind == 2:
        kept = AddressSuppression((f"mac-{customer}",), ("k",), "sms", "bounce", "twilio", NOW)
        suppress_addresses(ledger, [kept])
        desk.note(customer, *TOPICS)
    else:
        number = int(customer[1:])
        request = ErasureRequest(customer, f"erased-{number:024d}", f"m{number}", "k", "ann", NOW)
        with contextlib.suppress(LedgerError):  # a message is just leaving: from now on nothing else does
            erase_from_ledger(ledger, request)
        desk.note(customer, *TOPICS)


def test_no_message_leaves_after_the_commit_of_an_opt_out_while_eight_dispatchers_run(two_campaigns: Ledger) -> None:
    ledger, desk = two_campaigns, Desk()
    people = [f"c{n:06d}" for n in range(CUSTOMERS) if n % 3 != 2]
    random.Random(7).shuffle(people)
    chosen = people[:48]
    for position, customer in enumerate(chosen[:8]):  # some were out before anybody began
        opt_out(ledger, customer, position % 4, desk)
    places = {customer: position for position, customer in enumerate(chosen[8:])}
    clerk = Clerk(lambda customer: opt_out(ledger, customer, places[customer] % 4, desk), askers=DISPATCHERS)
    asked: set[str] = set()

    def meanwhile(customers: set[str]) -> None:
        """Those of a claim who say no do so before its intent: every second one surely, the others perhaps."""
        for customer in places.keys() & customers - asked:
            asked.add(customer)
            clerk.ask(customer, wait=places[customer] // 4 % 2 == 0)

    def work(name: str) -> None:
        dispatch(ledger, name, desk, meanwhile)
        clerk.goodbye()

    together(clerk, *(partial(work, f"w{n}") for n in range(DISPATCHERS)))
    assert asked == places.keys()
    for key, before in desk.left:
        experiment, customer, _ = key.split("/")
        assert (customer, experiment.split(":")[0]) not in before, key
    sent = {key.split("/")[1] for key, _ in desk.left}
    assert set(people) - set(chosen) <= sent  # nobody else was kept from anything
    news_only = {c for position, c in enumerate(chosen[:8]) if position % 4 == 1}
    assert {f"digest:1/{c}/1" for c in news_only} <= {key for key, _ in desk.left}  # of one topic, not of the other


def test_an_opt_out_between_plan_and_dispatch_stops_every_message_it_covers(two_campaigns: Ledger) -> None:
    desk = Desk()
    for n in range(CUSTOMERS):
        if n % 3 != 2:
            opt_out(two_campaigns, f"c{n:06d}", n % 4, desk)
    dispatch(two_campaigns, "w1", desk)
    assert {key.split(":")[0] for key, _ in desk.left} == {"digest"}
    assert all(int(key.split("/")[1][1:]) % 4 == 1 for key, _ in desk.left)


def test_a_seeded_bug_would_be_seen(two_campaigns: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (claims, outbox):
        monkeypatch.setattr(module, "is_suppressed", lambda *_: sa.false())
    right = claims._earliest
    monkeypatch.setattr(claims, "_earliest", lambda postgres: right(postgres))  # else the statement of before is used
    desk = Desk()
    suppress(two_campaigns, "c000000", "sms", "stop", "inbound", NOW - timedelta(minutes=1))
    desk.note("c000000", *TOPICS)
    dispatch(two_campaigns, "w1", desk)
    assert any("/c000000/" in key for key, _ in desk.left)
