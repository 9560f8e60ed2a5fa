"""Second messages that depend on what a customer did, and messages that come again, over the simulated providers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from channels.simulators.record import Accepted
from tests.end_to_end.simulated_world import (
    A_MUG,
    DAY,
    HELLO,
    MONDAY,
    ORDERS,
    PAGE,
    PEOPLE,
    PUBLIC,
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


class Condition(NamedTuple):
    """A condition, the channel of the first message, and what makes it true of customers."""

    unless: str
    channel: str
    act: Callable[[World, list[str]], None]


def click_links(w: World, customers: list[str]) -> None:
    """Follow the short link in each customer's text."""
    for customer in customers:
        (taken,) = w.reached("talk", "1")[customer]
        found = re.search(rf"{re.escape(PUBLIC)}/l/\S+", taken.body)
        assert found is not None, taken.body
        assert w.open_link(found[0]) == PAGE


def mails(w: World, customers: list[str]) -> list[Accepted]:
    return [w.reached("talk", "1")[customer][0] for customer in customers]


def codes_of(w: World, customers: list[str]) -> dict[str, str | None]:
    return {customer: str(w.code(customer, "talk")).lower() for customer in customers}


CONDITIONS: Mapping[str, Condition] = {
    "purchased": Condition("purchased", "sms", lambda w, who: w.buy(dict.fromkeys(who))),
    "redeemed": Condition("redeemed", "sms", lambda w, who: w.buy(codes_of(w, who))),
    "visited": Condition("visited", "sms", lambda w, who: w.happen("visit", who)),
    "opened": Condition("opened", "email", lambda w, who: w.report_mail(mails(w, who), "open")),
    "clicked": Condition("clicked", "email", lambda w, who: w.report_mail(mails(w, who), "click", url=PAGE)),
    "link": Condition("clicked", "sms", click_links),
    "replied": Condition("replied", "sms", lambda w, who: w.answer([phone(c) for c in who], "who is this?")),
    "segment": Condition("big_spenders", "sms", lambda w, who: w.buy(dict.fromkeys(who), amount=2000)),
    "expression": Condition("open_complaint", "sms", lambda w, who: w.happen("complaint_opened", who)),
}
JOURNEY_STORY = Story(
    book={
        "offers.yaml": f"gift: {{{A_MUG}, text: a mug, valid_for: 30 days}}\n",
        "segments.yaml": "big_spenders: {where: spend > 1000}\n",
        "talk.yaml": campaign(
            "talk",
            "segment: orders >= 1, allow_open_complaint: true",
            "".join(
                f"  {name}:\n    weight: 10%\n    offer: gift\n    steps:\n"
                f"      - {{channel: {kind.channel}, template: talk}}\n"
                f"      - {{channel: sms, template: talk, after: 2 days, unless: {kind.unless}}}\n"
                for name, kind in CONDITIONS.items()
            ),
        ),
        "updates.yaml": campaign(
            "updates",
            "segment: open_complaint and orders == 0, allow_open_complaint: true",
            "  inform:\n    weight: 80%\n    steps:\n      - {channel: sms, template: hello, "
            "repeat: {every: 3 days, at_most: 4, until: not open_complaint}}\n",
            control="20%",
        ),
    },
    templates={
        **HELLO,
        "sms/talk.txt.j2": f"{{{{ company.name }}}}: {{{{ offer.code }}}} {PAGE} Reply STOP to opt out",
        "email/talk.subject.j2": "For you",
        "email/talk.html.j2": f"<p>{{{{ offer.code }}}} <a href='{PAGE}'>Look</a></p>{UNSUBSCRIBE}",
    },
    content={"short_links": True},
)
N_TALK, N_INFORMED = 160, 20


class Talked(NamedTuple):
    """What came of a journey with an arm for each condition, and of a message that comes again and again."""

    world: World
    arms: Mapping[str, list[str]]
    informed: list[str]
    resolved: list[str]


@pytest.fixture(scope="module")
def talked(world: MakeWorld) -> Talked:
    """First messages on Monday; on Tuesday four of each arm do what its condition names; second messages on Wednesday."""
    w = world("journeys", JOURNEY_STORY)
    names = [f"T{n:03d}" for n in range(N_TALK)]
    w.load("customers", PEOPLE, people("T", N_TALK))
    w.load("customers", PEOPLE, people("C", N_INFORMED))
    w.load("orders", ORDERS, bought_before(names))
    w.happen("complaint_opened", [f"C{n:03d}" for n in range(N_INFORMED)], MONDAY - DAY)
    w.run("talk", "updates")
    w.deliver()
    arms = w.arms("talk")
    informed = w.arms("updates")["inform"]
    w.go_to(MONDAY + DAY)
    for name, kind in CONDITIONS.items():
        kind.act(w, arms[name][:4])
    w.buy(dict.fromkeys(arms["redeemed"][4:6]))  # without the code
    w.report_mail(mails(w, arms["opened"][4:6]), "open", sg_machine_open=True)
    for days in (2, 3):
        w.go_to(MONDAY + days * DAY)
        w.deliver()
    w.happen("complaint_resolved", informed[:5])
    for days in (6, 9, 12, 15):
        w.go_to(MONDAY + days * DAY)
        w.deliver()
    return Talked(w, arms, informed, informed[:5])


@pytest.mark.parametrize("name", CONDITIONS)
def test_who_did_what_a_step_names_is_not_reminded_and_all_others_are_with_the_same_code(
    talked: Talked, name: str
) -> None:
    w, kind, members = talked.world, CONDITIONS[name], talked.arms[name]
    assert len(members) > 6
    first, second = w.reached("talk", "1"), w.reached("talk", "2")
    assert [c for c in members if c in second] == members[4:]
    for customer in members:
        (sent,) = first[customer]
        assert str(w.code(customer, "talk")) in w.read(sent)
        (_, state, reason) = w.fates(customer, "talk")[1]
        if customer in members[:4]:
            assert (state, reason) == ("skipped", kind.unless)
        else:
            (reminder,) = second[customer]
            assert state == "sent"
            assert str(w.code(customer, "talk")) in reminder.body
            assert reminder.at == MONDAY + 2 * DAY
    told = w.explain("talk", members[0])
    assert told["answer"].endswith(f"step 2 by sms: skipped ({kind.unless})")


def test_every_message_of_a_journey_is_counted_and_control_gets_none(talked: Talked) -> None:
    w = talked.world
    shown = w.status("talk")
    members = sum(len(talked.arms[name]) for name in CONDITIONS)
    assert shown["total"]["planned"] == 2 * members
    assert shown["total"]["sent"] == len(w.accepted("talk")) == 2 * members - 4 * len(CONDITIONS)
    assert sum(shown["skipped"].values()) == 4 * len(CONDITIONS)
    assert talked.arms["control"]
    assert not set(w.reached("talk")) & set(talked.arms["control"])


def test_a_message_comes_again_until_its_condition_is_true_and_so_often_at_most(talked: Talked) -> None:
    w = talked.world
    assert len(talked.informed) > 8
    for customer in talked.informed:
        days = [(taken.at - MONDAY) / DAY for taken in w.reached("updates")[customer]]
        assert days == ([0, 3] if customer in talked.resolved else [0, 3, 6, 9])
        assert {taken.body for taken in w.reached("updates")[customer]} == {
            f"Northwind Coffee: updates, Ann{int(customer[1:])}. Reply STOP to opt out"
        }
    assert w.status("updates")["skipped"] == {"until not open_complaint": 2 * len(talked.resolved)}
    told = w.explain("updates", talked.resolved[0])["answer"]
    assert "step 1, turn 2 by sms: sent, step 1, turn 3 by sms: skipped (until not open_complaint)" in told
    assert not set(w.reached("updates")) & set(w.arms("updates")["control"])
