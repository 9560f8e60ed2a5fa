"""Campaigns of each offer kind, each trigger, each fallback and each condition, end to end over the simulated providers.

Real clients speak HTTP to the simulators, whose signed receipts reach the real receiving app; the clock is virtual. What
the simulators accepted is what customers got: text, promise, code and last day are asserted on it, and each message key
is accepted once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import date
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from campaigns.codes import is_code
from channels.simulators.record import Accepted
from channels.simulators.server import Simulator, running
from flows.steps.import_codes import import_code_file
from flows.steps.measure_experiment import measure_experiment
from flows.steps.post_points import balance_of, post_points
from tests.end_to_end.simulated_world import (
    DAY,
    HOUR,
    MONDAY,
    PAGE,
    PEOPLE,
    PUBLIC,
    UNSUBSCRIBE,
    Story,
    Time,
    World,
    people,
    phone,
)
from warehouse.ledger.waves import waves

pytestmark = pytest.mark.slow

MakeWorld = Callable[[str, Story], World]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeWorld]:
    """Makes shops that share one server of simulators and its clock; a story is over before the next one begins."""
    time = Time()
    simulator = Simulator(clock=time)
    with ExitStack() as stack:
        base = stack.enter_context(running(simulator))

        def make(name: str, story: Story) -> World:
            return World(stack, tmp_path_factory.mktemp(name) / "shop", story, (simulator, base, time))

        yield make


def campaign(name: str, audience: str, arms: str, *, control: str = "10%", more: str = "", timing: str = "") -> str:
    """A campaign file; `arms` are lines of its own."""
    return (
        f"campaign: {name}\nstatus: active\n{more}audience: {{{audience}}}\n"
        f"experiment: {{control: {control}, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}}\n"
        f'arms:\n{arms}timing: {{window: {{from: "09:00", to: "19:00"}}{timing}}}\n'
    )


def bought_before(customers: list[str]) -> list[str]:
    """Lines of one old order each."""
    return [f"O{c},{c},2025-12-20T12:00:00+00:00,20.00,10.00," for c in customers]


ORDERS = "order_id,customer_id,ordered_at,amount,margin,discount_code"

# --- offers -----------------------------------------------------------------------------------------------------------

COST = "cost: {redeemed: 10%, value: 4 EUR}"
SHARED, GENERATED, POOL = (
    "code: {kind: shared, value: SPRING}",
    "code: {kind: generated, prefix: GEN}",
    "code: {kind: pool, pool: spring}",
)


class Kind(NamedTuple):
    """An offer, what a message says it is worth, its code, and what one redeeming order of 30.00 costs."""

    terms: str
    value: str
    code: str | None
    each: float = 4.0


KINDS: Mapping[str, Kind] = {
    "percent": Kind(f"kind: percent_off, percent: 10%, {SHARED}, {COST}", "10%", "shared", 30.0 / 9),
    "amount": Kind(f"kind: amount_off, amount: 5 EUR, {GENERATED}, {COST}", "5 EUR", "generated", 5.0),
    "shipping": Kind(f"kind: free_shipping, {POOL}, {COST}", "", "pool"),
    "multiplier": Kind(f"kind: points, multiplier: 3, {COST}", "3x", None),
    "bonus": Kind(f"kind: points, bonus: 500, {SHARED}, {COST}", "500", "shared"),
    "gift": Kind(f"kind: gift, item: a mug, {GENERATED}, {COST}", "a mug", "generated"),
    "bundle": Kind(f"kind: bundle, items: [tea, a mug], {POOL}, {COST}", "tea + a mug", "pool"),
    "upgrade": Kind(f"kind: upgrade, to: express, {SHARED}, {COST}", "express", "shared"),
    "none": Kind("kind: none", "", None, 0.0),
}
TIERS: Mapping[str, Kind] = {
    "large": Kind(f"kind: gift, item: a pot, {POOL}, cost: {{redeemed: 20%, value: 6 EUR}}", "a pot", "pool", 6.0),
    "small": Kind(f"kind: percent_off, percent: 5%, {SHARED}, {COST}", "5%", "shared", 30.0 / 19),
}
OFFERS = "".join(
    f"{name}: {{{kind.terms}, text: {{en: promise of {name}, zh: 优惠 {name}}}, valid_for: 14 days}}\n"
    for name, kind in KINDS.items()
) + "tiered:\n  kind: tiered\n  by: spend\n  least: {large: 100 EUR, small: 0 EUR}\n  valid_for: 14 days\n  tiers:\n" + (
    "".join(f"    {name}: {{{t.terms}, text: {{en: promise of {name}, zh: 优惠 {name}}}}}\n" for name, t in TIERS.items())
)  # fmt: skip
ARMS = (*KINDS, "tiered")
WORDS = {
    # template -> what it may say of an offer's tier and code: lint refuses what the arm's offer never has
    "coded": "-|{{ offer.code }}",
    "plain": "-|-",
    "tiers": "{{ offer.tier }}|{{ offer.code }}",
}
TEMPLATE = {arm: "coded" if kind.code else "plain" for arm, kind in KINDS.items()} | {"tiered": "tiers"}
SAYS = {
    name: f"[{{{{ offer.value }}}}|{{{{ offer.text }}}}|{w}|{{{{ offer.expires_on }}}}]" for name, w in WORDS.items()
}
LAST_DAY = {"en-GB": "16 March 2026", "en-US": "March 16, 2026", "zh-CN": "2026年3月16日"}
OFFER_STORY = Story(
    book={
        "offers.yaml": OFFERS,
        "gifts.yaml": campaign(
            "gifts",
            "segment: orders >= 1",
            "".join(
                f"  {arm}:\n    weight: 9%\n    offer: {arm}\n    steps:\n"
                f"      - {{channel: sms, template: {TEMPLATE[arm]}}}\n"
                f"      - {{channel: email, template: {TEMPLATE[arm]}, after: 3 days}}\n"
                for arm in ARMS
            ),
        ),
    },
    templates={
        file: text
        for name, says in SAYS.items()
        for file, text in (
            (f"sms/{name}.txt.j2", f"{{{{ company.name }}}}: {says} Reply STOP to opt out"),
            (f"sms/{name}.zh.txt.j2", f"【{{{{ company.name }}}}】{says} 拒收请回复R"),
            (f"email/{name}.subject.j2", "For you"),
            (f"email/{name}.zh.subject.j2", "给您"),
            (f"email/{name}.html.j2", f"<p>{says}</p>{UNSUBSCRIBE}"),
            (f"email/{name}.zh.html.j2", f"<p>{says}</p>{UNSUBSCRIBE}"),
        )
    },
    content={"languages": ["en", "zh"]},
)
LOCALES = ("en-GB", "zh-CN", "en-US")
N_OFFERS = 200


class Offered(NamedTuple):
    """What came of the campaign with an arm for each offer."""

    world: World
    arms: Mapping[str, list[str]]
    codes: Mapping[str, str | None]
    buyers: Mapping[str, list[str]]
    offers: Mapping[str, Mapping[str, Any]]
    leaks: Mapping[str, int]


@pytest.fixture(scope="module")
def offered(world: MakeWorld) -> Offered:
    """An arm for each offer kind: a text on Monday, a mail as a reminder, receipts, orders with the codes, measured."""
    w = world("offers", OFFER_STORY)
    w.load("customers", PEOPLE, people("O", N_OFFERS, locale=LOCALES))
    names = [f"O{n:03d}" for n in range(N_OFFERS)]
    big = [f"BIG{c},{c},2025-12-21T12:00:00+00:00,200.00,100.00," for c in names[::2]]
    w.load("orders", ORDERS, [*bought_before(names), *big])
    (w.root / "codes.csv").write_text("".join(f"POOL{n:04d}\n" for n in range(N_OFFERS)), encoding="utf-8")
    last = date(2026, 6, 1)
    import_code_file(w.ws, "spring", w.root / "codes.csv", expires_on=last, now=MONDAY - DAY, actor="ann")
    w.run("gifts")
    for days in (0, 3):
        w.go_to(MONDAY + days * DAY)
        w.deliver()
    w.report_sms(w.accepted("gifts", "1").values(), "delivered")
    w.report_mail(w.accepted("gifts", "2").values(), "delivered")
    arms = w.arms("gifts")
    codes = {c: w.code(c, "gifts") for arm in ARMS for c in arms[arm]}
    buyers = {arm: arms[arm][:5] for arm in ARMS}
    w.go_to(MONDAY + 5 * DAY)
    w.buy({c: codes[c] for members in buyers.values() for c in members} | {arms["control"][0]: "SPRING"})
    post_points(w.ws, now=MONDAY + 6 * DAY)
    w.go_to(MONDAY + 34 * DAY)
    told = measure_experiment(w.ws, "gifts", now=w.time.now).to_json()["redemptions"]
    return Offered(w, arms, codes, buyers, {row["offer"]: row for row in told["offers"]}, told["leaks"])


def said(text: str) -> list[str]:
    """Value, text, tier, code and last day as a message says them."""
    found = re.search(r"\[(.*?)\]", text)
    assert found is not None
    return found[1].split("|")


def locale_of(customer: str) -> str:
    return LOCALES[int(customer[1:]) % len(LOCALES)]


def tier_of(customer: str) -> str:
    return "large" if int(customer[1:]) % 2 == 0 else "small"


@pytest.mark.parametrize("arm", ARMS)
def test_every_customer_of_an_offer_reads_its_promise_its_code_and_its_last_day_twice(
    offered: Offered, arm: str
) -> None:
    w, members = offered.world, offered.arms[arm]
    assert len(members) > 5
    for customer in members:
        name = tier_of(customer) if arm == "tiered" else arm
        kind = TIERS[name] if arm == "tiered" else KINDS[name]
        locale = locale_of(customer)
        text, mail = w.reached("gifts")[customer]
        assert (text.provider, text.recipient) == ("twilio", phone(customer))
        assert (mail.provider, mail.recipient) == ("sendgrid", f"{customer.lower()}@mail.example")
        words = f"优惠 {name}" if locale == "zh-CN" else f"promise of {name}"
        tier = name if arm == "tiered" else "-"
        expected = [kind.value, words, tier, offered.codes[customer] or "-", LAST_DAY[locale]]
        assert said(text.body) == said(w.read(mail)) == expected
        assert text.body.endswith("拒收请回复R" if locale == "zh-CN" else "Reply STOP to opt out")
        assert mail.body == ("给您" if locale == "zh-CN" else "For you")


def test_codes_are_of_their_kind_and_nobody_has_anothers(offered: Offered) -> None:
    own: list[str] = []
    for arm in ARMS:
        for customer in offered.arms[arm]:
            kind = TIERS[tier_of(customer)] if arm == "tiered" else KINDS[arm]
            code = offered.codes[customer]
            match kind.code:
                case None:
                    assert code is None
                case "shared":
                    assert code == "SPRING"
                case "generated":
                    assert code is not None
                    assert is_code(code, prefix="GEN")
                    own.append(code)
                case "pool":
                    assert code is not None
                    assert re.fullmatch(r"POOL\d{4}", code)
                    own.append(code)
    assert len(own) == len(set(own)) > 50


def test_control_gets_nothing_and_the_books_agree_with_what_the_provider_took(offered: Offered) -> None:
    w = offered.world
    assert offered.arms["control"]
    assert not set(w.reached("gifts")) & set(offered.arms["control"])
    total = w.status("gifts")["total"]
    members = sum(len(offered.arms[arm]) for arm in ARMS)
    assert total["planned"] == total["sent"] == len(w.accepted("gifts")) == 2 * members
    assert {state for arm in ARMS for c in offered.arms[arm] for _, state, _ in w.fates(c, "gifts")} == {"delivered"}


@pytest.mark.parametrize("arm", ARMS)
def test_explain_tells_the_promise_and_never_the_code(offered: Offered, arm: str) -> None:
    customer = offered.arms[arm][0]
    told = offered.world.explain("gifts", customer)
    assert told["answer"].endswith("step 1 by sms: delivered, step 2 by email: delivered")
    kind = (TIERS[tier_of(customer)] if arm == "tiered" else KINDS[arm]).code
    how = {
        None: "without a code",
        "shared": "with the code that all share",
        "generated": "with a generated code of its own",
        "pool": "with a code of its own of pool spring",
    }[kind]
    tier = f", tier {tier_of(customer)}" if arm == "tiered" else ""
    assert f"promised offer {arm}{tier}, {how}" in {event["what"] for event in told["events"]}
    assert kind is None or str(offered.codes[customer]) not in str(told)


@pytest.mark.parametrize("arm", KINDS)
def test_what_was_redeemed_is_measured_at_its_own_cost(offered: Offered, arm: str) -> None:
    found, kind, members = offered.offers[arm], KINDS[arm], offered.arms[arm]
    assert (found["offered"], found["reached"]) == (len(members), len(members))
    if arm == "none":
        assert (found["basis"], found["redeemed"], found["expected_cost"]) == ("expected", None, 0.0)
        return
    assert (found["basis"], found["redeemed"], found["late"]) == ("orders", 5, 0)
    assert found["actual_cost"] == pytest.approx(5 * kind.each, abs=0.01)
    assert found["expected_cost"] == pytest.approx(len(members) * 0.4, abs=0.01)


def test_each_tier_is_measured_for_itself_and_a_code_in_controls_hands_is_a_leak(offered: Offered) -> None:
    for name, kind in TIERS.items():
        found = offered.offers[f"tiered/{name}"]
        members = [c for c in offered.arms["tiered"] if tier_of(c) == name]
        bought = [c for c in offered.buyers["tiered"] if tier_of(c) == name]
        assert (found["offered"], found["redeemed"]) == (len(members), len(bought))
        assert found["actual_cost"] == pytest.approx(len(bought) * kind.each, abs=0.01)
    assert offered.leaks["control"] == 1


def test_points_are_given_to_those_who_bought(offered: Offered) -> None:
    def balance(customer: str) -> int:
        return int(balance_of(offered.world.ws, customer, now=MONDAY + 7 * DAY)["balance"])

    assert {balance(c) for c in offered.buyers["bonus"]} == {500}
    assert {balance(c) for c in offered.buyers["multiplier"]} == {60}  # twice the usual 30 above them
    for arm in ("bonus", "multiplier"):
        assert {balance(c) for c in offered.arms[arm][5:]} == {0}


# --- triggers ---------------------------------------------------------------------------------------------------------


def triggered(name: str, trigger: str, channel: str) -> str:
    """A campaign that begins with a moment, looked for every six hours."""
    arms = f"  care: {{weight: 80%, steps: [{{channel: {channel}, template: hello}}]}}\n"
    every = 'schedule: {cron: "0 */6 * * *", timezone: UTC}\n'
    where = f"trigger: {{{trigger}}}"
    return campaign(name, where, arms, control="20%", more=every, timing=", max_lateness: 1 day")


HELLO = {
    "sms/hello.txt.j2": "{{ company.name }}: {{ campaign.name }}, {{ customer.first_name }}. Reply STOP to opt out",
    "email/hello.subject.j2": "{{ campaign.name }}",
    "email/hello.html.j2": f"<p>{{{{ campaign.name }}}}, {{{{ customer.first_name }}}}</p>{UNSUBSCRIBE}",
    "push/hello.json.j2": '{"title": "{{ campaign.name }}", "body": "{{ customer.first_name }}"}',
}
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


# --- fallbacks --------------------------------------------------------------------------------------------------------

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
        "offers.yaml": f"gift: {{{KINDS['gift'].terms}, text: a mug, valid_for: 14 days}}\n",
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


# --- conditions and cadence -------------------------------------------------------------------------------------------


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
        "offers.yaml": f"gift: {{{KINDS['gift'].terms}, text: a mug, valid_for: 30 days}}\n",
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
