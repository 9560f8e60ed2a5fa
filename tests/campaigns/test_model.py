"""A campaign file says what it means: every key has its type, its default and its effect, or is refused."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest
from ruamel.yaml import YAML

from campaigns.checks import check_campaign
from campaigns.model import Campaign
from campaigns.timing import Window
from campaigns.units import Difference, FrequencyCap, parse_money
from campaigns.validation import Issue, validate

DESIGN = """\
campaign: winback-90d
description: Bring back customers who went quiet for 90 days
owner: crm
status: active
schedule: {cron: "0 9 * * 1", timezone: Europe/London}
audience:
  segment: lapsing
  limit: 50000
  reentry_after: 180 days
  exclusive: winback
experiment:
  hypothesis: A points offer brings back more margin than a discount
  control: 20%
  unit: customer
  horizon: 30 days
  primary: repurchase
  metrics: [revenue, margin, orders, retained]
  guardrails: {unsubscribed: {max_increase: 0.5pp}, complained: {max_increase: 0.2pp}}
  minimum_effect: 1.5pp
  looks: 4
  alpha: 0.05
  power: 0.8
arms:
  ten-percent-sms:
    weight: 40%
    offer: ten-percent
    steps:
      - {channel: sms, template: winback_ten_percent}
      - {channel: email, template: winback_reminder, after: 4 days, unless: purchased}
  double-points-email:
    weight: 40%
    offer: double-points
    steps:
      - {channel: email, template: winback_points, fallback: [push, sms]}
timing:
  window: {days: [tue, wed, thu], from: "10:00", to: "19:00"}
  if_late: next_window
  max_lateness: 12 hours
caps: {per_customer: 2 per 7 days, min_gap: 20 hours}
budget: {messages: 60000, cost: 2500 EUR, discounts: 20000 EUR}
feedback: {mode: propose, holdback: 10%}
"""


def plain(text: str = DESIGN) -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return values


def put(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The values with one changed; a path such as "arms.a.steps.0.after"."""
    *parents, key = path.split(".")
    node: Any = raw
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    node[key] = value
    return raw


def issues(raw: dict[str, Any]) -> list[Issue]:
    return [*validate(Campaign, raw)[1], *check_campaign(raw)]


def messages(raw: dict[str, Any]) -> dict[str, str]:
    return {".".join(map(str, issue.location)): issue.message for issue in issues(raw)}


def campaign(raw: dict[str, Any] | None = None) -> Campaign:
    return Campaign.model_validate(raw or plain())


def test_the_designed_file_parses_with_every_key() -> None:
    assert issues(plain()) == []
    read = campaign()
    assert (read.name, read.owner, read.status) == ("winback-90d", "crm", "active")
    assert read.schedule is not None
    assert (read.schedule.cron, read.schedule.timezone) == ("0 9 * * 1", "Europe/London")
    assert (read.audience.segment, read.audience.limit) == ("lapsing", 50_000)
    assert (read.audience.reentry_after, read.audience.exclusive) == (timedelta(days=180), "winback")
    assert read.experiment.control == 0.2
    assert read.experiment.metrics == ("revenue", "margin", "orders", "retained")
    assert read.experiment.guardrails["complained"].max_increase == Difference(0.002, "absolute", "pp")
    assert read.experiment.minimum_effect == Difference(0.015, "absolute", "pp")
    assert (read.experiment.looks, read.experiment.alpha, read.experiment.power) == (4, 0.05, 0.8)
    assert read.caps.per_customer == {"all": (FrequencyCap(2, timedelta(days=7)),)}
    assert read.caps.min_gap == {"all": timedelta(hours=20)}
    assert read.budget.discounts == parse_money("20000 EUR")
    assert (read.feedback.mode, read.feedback.holdback) == ("propose", 0.1)


def test_the_weights_are_the_arms_in_file_order_and_control_last() -> None:
    assert campaign().weights == (("ten-percent-sms", 0.4), ("double-points-email", 0.4), ("control", 0.2))


def test_a_step_lists_its_channels_in_order_of_preference() -> None:
    step = campaign().arms["double-points-email"].steps[0]
    assert step.channels == ("email", "push", "sms")
    assert (step.after, step.unless) == (timedelta(0), ())


def test_what_is_left_out_has_a_cautious_default() -> None:
    raw = plain()
    for key in ("description", "owner", "status", "schedule", "timing", "caps", "budget", "feedback"):
        del raw[key]
    read = campaign(raw)
    assert (read.status, read.schedule, read.feedback.mode) == ("draft", None, "off")
    assert read.timing.window.window == Window(frozenset(range(7)), time(9), time(20))
    assert read.timing.if_late == "next_window"
    assert (read.caps.per_customer, read.budget.cost, read.budget.messages) == ({}, None, None)
    assert not read.audience.allow_open_complaint


def test_an_arm_and_a_step_change_only_what_they_name_in_the_timing() -> None:
    raw = put(plain(), "arms.ten-percent-sms.timing", {"if_late": "skip"})
    put(raw, "arms.ten-percent-sms.steps.1.timing", {"window": {"days": ["sat"], "from": "22:00", "to": "06:00"}})
    read = campaign(raw)
    first, second = read.arms["ten-percent-sms"].steps
    assert read.timing_of("ten-percent-sms", first).if_late == "skip"
    assert read.timing_of("ten-percent-sms", first).window == read.timing.window
    changed = read.timing_of("ten-percent-sms", second)
    assert changed.window.window == Window(frozenset({5}), time(22), time(6))
    assert (changed.if_late, changed.max_lateness) == ("skip", timedelta(hours=12))
    other = read.arms["double-points-email"].steps[0]
    assert read.timing_of("double-points-email", other) == read.timing


def test_caps_may_differ_by_channel() -> None:
    raw = put(plain(), "caps", {"per_customer": {"sms": "1 per 7 days", "all": "3 per 14 days"}})
    assert campaign(raw).caps.per_customer == {
        "sms": (FrequencyCap(1, timedelta(days=7)),),
        "all": (FrequencyCap(3, timedelta(days=14)),),
    }


def test_a_model_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        campaign().status = "paused"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "campaign",
            "Winback",
            'expected lower-case letters, digits and single dashes such as winback-90d, got "Winback"',
        ),
        ("status", "activ", 'expected draft, active, paused or archived, got "activ" (did you mean "active"?)'),
        ("feedback.mode", False, "expected off, propose or apply, got false"),
        ("schedule.cron", "0 9 * *", "expected five cron fields"),
        ("schedule.cron", "0 25 * * 1", "expected five cron fields"),
        ("schedule.cron", "0 0 */31 2 MON#5", '"0 0 */31 2 MON#5" never comes; expected five cron fields'),
        ("schedule.timezone", "Europe/Londn", '(did you mean "Europe/London"?)'),
        ("schedule.timezone", "../../etc/passwd", "expected a time zone such as Europe/London"),
        ("schedule.timezone", 3, "expected a time zone such as Europe/London, got 3"),
        ("audience.segment", 3, "expected a text, got 3"),
        ("audience.segment", "", "expected a text that is not empty"),
        ("audience.limit", "many", 'expected a whole number, got "many"'),
        ("audience.limit", 2.5, "expected a whole number, got 2.5"),
        ("audience.limit", True, "expected a whole number, got true"),
        ("audience.limit", 0, "expected a number of at least 1, got 0"),
        ("audience.reentry_after", "0 days", 'expected a duration above 0, got "0 days"'),
        ("audience.allow_open_complaint", "yes", 'expected true or false, got "yes"'),
        ("experiment.control", 0.2, "expected a share"),
        ("experiment.metrics", "revenue", 'expected a list, got "revenue"'),
        ("experiment.looks", 21, "expected a number of at most 20, got 21"),
        ("experiment.alpha", "5%", 'expected a number, got "5%"'),
        ("experiment.alpha", 0, "expected a number above 0"),
        ("experiment.power", 1.0, "expected a number below 1"),
        ("experiment", [], "expected a mapping of keys and values, got a list"),
        ("arms", {}, "expected at least 1 of them, got a mapping"),
        ("arms", [], "expected a mapping of keys and values, got a list"),
        ("arms.ten-percent-sms.steps", [], "expected at least 1 of them"),
        ("arms.ten-percent-sms.steps.0.channel", "mail", 'expected sms, email or push, got "mail" (did you mean'),
        ("arms.ten-percent-sms.steps.0.template", "a/b", "expected the name of a template without its ending"),
        ("arms.ten-percent-sms.offer", "Ten Percent", "expected lower-case letters"),
        ("timing.window.days", ["mo"], '(did you mean "mon"?)'),
        ("timing.window.days", [], "expected at least one day, each named once"),
        ("timing.window.days", ["mon", "mon"], "expected at least one day, each named once"),
        ("timing.window.days", "mon", 'expected a list, got "mon"'),
        ("timing.window.from", 1000, "expected a clock time"),
        ("timing.if_late", "later", "expected skip, next_window or send"),
        ("caps.per_customer", 2, 'expected a cap such as "2 per 7 days" (any 7 days)'),
        ("caps.min_gap", "0 hours", "expected a duration above 0"),
        ("budget.cost", "€5", "expected an amount with its currency"),
        ("budget.messages", -1, "expected a number of at least 0"),
        ("feedback.holdback", "120%", "expected a share of at most 100%"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(path: str, value: object, message: str) -> None:
    found = messages(put(plain(), path, value))
    assert path in found or f"{path}.all" in found
    assert message in found.get(path, found.get(f"{path}.all", ""))


@pytest.mark.parametrize(
    ("path", "key", "meant"),
    [
        ("", "statsu", "status"),
        ("audience", "segmnt", "segment"),
        ("experiment", "guardrail", "guardrails"),
        ("arms.ten-percent-sms", "ofer", "offer"),
        ("arms.ten-percent-sms.steps.1", "fallbck", "fallback"),
        ("timing.window", "form", "from"),
        ("experiment.guardrails.unsubscribed", "max_incrase", "max_increase"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(path: str, key: str, meant: str) -> None:
    whole = f"{path}.{key}" if path else key
    found = [issue for issue in issues(put(plain(), whole, "x")) if issue.at_key and issue.location[-1] == key]
    assert [issue.message for issue in found] == [f'unknown key (did you mean "{meant}"?)']


def test_an_unknown_key_like_nothing_known_is_refused_without_a_guess() -> None:
    assert messages(put(plain(), "xyzzy", 1)) == {"xyzzy": "unknown key"}


def test_an_unknown_channel_of_a_cap_is_an_unknown_key() -> None:
    found = messages(put(plain(), "caps.per_customer", {"smss": "1 per 7 days"}))
    assert found == {
        "caps.per_customer.smss": 'unknown key (did you mean "sms"?); expected all, sms, email, push, topic'
    }


def test_an_arm_whose_name_is_no_name_is_refused_at_its_key() -> None:
    raw = plain()
    raw["arms"]["Ten Percent"] = raw["arms"].pop("ten-percent-sms")
    (issue,) = issues(raw)
    assert (issue.location, issue.at_key) == (("arms", "Ten Percent"), True)
    assert "expected lower-case letters" in issue.message


def test_a_missing_key_is_named_at_its_parent() -> None:
    raw = plain()
    del raw["experiment"]["horizon"]
    assert issues(raw) == [Issue(("experiment",), 'the key "horizon" is missing', at_key=True)]


def test_a_misspelt_key_is_not_reported_as_missing_too() -> None:
    raw = plain()
    raw["arms"]["ten-percent-sms"]["weigth"] = raw["arms"]["ten-percent-sms"].pop("weight")
    assert messages(raw) == {"arms.ten-percent-sms.weigth": 'unknown key (did you mean "weight"?)'}


def test_a_condition_that_needs_none_is_refused_for_good() -> None:
    found = messages(put(plain(), "arms.ten-percent-sms.steps.1.unless", "unsubscribed"))
    assert [message.partition(":")[0] for message in found.values()] == ['"unsubscribed" needs no condition']


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        (
            "arms.ten-percent-sms.weight",
            "30%",
            "arms",
            "weights and control make 90%, not 100% (ten-percent-sms 30%, double-points-email 40%, control 20%)",
        ),
        ("experiment.control", "20.1%", "arms", "weights and control make 100.1%, not 100%"),
        (
            "experiment.primary",
            "repurchse",
            "experiment.primary",
            'unknown metric "repurchse" (did you mean "repurchase"?)',
        ),
        (
            "experiment.primary",
            "unsubscribed",
            "experiment.primary",
            "unsubscribed can be reported but cannot decide; use",
        ),
        ("experiment.primary", "spend_per_order", "experiment.primary", "spend_per_order can be reported but cannot"),
        ("experiment.primary", "time_to_repurchase", "experiment.primary", "time_to_repurchase can be reported but"),
        (
            "experiment.guardrails",
            {"time_to_repurchase": {"max_increase": 1}},
            "experiment.guardrails.time_to_repurchase",
            "time_to_repurchase follows customers whose window is still open: no size can be planned for a margin of "
            "it; report it under metrics, and guard repurchase or retained",
        ),
        ("experiment.metrics", ["revenu"], "experiment.metrics.0", 'unknown metric "revenu" (did you mean "revenue"?)'),
        ("experiment.metrics", ["margin", "margin"], "experiment.metrics.1", "margin is named twice"),
        ("experiment.metrics", ["repurchase"], "experiment.metrics.0", "repurchase is named twice"),
        (
            "experiment.minimum_effect",
            "1 EUR",
            "experiment.minimum_effect",
            'repurchase is measured in share: write "1.5pp"',
        ),
        ("experiment.minimum_effect", 0.02, "experiment.minimum_effect", "repurchase is measured in share"),
        ("experiment.expected_lift", "0.5 EUR", "experiment.expected_lift", "repurchase is measured in share"),
        (
            "experiment.guardrails",
            {"unsubscribd": {"max_increase": "1pp"}},
            "experiment.guardrails.unsubscribd",
            'unknown metric "unsubscribd" (did you mean "unsubscribed"?)',
        ),
        (
            "experiment.guardrails",
            {"margin": {"max_increase": "1 EUR"}},
            "experiment.guardrails.margin.max_increase",
            "margin is harmed when it falls: use max_decrease",
        ),
        (
            "experiment.guardrails",
            {"unsubscribed": {"max_decrease": "1pp"}},
            "experiment.guardrails.unsubscribed.max_decrease",
            "unsubscribed is harmed when it rises: use max_increase",
        ),
        (
            "experiment.guardrails",
            {"unsubscribed": {}},
            "experiment.guardrails.unsubscribed",
            "give exactly one of max_increase and max_decrease",
        ),
        (
            "experiment.guardrails",
            {"unsubscribed": {"max_increase": "10%"}},
            "experiment.guardrails.unsubscribed.max_increase",
            'hardly any of control are unsubscribed: a share of that is no margin; write "0.5pp", not "10%"',
        ),
        (
            "experiment.guardrails",
            {"margin": {"max_decrease": "0%"}},
            "experiment.guardrails.margin.max_decrease",
            'expected a margin above 0, got "0%"',
        ),
        (
            "experiment.segments",
            ["value_tier", "value_tire"],
            "experiment.segments.1",
            'unknown feature "value_tire" (did you mean "value_tier"?); known: ',
        ),
        ("experiment.segments", ["tier", "tier"], "experiment.segments.1", "tier is named twice"),
        (
            "experiment.segments",
            ["recency_days"],
            "experiment.segments.0",
            "recency_days is a number of many values; use a feature of few, such as value_tier or rfm_r",
        ),
        (
            "experiment.guardrails",
            {"margin": {"max_decrease": "1pp"}},
            "experiment.guardrails.margin.max_decrease",
            'margin is measured in money per customer: write "0.50 EUR", not "1pp"',
        ),
        (
            "experiment.guardrails",
            {"orders": {"max_decrease": "1 EUR"}},
            "experiment.guardrails.orders.max_decrease",
            'orders is measured in orders per customer: write "0.05", not "1 EUR"',
        ),
        (
            "arms.double-points-email.steps.0.fallback",
            ["push", "email", "push"],
            "arms.double-points-email.steps.0.fallback.1",
            '"email" is tried before already; name each channel once',
        ),
        ("budget.cost", "5 USD", "budget.discounts", "one campaign has one currency, here are USD and EUR"),
    ],
)
def test_what_does_not_fit_together_is_named(path: str, value: object, where: str, message: str) -> None:
    found = messages(put(plain(), path, value))
    assert found.get(where, "").startswith(message)


def test_a_minimum_effect_per_cent_of_control_fits_every_metric() -> None:
    raw = put(put(plain(), "experiment.minimum_effect", "10%"), "experiment.primary", "margin")
    raw["experiment"]["metrics"] = ["revenue"]
    assert issues(raw) == []


def test_money_in_the_minimum_effect_fits_a_metric_of_money() -> None:
    raw = put(put(plain(), "experiment.minimum_effect", "0.50 EUR"), "experiment.primary", "revenue")
    raw["experiment"]["metrics"] = []
    assert issues(raw) == []


@pytest.mark.parametrize("lift", [0.4321, "0.4321", 1.2e-05, -0.02, "12%"])
def test_a_lift_of_money_may_be_written_back_as_a_plain_number(lift: object) -> None:
    raw = put(put(plain(), "experiment.expected_lift", lift), "experiment.primary", "margin")
    raw["experiment"] |= {"metrics": [], "minimum_effect": "10%"}
    assert issues(raw) == []


def test_control_is_no_arm_and_cannot_be_nothing() -> None:
    raw = put(plain(), "experiment.control", "0%")
    raw["arms"]["control"] = raw["arms"].pop("ten-percent-sms")
    found = messages(raw)
    assert found["arms.control"] == '"control" is the arm that gets nothing; its share stands in experiment.control'
    assert "nothing to compare with" in found["experiment.control"]


def test_all_mistakes_are_found_in_one_pass() -> None:
    raw = put(put(plain(), "statsu", 1), "experiment.primary", "x")
    raw = put(put(raw, "arms.ten-percent-sms.weight", "1%"), "arms.double-points-email.steps.0.channel", "fax")
    put(raw, "timing.at", "noon")
    assert set(messages(raw)) == {
        "statsu",
        "experiment.primary",
        "arms",
        "arms.double-points-email.steps.0.channel",
        "timing.at",
    }


@pytest.mark.parametrize("raw", [None, [], "text", 3, {"arms": 3, "experiment": "x", "budget": []}])
def test_checks_of_what_is_no_campaign_at_all_find_nothing_of_their_own(raw: Any) -> None:
    assert check_campaign(raw) == []
    assert validate(Campaign, raw)[1]


def test_effects_may_be_explored_by_the_companys_own_columns_and_margins_be_a_share_of_controls_value() -> None:
    raw = put(plain(), "experiment.segments", ["store", "club", "rfm_m"])
    raw = put(raw, "experiment.guardrails", {"margin": {"max_decrease": "10%"}})
    assert check_campaign(raw, attributes={"store": "text", "club": "boolean"}) == []
    assert [issue.location for issue in check_campaign(raw, attributes={"store": "text"})] == [
        ("experiment", "segments", 1)
    ]


def test_a_survival_metric_may_be_reported_and_money_be_capped_where_the_file_says() -> None:
    raw = put(put(plain(), "experiment.metrics", ["time_to_repurchase", "revenue"]), "experiment.winsorise", "99%")
    assert issues(raw) == []
    experiment = campaign(raw).experiment
    assert experiment.metrics == ("time_to_repurchase", "revenue")
    assert experiment.winsorise == 0.99
    assert campaign().experiment.winsorise == 0.999
    (issue,) = issues(put(plain(), "experiment.winsorise", "40%"))
    assert issue.location == ("experiment", "winsorise")
