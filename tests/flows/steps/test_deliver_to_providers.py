"""Delivery to providers over HTTP: the simulator's ledger agrees with ours, doubts are settled, accounts rest."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from channels.message import Address, Outgoing
from channels.provider import SendResult
from channels.providers.sms_twilio import TwilioProvider
from channels.receipts import Inbound
from channels.render import Renderer
from channels.simulators.faults import FaultPlan
from channels.simulators.http import Request, Response
from channels.simulators.server import Simulator, running
from channels.wire import WireLimits
from flows.provider_wiring import make_providers
from flows.steps import reconcile_doubts
from flows.steps.deliver_messages import Delivered, deliver_messages
from flows.steps.dispatch_pace import Account, Pace
from flows.steps.load_facts import load_facts
from flows.steps.receive_receipts import receive_inbound
from flows.steps.run_campaign import run_campaign
from flows.steps.show_status import show_resting, show_status
from flows.wiring import Workspace
from tests.together import serving
from warehouse.ledger.history import customer_history
from warehouse.ledger.outbox import in_doubt
from warehouse.ledger.suppressions import suppressions_of

from .conftest import Time

MINUTE = timedelta(minutes=1)
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
Shop = Callable[..., Workspace]


@pytest.fixture
def simulator(monday: datetime) -> Simulator:
    return Simulator(clock=lambda: monday)


@pytest.fixture
def base(simulator: Simulator) -> Iterator[str]:
    with running(simulator) as address:
        yield address


@pytest.fixture
def simulated(shop: Shop, base: str, monday: datetime) -> Workspace:
    """A shop whose messages go to the simulator, its campaign planned."""
    ws = shop(
        public_url="https://news.shop.example",
        providers={"sms": "simulated", "email": "simulated", "push": "simulated", "simulator_url": base},
    )
    run_campaign(ws, "back", as_of=monday)
    return ws


def deliver(ws: Workspace, now: datetime, **more: Any) -> Delivered:
    return deliver_messages(ws, now=now, worker="test", **more)


def totals(ws: Workspace) -> dict[str, int]:
    return dict(show_status(ws, "back")[0]["total"])


def test_what_we_call_sent_the_provider_has_accepted(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    delivered = deliver(simulated, monday)
    accepted = simulator.book.accepted
    assert delivered.sent == len(accepted) == len({taken.key for taken in accepted}) > 40
    assert simulator.book.duplicates() == {}
    assert Counter(taken.provider for taken in accepted).keys() == {"twilio", "sendgrid"}
    mail = next(taken for taken in accepted if taken.provider == "sendgrid")
    link = mail.details["headers"]["List-Unsubscribe"]
    assert link.startswith("<https://news.shop.example/u/")
    assert len(link) == len("<https://news.shop.example/u/>") + 32
    assert mail.details["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_receipts_of_the_simulator_reach_the_messages(
    simulated: Workspace, simulator: Simulator, base: str, monday: datetime
) -> None:
    """The simulator signs and posts to a real server of ours on the loopback."""
    from web.app import create_app
    from web.receiving import WithReceiving

    deliver(simulated, monday)
    settings = simulated.settings
    account = settings.providers.sendgrid.model_copy(update={"webhook_public_key": simulator.sendgrid.public_key()})
    providers = settings.providers.model_copy(update={"sendgrid": account})
    settings = settings.model_copy(update={"providers": providers})
    with serving(WithReceiving(create_app(settings), settings, clock=lambda: monday)) as address:
        asked = {
            "plan": {"seed": 1, "doubled": 0.2, "reordered": 0.5},
            "rewrite": {"https://news.shop.example": address},
            "sendgrid_url": "https://news.shop.example/receipts/sendgrid/events",
        }
        request = urllib.request.Request(f"{base}/__sim/emit", data=json.dumps(asked).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            told = json.loads(answer.read())
    assert told["sent"] == told["taken"] > 40
    states = Counter(
        message["state"] for n in range(60) for message in history(simulated, f"C{n:04d}") if message["step"] == 1
    )
    assert set(states) == {"delivered"}


def history(ws: Workspace, customer: str) -> tuple[Any, ...]:
    with ws.ledger.read() as tx:
        return customer_history(tx, customer).messages


def doubtful(ws: Workspace) -> Counter[str]:
    with ws.ledger.read() as tx:
        return Counter(row.channel for row in in_doubt(tx))


def test_sms_in_doubt_are_asked_about_after_the_grace_and_e_mails_wait_for_a_person(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    faults = ("error_503_accepted", "closed_accepted", "empty_accepted", "error_500")
    simulator.plan = FaultPlan(3, dict.fromkeys(faults, 0.1))
    first = deliver(simulated, monday)
    doubts = doubtful(simulated)
    assert first.in_doubt == doubts.total() > 0
    simulator.plan = FaultPlan()
    deliver(simulated, monday + 4 * MINUTE)
    assert doubtful(simulated)["sms"] == doubts["sms"] > 0  # too early to ask
    for minutes in (6, 12, 18):
        deliver(simulated, monday + minutes * MINUTE)
    assert doubtful(simulated)["sms"] == 0
    assert doubtful(simulated)["email"] == doubts["email"]
    assert simulator.book.duplicates() == {}
    counts = totals(simulated)
    assert counts["planned"] == sum(n for fate, n in counts.items() if fate != "planned")
    sms = [taken.key for taken in simulator.book.accepted if taken.provider == "twilio"]
    assert len(sms) == sum(
        message["state"] == "sent"
        for n in range(60)
        for message in history(simulated, f"C{n:04d}")
        if message["channel"] == "sms"
    )


def test_a_text_that_was_mended_meanwhile_leaves_its_messages_in_doubt_and_counted(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    """Twilio knows another text to these numbers since the attempt: to send again could be to send twice."""
    simulator.plan = FaultPlan(0, {"closed_accepted": 1.0})
    deliver(simulated, monday, limit=10)
    doubts = doubtful(simulated)["sms"]
    assert doubts > 0
    simulator.plan = FaultPlan()
    words = simulated.root / "templates" / "sms" / "hello.txt.j2"
    words.write_text(words.read_text(encoding="utf-8").replace("Hello", "Good day"), encoding="utf-8")
    mended = replace(simulated, renderer=Renderer([simulated.root / "templates"]))
    for minutes in (10, 20):
        deliver(mended, monday + minutes * MINUTE, limit=1)
    assert doubtful(simulated)["sms"] == doubts
    assert totals(simulated)["in_doubt"] >= doubts
    assert simulator.book.duplicates() == {}


def test_doubts_that_nobody_can_settle_do_not_keep_the_others_from_being_asked_about(
    simulated: Workspace, simulator: Simulator, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.plan = FaultPlan(0, {"closed_accepted": 1.0})
    deliver(simulated, monday)
    with simulated.ledger.read() as tx:
        oldest = [row.message_key for row in in_doubt(tx, channel="sms")][:2]
    find = TwilioProvider.find

    async def find_but_the_oldest(self: TwilioProvider, message: Outgoing, **more: Any) -> SendResult | None:
        unsure = SendResult(message.key, "unknown", code="other_text")
        return unsure if message.key in oldest else await find(self, message, **more)

    monkeypatch.setattr(TwilioProvider, "find", find_but_the_oldest)
    monkeypatch.setattr(reconcile_doubts, "AT_ONCE", 2)
    before = doubtful(simulated)["sms"]
    assert before > 6
    for minutes in range(10, 50):
        deliver(simulated, monday + minutes * MINUTE, limit=1)
    assert doubtful(simulated)["sms"] < before - 2
    assert simulator.book.duplicates() == {}


def test_where_the_logs_may_be_read_e_mails_in_doubt_are_settled_too(
    shop: Shop, simulator: Simulator, base: str, monday: datetime
) -> None:
    providers = {"email": "simulated", "simulator_url": base, "sendgrid": {"email_logs": True}}
    ws = shop(providers=providers)
    run_campaign(ws, "back", as_of=monday)
    simulator.plan = FaultPlan(0, {}, {1: "closed_accepted"})
    assert deliver(ws, monday).in_doubt == doubtful(ws)["email"] > 0
    simulator.plan = FaultPlan()
    deliver(ws, monday + 14 * MINUTE)
    assert doubtful(ws)["email"] > 0
    deliver(ws, monday + 16 * MINUTE)
    assert doubtful(ws)["email"] == 0
    assert simulator.book.duplicates() == {}


def test_while_the_provider_cannot_be_asked_everything_stays_as_it_is(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    simulator.plan = FaultPlan(0, {"closed_accepted": 1.0})
    deliver(simulated, monday)
    before = doubtful(simulated)
    simulator.twilio.auth_token = "changed"
    simulator.plan = FaultPlan()
    deliver(simulated, monday + 6 * MINUTE)
    assert doubtful(simulated)["sms"] == before["sms"] > 0
    assert simulator.book.duplicates() == {}


def test_a_number_with_blanks_in_it_is_sent_to_and_its_stop_is_heard(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    people = simulated.settings.root / "customers.csv"
    text = people.read_text(encoding="utf-8").replace(",+44207946", ",+44 20 7946 ")
    people.write_text(text, encoding="utf-8")
    load_facts(simulated, "customers", [people], renames={}, now=monday)
    first = deliver(simulated, monday)
    assert first.failed == 0
    numbers = {taken.recipient for taken in simulator.book.accepted if taken.provider == "twilio"}
    assert numbers
    assert all(re.fullmatch(r"\+44207946\d{4}", number) for number in numbers)
    mailed = next(m["customer_id"] for n in range(60) for m in history(simulated, f"C{n:04d}") if m["step"] == 2)
    stop = Inbound(Address("sms", f"+44207946{mailed[1:]}"), "stop", "twilio:SM1:inbound")
    receive_inbound(simulated, stop, now=monday)
    later = deliver(simulated, monday + timedelta(days=3))
    assert later.skipped["suppressed_address"] == 1


def test_who_has_said_stop_to_the_provider_is_suppressed_here_too(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    simulator.twilio.stopped.update(f"+4420794600{n:02d}" for n in range(60))
    delivered = deliver(simulated, monday)
    assert delivered.failed > 0
    failed = [
        m["customer_id"] for n in range(60) for m in history(simulated, f"C{n:04d}") if m["provider_code"] == "21610"
    ]
    with simulated.ledger.read() as tx:
        wishes = [suppressions_of(tx, customer)[0] for customer in failed]
    assert len(failed) == delivered.failed
    assert {(w["channel"], w["reason"], w["source"]) for w in wishes} == {("sms", "stop", "twilio")}


def test_a_refused_password_rests_the_account_and_loses_nothing(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    simulator.twilio.auth_token = "changed"
    first = deliver(simulated, monday)
    assert "20003" in first.resting["sms"]
    assert show_resting(simulated, at=monday + timedelta(seconds=5)) == first.resting
    assert show_resting(simulated, at=monday + MINUTE) == {}  # its rest is over: the next message tries it
    assert "sms" not in first.to_json()["held"]
    assert first.failed == first.in_doubt == 0
    simulator.twilio.auth_token = "token"
    second = deliver(simulated, monday + 10 * MINUTE)
    assert second.resting == {}
    counts = totals(simulated)
    assert counts["failed"] == counts["in_doubt"] == 0
    assert first.sent + second.sent == counts["sent"] == len(simulator.book.accepted)


def test_a_busy_provider_is_left_alone_as_long_as_it_asks(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    simulator.plan = FaultPlan(0, {}, {1: "too_many"})
    assert deliver(simulated, monday).retried >= 1
    assert deliver(simulated, monday + timedelta(seconds=6)).sent == 0  # Retry-After: 7
    assert deliver(simulated, monday + timedelta(minutes=1)).retried == 0
    assert totals(simulated)["sent"] == len(simulator.book.accepted)


# --- pace, in its own time --------------------------------------------------------------------------------------------


def test_what_must_wait_for_its_account_goes_back_and_time_goes_on(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    time = Time(monday)
    accounts = {"sms": Account("sms:simulated", 2.0), "email": Account("email:simulated")}
    pace = Pace(simulated.ledger, "test", accounts, clock=time, sleep=time.sleep)
    delivered = deliver(simulated, monday, pace=pace)
    assert delivered.sent == len(simulator.book.accepted)
    sms = sum(taken.provider == "twilio" for taken in simulator.book.accepted)
    assert time.gone_s == pytest.approx(sms / 2, abs=1.5)
    intents = {m["intent_at"] for n in range(60) for m in history(simulated, f"C{n:04d}") if m["channel"] == "sms"}
    assert max(at for at in intents if at is not None) > monday + timedelta(seconds=sms / 2 - 2)


def test_a_slow_provider_does_not_make_messages_leave_behind_their_window(
    simulated: Workspace, simulator: Simulator, monday: datetime
) -> None:
    """A batch begins at two minutes to seven, and every answer takes a minute and a half."""
    evening = monday.replace(hour=18, minute=58)
    time, left_at = Time(evening), []
    accounts = {"sms": Account("sms:simulated")}
    pace = Pace(simulated.ledger, "test", accounts, clock=time, sleep=time.sleep)
    accept = simulator.twilio.accept

    def slowly(request: Request) -> Response:
        left_at.append(time.now - evening)
        time.sleep(90.0)
        return accept(request)

    simulator.twilio.accept = slowly  # type: ignore[method-assign]  # the same, later
    simulated.providers["sms"].wire.limits = WireLimits(connections=1)  # type: ignore[attr-defined]  # Twilio's
    delivered = deliver_messages(simulated, now=evening, worker="test", pace=pace)

    assert left_at == [timedelta(0), timedelta(seconds=90)]
    assert (delivered.sent, delivered.failed) == (2, 0)
    assert delivered.retried > 0
    simulator.twilio.accept = accept  # type: ignore[method-assign]  # quick again
    assert deliver(simulated, monday + timedelta(days=1)).to_json()["resting"] == {}
    assert totals(simulated)["sent"] == len(simulator.book.accepted)
    assert totals(simulated)["pending"] == sum(1 for m in _waiting(simulated) if m["step"] == 2)


def _waiting(ws: Workspace) -> list[Mapping[str, Any]]:
    return [m for n in range(60) for m in history(ws, f"C{n:04d}") if m["state"] == "pending"]


def test_the_loop_of_a_run_can_be_used_again(simulated: Workspace, monday: datetime) -> None:
    """Providers keep their connections for one run, each run has a loop of its own."""
    for minutes in range(3):
        deliver(replace(simulated), monday + minutes * MINUTE, limit=5)
    assert totals(simulated)["sent"] == 15
    asyncio.run(simulated.providers["sms"].close())


def test_two_workers_that_ask_about_the_same_doubt_do_not_both_send_it_again(
    simulated: Workspace, simulator: Simulator, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer comes when the first worker has sent the message again: it is about an attempt of the past."""
    simulator.plan = FaultPlan(by_number=dict.fromkeys(range(1, 30), "error_500"))
    deliver(simulated, monday)
    assert doubtful(simulated)["sms"] > 0
    simulator.plan = FaultPlan(rates={"error_503_accepted": 1.0})
    simulator.twilio.clock = lambda: monday + 6 * MINUTE
    other = replace(simulated, providers=make_providers(simulated.settings))
    ask, asked = reconcile_doubts._ask, []

    async def ask_slowly(*given: Any) -> Any:
        answers = await ask(*given)
        if not asked:
            asked.append(True)
            with ThreadPoolExecutor(1) as pool:  # the other one is quicker
                later = monday + 6 * MINUTE
                pool.submit(deliver_messages, other, now=later, worker="other", pace=unhurried(simulated)).result()
        return answers

    monkeypatch.setattr(reconcile_doubts, "_ask", ask_slowly)
    deliver(simulated, monday + 6 * MINUTE, pace=unhurried(simulated))
    assert asked
    assert doubtful(simulated)["sms"] > 0  # what was sent the second time, and taken, got no answer either
    deliver(simulated, monday + 30 * MINUTE, pace=unhurried(simulated))
    deliver(simulated, monday + 60 * MINUTE, pace=unhurried(simulated))
    assert Counter(taken.provider for taken in simulator.book.accepted)["twilio"] > 0
    assert simulator.book.duplicates() == {}


def unhurried(ws: Workspace) -> Pace:
    """A pace that no failure slows down."""
    accounts = {channel: Account(f"{channel}:calm") for channel in ("sms", "email", "push")}
    pace = Pace(ws.ledger, "test", accounts, clock=lambda: START)
    pace.learn = lambda *_: None  # type: ignore[method-assign]
    return pace
