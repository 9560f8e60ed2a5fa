"""Planning: who takes part, in which arm, with which messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pandas as pd
import pytest

from campaigns.eligibility import REASONS, HoldoutRule, Standing
from campaigns.plan import ArmRule, Limits, Plan, PlanRules, StepRule, make_plan
from campaigns.send_times import StepTiming
from campaigns.timing import Window
from experiments.assign import draw_arms, fraction

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAYTIME = Window(frozenset(range(7)), time(10), time(19))
TIMING = StepTiming(timedelta(0), DAYTIME, "next_window", timedelta(days=3))
SMS = StepRule(("sms",), "hello", TIMING)
EMAIL = StepRule(("email", "sms"), "hello", TIMING)


def people(n: int = 1000, **columns: object) -> pd.DataFrame:
    """`n` customers who can be reached on every channel and live in London."""
    frame = pd.DataFrame({"customer_id": [f"C{number:05d}" for number in range(n)]})
    for channel in ("sms", "email", "push"):
        frame[f"has_{channel}"] = True
        frame[f"consent_{channel}"] = True
    frame["time_zone"], frame["country"], frame["locale"] = "Europe/London", "GB", None
    frame["open_complaint"] = False
    return frame.assign(**columns)


def rules(**changes: object) -> PlanRules:
    base = PlanRules(
        as_of=MONDAY,
        salt="test",
        arms=(ArmRule("text", 0.4, (SMS,)), ArmRule("mail", 0.4, (EMAIL, EMAIL))),
        control_share=0.2,
        holdout=HoldoutRule(0.0, "holdout"),
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # the test names fields of the dataclass


def plan(frame: pd.DataFrame, standing: Standing | None = None, **changes: object) -> Plan:
    return make_plan(frame, standing or Standing(), rules(**changes))


def test_everyone_who_is_eligible_gets_the_arm_their_hash_names() -> None:
    made = plan(people())
    ids = [f"C{number:05d}" for number in range(1000)]
    expected = draw_arms(ids, salt="test", weights=(("text", 0.4), ("mail", 0.4), ("control", 0.2)))
    assert made.assignments["customer_id"].tolist() == ids
    assert made.assignments["arm"].tolist() == expected
    assert made.eligible == made.audience == 1000
    assert made.skipped == {}


def test_control_gets_no_message_and_every_other_arm_one_for_each_step() -> None:
    made = plan(people())
    arms = made.assignments["arm"].value_counts()
    assert set(made.messages["arm"]) == {"text", "mail"}
    assert len(made.messages) == arms["text"] + 2 * arms["mail"]
    assert not made.messages.duplicated(["customer_id", "step"]).any()


def test_what_fallbacks_could_cost_is_told_beside_what_sending_costs() -> None:
    wide = StepRule(("email", "push", "sms"), "hello", TIMING)
    prices = {"sms": 0.05, "email": 0.001, "push": 0.01}
    made = plan(people(10), arms=(ArmRule("mail", 1.0, (wide, EMAIL)),), control_share=0.0, prices=prices)
    assert made.message_cost == pytest.approx(10 * 2 * 0.001)
    assert made.fallback_cost == pytest.approx(10 * (0.01 + 0.05) + 10 * 0.05)
    phones = people(10, has_email=False, has_push=False)
    by_sms = plan(phones, arms=(ArmRule("mail", 1.0, (wide,)),), control_share=0.0, prices=prices)
    assert by_sms.fallback_cost == 0.0  # nothing is left after the last channel


def test_the_same_input_gives_the_same_plan() -> None:
    first, second = plan(people()), plan(people())
    pd.testing.assert_frame_equal(first.messages, second.messages)
    pd.testing.assert_frame_equal(first.assignments, second.assignments)


def test_reachability_is_asked_for_every_arm_and_applied_to_control_alike() -> None:
    frame = people()
    frame.loc[0:99, "has_sms"] = False
    made = plan(frame)
    assert made.skipped == {"no_address": 100}
    assert set(made.reasons["customer_id"]) == set(frame["customer_id"][:100])


def test_a_fallback_channel_serves_where_the_first_is_closed() -> None:
    frame = people()
    frame.loc[0:99, "consent_email"] = False
    made = plan(frame)
    mail = made.messages[made.messages["arm"] == "mail"]
    without = mail["customer_id"].isin(frame["customer_id"][:100])
    assert set(mail[without]["channel"]) == {"sms"}
    assert set(mail[~without]["channel"]) == {"email"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"open_complaint": True}, "open_complaint"),
        ({"consent_sms": False}, "no_consent"),
        ({"has_sms": False}, "no_address"),
        ({"time_zone": None, "country": None}, "no_send_time"),
    ],
)
def test_each_lack_has_its_reason(change: dict[str, object], reason: str) -> None:
    made = plan(people(10, **change))
    assert made.skipped == {reason: 10}
    assert made.eligible == 0
    assert reason in REASONS


@pytest.mark.parametrize("field", ["already_assigned", "reentry_too_soon", "rival_campaign", "capped"])
def test_what_the_ledger_knows_keeps_customers_out(field: str) -> None:
    made = plan(people(10), Standing(**{field: {"C00003"}}))  # type: ignore[arg-type]  # the field's name is the parameter
    assert made.skipped == {field: 1}
    assert "C00003" not in set(made.assignments["customer_id"])


def test_a_suppressed_channel_counts_as_closed() -> None:
    made = plan(people(10), Standing(suppressed={"sms": {"C00001"}}))
    assert made.skipped == {"suppressed": 1}


def test_a_campaign_may_address_customers_with_an_open_complaint() -> None:
    assert plan(people(10, open_complaint=True), allow_open_complaint=True).eligible == 10


def test_the_global_holdout_comes_first_and_follows_its_own_salt() -> None:
    made = plan(people(), holdout=HoldoutRule(0.1, "holdout"))
    held = {c for c in people()["customer_id"] if fraction("holdout", c) < 0.1}
    assert set(made.reasons["customer_id"]) == held
    assert made.skipped == {"global_holdout": len(held)}


def test_the_limit_draws_by_hash_and_not_by_the_order_of_the_list() -> None:
    made = plan(people(), limits=Limits(customers=100))
    assert made.eligible == 100
    assert made.skipped == {"over_limit": 900}
    expected = sorted(people()["customer_id"], key=lambda c: fraction("test.limit", c))[:100]
    assert set(made.assignments["customer_id"]) == set(expected)


@pytest.mark.parametrize(
    "limits",
    [Limits(messages=50), Limits(cost=5.0), Limits(discounts=50.0), Limits(messages=500, cost=4.0, discounts=30.0)],
)
def test_a_budget_is_never_exceeded_and_nearly_used_up(limits: Limits) -> None:
    arms = tuple(replace(arm, discount_cost=2.0) for arm in rules().arms)
    made = plan(people(), limits=limits, arms=arms, prices={"sms": 0.1, "email": 0.02})
    assert made.eligible > 10
    dearest = 0.1 * len(made.messages)  # what each may cost at most: a mail goes out as a text where it must
    used = {"messages": len(made.messages), "cost": dearest, "discounts": made.discount_liability}
    shares = [used[name] / limit for name in used if (limit := getattr(limits, name)) is not None]
    assert 0.95 < max(shares) < 1 + 1e-9
    assert made.message_cost < dearest
    assert made.skipped["over_budget"] == 1000 - made.eligible


def test_a_zone_that_is_not_known_falls_back_to_the_default_and_is_counted() -> None:
    frame = people(10)
    frame.loc[0:3, ["time_zone", "country"]] = None
    frame.loc[4:6, "time_zone"] = None
    made = plan(frame, default_zone="Asia/Tokyo")
    assert {source: n for source, n in made.zone_sources.items() if n} == {"profile": 3, "country": 3, "default": 4}
    assert made.eligible == 10
    tokyo = made.messages[made.messages["customer_id"].isin(frame["customer_id"][:4])]
    assert set(tokyo["zones"]) <= {"Asia/Tokyo"}


def test_messages_wait_for_the_window_of_the_customers_own_zone() -> None:
    frame = people(20, region=None)
    frame.loc[0:9, ["time_zone", "country", "region"]] = ["America/New_York", "US", "NY"]
    made = plan(frame)
    first = made.messages[made.messages["step"] == 1].set_index("customer_id")
    london = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    new_york = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    for customer, message in first.iterrows():
        assert message["not_before"] == (new_york if str(customer) <= "C00009" else london)
        assert message["closes_at"] == message["not_before"] + timedelta(hours=9)
        assert message["expires_at"] == message["not_before"] + timedelta(days=3)


def test_texts_keep_the_hours_of_every_state_that_may_be_the_customers_and_mails_do_not() -> None:
    made = plan(people(40, time_zone="America/New_York", country="US"))
    closes = made.messages[made.messages["step"] == 1].groupby("channel")["closes_at"].agg(set)
    assert closes["email"] == {datetime(2026, 3, 3, 0, 0, tzinfo=UTC)}  # 19:00, where the window closes
    assert closes["sms"] == {datetime(2026, 3, 2, 23, 0, tzinfo=UTC)}  # 18:00 in Rhode Island
    assert set(made.messages["place"]) == {"US"}


def test_an_audience_without_anyone_gives_an_empty_plan() -> None:
    made = plan(people(0))
    assert (made.audience, made.eligible, len(made.messages)) == (0, 0, 0)
    assert str(made.messages["not_before"].dtype) == "datetime64[us, UTC]"
