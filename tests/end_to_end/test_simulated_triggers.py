"""Campaigns that begin with each kind of moment, end to end over the simulated providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from tests.end_to_end.simulated_world import (
    DAY,
    HELLO,
    HOUR,
    MONDAY,
    ORDERS,
    PEOPLE,
    MakeWorld,
    Story,
    World,
    campaign,
    people,
)
from warehouse.ledger.waves import waves

pytestmark = pytest.mark.slow


def triggered(name: str, trigger: str, channel: str) -> str:
    """A campaign that begins with a moment, looked for every six hours."""
    arms = f"  care: {{weight: 80%, steps: [{{channel: {channel}, template: hello}}]}}\n"
    every = 'schedule: {cron: "0 */6 * * *", timezone: UTC}\n'
    where = f"trigger: {{{trigger}}}"
    return campaign(name, where, arms, control="20%", more=every, timing=", max_lateness: 1 day")


ZONES = ("Pacific/Auckland", "Europe/London", "America/Los_Angeles")
COUNTRIES = ("NZ", "GB", "US")
TRIGGER_STORY = Story(
    book={
        "served.yaml": triggered("served", "event: served, after: 48 hours", "sms"),
        "welcome.yaml": triggered("welcome", "event: first_purchase, after: 7 days", "email"),
        "birthday.yaml": triggered("birthday", "event: birthday, before: 3 days", "email"),
        "weekly.yaml": campaign(
            "weekly",
            "segment: recency_days >= 60 and orders == 1",
            "  note: {weight: 80%, steps: [{channel: push, template: hello}]}\n",
            control="20%",
            more='schedule: {cron: "0 10 * * 1", timezone: Europe/London}\n',
        ),
    },
    templates=HELLO,
    content={},
)
RUNS = [MONDAY + hours * HOUR for hours in (3, 9, 27, 33, 51, 147, 171)]
"""Noon and 18:00 on Monday and on Tuesday, noon on Wednesday, on Sunday, and on the Monday after."""
DELIVERIES = sorted([*RUNS, MONDAY + 159 * HOUR, MONDAY + 177 * HOUR])
"""Also on that Monday when it is noon in Auckland and forenoon in Los Angeles."""
N_EACH = 20


class Triggered(NamedTuple):
    """A week of scheduled runs, and who was assigned after each of them."""

    world: World
    assigned: Mapping[str, Mapping[Any, list[str]]]


@pytest.fixture(scope="module")
def moments(world: MakeWorld) -> Triggered:
    """Customers whose moments come in the course of a week of runs and deliveries."""
    w = world("triggers", TRIGGER_STORY)
    w.load("customers", PEOPLE, people("E", N_EACH))
    w.load("customers", PEOPLE, people("F", N_EACH))
    born = ("1990-03-12", "1988-02-29")
    by_zone = [zone for zone in zip(ZONES, COUNTRIES, strict=True) for _ in born]
    zones, countries = [zone for zone, _ in by_zone], [country for _, country in by_zone]
    w.load("customers", PEOPLE, people("B", 30, birthday=born, time_zone=zones, country=countries))
    w.load("customers", PEOPLE, people("W", N_EACH))
    first = [f"F{n:03d},F{n:03d},{(first_bought(n)).isoformat()},20.00,10.00," for n in range(N_EACH)]
    before = [f"F{n:03d}X,F{n:03d},2025-06-01T12:00:00+00:00,20.00,10.00," for n in range(0, N_EACH, 4)]
    lapsed = [f"W{n:03d},W{n:03d},{bought},20.00,10.00," for n in range(N_EACH) for bought in (LAPSES[n % 2],)]
    w.load("orders", ORDERS, [*first, *before, *lapsed])
    served = [f"served-{n},E{n:03d},{(moment(n) - 48 * HOUR).isoformat()},served" for n in range(N_EACH)]
    w.load("events", "event_id,customer_id,occurred_at,event", served)
    assigned: dict[str, dict[Any, list[str]]] = {name: {} for name in ("served", "welcome", "birthday", "weekly")}
    for tick in DELIVERIES:
        w.go_to(tick)
        if tick in RUNS:
            w.run_due()
            for name in assigned:
                assigned[name][tick] = sorted(c for members in w.arms(name).values() for c in members)
        w.deliver()
    w.run_due()  # a run that is repeated takes nobody twice
    assert {n: sorted(c for arm in w.arms(n).values() for c in arm) for n in assigned} == {
        n: told[RUNS[-1]] for n, told in assigned.items()
    }
    return Triggered(w, assigned)


LAPSES = ("2025-12-20T12:00:00+00:00", "2026-01-05T12:00:00+00:00")


def moment(n: int) -> Any:
    """Two days after a customer was served: from Monday 09:00, every two hours."""
    return MONDAY + n * 2 * HOUR


def first_bought(n: int) -> Any:
    """A week before Monday 09:00, every two hours."""
    return MONDAY - 7 * DAY + n * 2 * HOUR


def check_messages(told: Triggered, name: str, provider: str) -> None:
    """Everybody of the arm got the campaign's one message, once; control nothing."""
    w = told.world
    arms = w.arms(name)
    assert sorted(w.reached(name)) == sorted(arms["care" if name != "weekly" else "note"])
    for customer, (taken,) in w.reached(name).items():
        assert taken.provider == provider
        assert name in w.read(taken)
        assert f"Ann{int(customer[1:])}" in w.read(taken)
    assert w.status(name)["total"]["sent"] == len(w.accepted(name))
    assert arms["control"]


def test_an_event_brings_its_customers_in_two_days_later_each_at_the_run_after_it(moments: Triggered) -> None:
    for tick, members in moments.assigned["served"].items():
        assert members == [f"E{n:03d}" for n in range(N_EACH) if moment(n) < tick], tick
    check_messages(moments, "served", "twilio")
    for customer, (taken,) in moments.world.reached("served").items():
        assert moment(int(customer[1:])) <= taken.at <= moment(int(customer[1:])) + DAY
        assert 9 <= taken.at.hour < 19
    told = moments.world.explain("served", next(iter(moments.world.reached("served"))))
    assert any(event["what"] == "moment of served + 2 days" for event in told["events"])


def test_a_first_purchase_brings_in_only_those_who_never_bought_before(moments: Triggered) -> None:
    newcomers = [n for n in range(N_EACH) if n % 4]
    for tick, members in moments.assigned["welcome"].items():
        assert members == [f"F{n:03d}" for n in newcomers if first_bought(n) + 7 * DAY < tick], tick
    check_messages(moments, "welcome", "sendgrid")
    told = moments.world.explain("welcome", "F000")["answer"]
    assert "no moment of first_purchase + 7 days" in told


def test_a_birthday_mail_leaves_three_days_before_it_where_the_customer_lives(moments: Triggered) -> None:
    born_in_march = [f"B{n:03d}" for n in range(30) if n % 2 == 0]
    assert moments.assigned["birthday"][RUNS[4]] == []
    assert moments.assigned["birthday"][RUNS[-1]] == born_in_march
    check_messages(moments, "birthday", "sendgrid")
    for customer, (taken,) in moments.world.reached("birthday").items():
        zone = ZONES[int(customer[1:]) // 2 % 3]
        assert taken.at.astimezone(ZoneInfo(zone)).date().isoformat() == "2026-03-09", customer


def test_a_schedule_runs_on_its_day_and_takes_who_has_lapsed_by_then(moments: Triggered) -> None:
    early, late = [f"W{n:03d}" for n in range(0, N_EACH, 2)], [f"W{n:03d}" for n in range(1, N_EACH, 2)]
    for tick, members in moments.assigned["weekly"].items():
        assert members == (early if tick < MONDAY + 7 * DAY else sorted([*early, *late])), tick
    check_messages(moments, "weekly", "fcm")
    with moments.world.ws.ledger.read() as tx:
        assert [wave.as_of for wave in waves(tx, "weekly:1")] == [MONDAY + HOUR, MONDAY + 7 * DAY + HOUR]
