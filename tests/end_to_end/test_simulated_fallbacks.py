"""Messages that do not arrive and what follows on the next channel, end to end over the simulated providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from channels.simulators.record import Accepted
from tests.end_to_end.simulated_world import (
    A_MUG,
    DAY,
    HOUR,
    MONDAY,
    ORDERS,
    PEOPLE,
    UNSUBSCRIBE,
    MakeWorld,
    Story,
    World,
    bought_before,
    campaign,
    people,
    phone,
)

pytestmark = pytest.mark.slow

FALLBACK_ARMS = """\
  note:
    weight: 18%
    offer: gift
    steps: [{channel: push, template: gift, fallback: [sms]}]
  text:
    weight: 18%
    offer: gift
    steps: [{channel: sms, template: gift, fallback: [email]}]
  mail:
    weight: 18%
    offer: gift
    steps: [{channel: email, template: gift, fallback: [push, sms]}]
  quiet:
    weight: 18%
    offer: gift
    steps: [{channel: sms, template: gift, fallback: [email], fallback_after: 4 hours}]
  patient:
    weight: 18%
    offer: gift
    steps: [{channel: sms, template: gift, fallback: [email], fallback_after: 11 hours}]
"""
GIFT = "a mug, {{ customer.first_name }}: {{ offer.code }}"
FALLBACK_STORY = Story(
    book={
        "offers.yaml": f"gift: {{{A_MUG}, text: a mug, valid_for: 14 days}}\n",
        "care.yaml": campaign("care", "segment: orders >= 1", FALLBACK_ARMS, timing=", max_lateness: 2 days"),
    },
    templates={
        "sms/gift.txt.j2": f"{{{{ company.name }}}}: {GIFT}. Reply STOP to opt out",
        "email/gift.subject.j2": "A mug",
        "email/gift.html.j2": f"<p>{GIFT}.</p>{UNSUBSCRIBE}",
        "push/gift.json.j2": f'{{"title": "A mug", "body": "{GIFT}."}}',
    },
    content={},
)
N_FALLBACKS = 120


class Fallen(NamedTuple):
    """What came of the campaign whose messages do not arrive: by arm, who met what."""

    world: World
    arms: Mapping[str, list[str]]
    met: Mapping[str, list[str]]


@pytest.fixture(scope="module")
def fallen(world: MakeWorld) -> Fallen:
    """Two days of messages of which some do not arrive, by the planner, the provider, a receipt, or silence."""
    w = world("fallbacks", FALLBACK_STORY)
    names = [f"L{n:03d}" for n in range(N_FALLBACKS)]
    tokens = [f"app-{c}" if n % 3 else "" for n, c in enumerate(names)]
    w.load("customers", PEOPLE, people("L", N_FALLBACKS, push_token=tokens))
    w.load("orders", ORDERS, bought_before(names))
    w.run("care")
    arms = w.arms("care")
    met = {
        "unreachable": [c for c in arms["note"] if has_no_app(c)],
        "unregistered": [c for c in arms["note"] if not has_no_app(c)][:4],
        "stopped": arms["text"][:3],
        "undelivered": arms["text"][3:7],
        "bounced": arms["mail"][:6],
        "silent": arms["quiet"][:4],
        "reported late": arms["patient"][:4],
        "never reported": arms["patient"][4:8],
    }
    w.simulator.fcm.gone.update(f"app-{c}" for c in met["unregistered"])
    w.simulator.twilio.stopped.update(phone(c) for c in met["stopped"])
    w.deliver()
    w.go_to(MONDAY + HOUR)
    first = {c: sent[0] for c, sent in w.reached("care", "1").items()}
    troubled = {c for members in met.values() for c in members}
    heard = [c for arm in ("text", "quiet", "patient") for c in arms[arm] if c not in troubled]
    w.report_sms([first[c] for c in heard], "delivered")
    w.report_sms([first[c] for c in met["undelivered"]], "undelivered", "30003")
    w.report_mail([first[c] for c in met["bounced"]], "bounce", type="bounce", status="5.1.1")
    w.report_mail([first[c] for c in arms["mail"][6:]], "delivered")
    for hours in (1, 3, 4, 11):
        w.go_to(MONDAY + hours * HOUR)
        w.deliver()
    w.go_to(MONDAY + 12 * HOUR)  # 21:00: what follows waits for its window
    w.report_sms([first[c] for c in met["reported late"]], "delivered")
    w.go_to(MONDAY + DAY)
    w.deliver()
    return Fallen(w, arms, met)


def has_no_app(customer: str) -> bool:
    return int(customer[1:]) % 3 == 0


def got(told: Fallen, customer: str) -> list[tuple[str, float]]:
    """Provider and hours after Monday 09:00 of each message that a customer got; all of them say the same."""
    taken = told.world.reached("care").get(customer)
    if taken is None:
        return []
    texts = {re.sub(r"^Northwind Coffee: |\. Reply STOP.*$", "", message.body) for message in taken if is_sms(message)}
    words = f"a mug, Ann{int(customer[1:])}: {told.world.code(customer, 'care')}"
    assert texts <= {words}
    assert all(f"{words}." in told.world.read(message) for message in taken)
    return [(message.provider, (message.at - MONDAY) / HOUR) for message in taken]


def is_sms(taken: Accepted) -> bool:
    return taken.provider == "twilio"


FALLBACKS: Mapping[str, tuple[list[tuple[str, float]], list[tuple[str, str, str]]]] = {
    # what customers got and when, and what the ledger says of each message
    "unreachable": ([("twilio", 0)], [("1", "sent", "")]),
    "unregistered": ([("twilio", 0)], [("1", "failed", "UNREGISTERED"), ("1/sms", "sent", "")]),
    "stopped": ([("sendgrid", 0)], [("1", "failed", "21610"), ("1/email", "sent", "")]),
    "undelivered": ([("twilio", 0), ("sendgrid", 1)], [("1", "failed", "undelivered"), ("1/email", "sent", "")]),
    "silent": ([("twilio", 0), ("sendgrid", 4)], [("1", "sent", ""), ("1/email", "sent", "")]),
    "reported late": ([("twilio", 0)], [("1", "delivered", ""), ("1/email", "skipped", "arrived")]),
    "never reported": ([("twilio", 0), ("sendgrid", 24)], [("1", "sent", ""), ("1/email", "sent", "")]),
}


@pytest.mark.parametrize("kind", FALLBACKS)
def test_the_next_channel_says_the_same_with_the_same_code_when_a_message_does_not_arrive(
    fallen: Fallen, kind: str
) -> None:
    received, fates = FALLBACKS[kind]
    assert len(fallen.met[kind]) >= 3
    for customer in fallen.met[kind]:
        assert got(fallen, customer) == received
        told = fallen.world.fates(customer, "care")
        assert [(key, state) for key, state, _ in told] == [(key, state) for key, state, _ in fates]
        assert all(reason in why for (_, _, why), (_, _, reason) in zip(told, fates, strict=True))


def test_after_a_bounce_the_next_channel_is_the_first_that_the_customer_has(fallen: Fallen) -> None:
    for customer in fallen.met["bounced"]:
        channel, provider = ("sms", "twilio") if has_no_app(customer) else ("push", "fcm")
        assert got(fallen, customer) == [("sendgrid", 0), (provider, 1)]
        assert fallen.world.fates(customer, "care") == [("1", "failed", "bounce"), (f"1/{channel}", "sent", "")]
        told = fallen.world.explain("care", customer)
        assert f"step 1 by email: failed (bounce), step 1 by {channel} instead: sent" in told["answer"]
        assert any(e["what"].endswith("/1: fallback") and e["why"].startswith(channel) for e in told["events"])
    assert {has_no_app(customer) for customer in fallen.met["bounced"]} == {True, False}


def test_whose_message_arrived_gets_no_second_one_and_control_none(fallen: Fallen) -> None:
    troubled = {customer for members in fallen.met.values() for customer in members}
    for arm, members in fallen.arms.items():
        for customer in set(members) - troubled:
            assert len(got(fallen, customer)) == (0 if arm == "control" else 1)
    shown = fallen.world.status("care")
    assert shown["fallbacks"] == sum(len(fallen.met[kind]) for kind in fallen.met if kind != "unreachable")
    assert shown["skipped"] == {"arrived": len(fallen.met["reported late"])}
    taken = len(fallen.world.accepted("care"))
    undone = len(fallen.met["undelivered"]) + len(fallen.met["bounced"])  # taken by the provider, never arrived
    assert shown["total"]["sent"] == taken - undone
