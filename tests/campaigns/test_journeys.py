"""What a journey may say: triggers, conditions, what comes again; every mistake at its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from campaigns.book import load_book, load_campaign
from campaigns.exit_conditions import ExitCondition, conditions_of_step, read_conditions, write_conditions
from campaigns.problems import BookErrors

Make = Callable[..., Path]
STEP = "      - {channel: sms, template: winback}\n"


@pytest.fixture
def problems(workspace: Make, smallest: str) -> Callable[..., list[str]]:
    """Give the problems of the smallest campaign with other steps, or another audience."""

    def find(*steps: str, audience: str = "{segment: recency_days >= 90}") -> list[str]:
        text = smallest.replace("{segment: recency_days >= 90}", audience)
        if steps:
            text = text.replace(STEP, "".join(f"      - {{{step}}}\n" for step in steps))
        with pytest.raises(BookErrors) as caught:
            load_book(workspace({"a.yaml": text}))
        return [str(problem).removeprefix("campaigns/book/a.yaml:") for problem in caught.value.problems]

    return find


@pytest.mark.parametrize(
    ("audience", "said"),
    [
        ("{limit: 5}", ['2:1: audience: whom is it for? name a segment ("segment: lapsing"), or a moment that']),
        ("{trigger: {event: nps, before: 3 days}}", ['2:34: audience.trigger.before: nobody knows of "nps" before']),
        ("{trigger: {event: birthday, before: 36 hours}}", ["2:47: audience.trigger.before: a birthday is a day;"]),
        ("{trigger: {event: birthday, after: 200 days}}", ["2:46: audience.trigger.after: expected at most 180 days"]),
        ("{trigger: {event: birthday, after: 1 day, before: 1 day}}", ["2:53: audience.trigger.before: give after or"]),
        ("{trigger: {event: two words}}", ["2:29: audience.trigger.event: expected first_purchase, birthday, or the"]),
        ("{trigger: {after: 2 days}}", ['2:12: audience.trigger: the key "event" is missing']),
        ("{trigger: {event: nps, look_back: 0 days}}", ["2:45: audience.trigger.look_back: expected a duration above"]),
    ],
)
def test_a_mistake_in_a_trigger_is_named_at_its_place(
    problems: Callable[..., list[str]], audience: str, said: list[str]
) -> None:
    found = problems(audience=audience)
    assert len(found) == len(said), found
    assert all(line.startswith(text) for line, text in zip(found, said, strict=True)), found


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("unless: purchasd", 'unless: unknown condition "purchasd" (did you mean "purchased"?)'),
        ("unless: [purchased, purchased]", 'unless: "purchased" is named twice'),
        ("unless: unsubscribed", 'unless: "unsubscribed" needs no condition'),
        ("unless: recency_day > 3", 'unless: unknown feature or segment "recency_day" (did you mean "recency_days"?)'),
        ("unless: opened", "unless: no message before it goes by email, so nobody can have opened"),
        ("fallback_after: 4 hours", "fallback_after: there is no channel to fall back to"),
        ("repeat: {every: 3 days, at_most: 1, until: purchased}", "repeat.at_most: expected a number of at least 2"),
        ("repeat: {every: 0 days, at_most: 3, until: purchased}", "repeat.every: expected a duration above 0"),
        ("repeat: {every: 3 days, at_most: 3}", 'repeat: the key "until" is missing'),
        ("repeat: {every: 3 days, at_most: 3, until: opened}", "repeat.until: no message before it goes by email"),
    ],
)
def test_a_mistake_in_a_step_is_named_at_its_place(problems: Callable[..., list[str]], step: str, said: str) -> None:
    (found,) = problems("channel: sms, template: winback", f"channel: sms, template: winback, {step}")
    place, _, message = found.partition(": ")
    assert place.startswith("14:")
    assert message.startswith(f"arms.ten-percent.steps[1].{said}"), found


@pytest.mark.parametrize("signal", ["opened", "clicked", "replied"])
def test_nobody_can_have_answered_the_first_message_before_it(problems: Callable[..., list[str]], signal: str) -> None:
    (found,) = problems(f"channel: sms, template: winback, unless: {signal}")
    assert found.endswith(f"nothing has been sent before the first message, so nobody can have {signal}")


def test_nothing_can_be_redeemed_where_nothing_is_offered(workspace: Make, smallest: str) -> None:
    text = smallest.replace("    offer: ten-percent\n", "").replace("winback}", "winback, unless: redeemed}")
    with pytest.raises(BookErrors, match="the arm makes no offer, so nothing can be redeemed"):
        load_book(workspace({"a.yaml": text}))


def test_a_file_knows_what_its_conditions_mean(workspace: Make, smallest: str) -> None:
    step = "{channel: sms, template: winback, unless: [purchased, lapsing, orders > 3]}"
    text = smallest.replace("{channel: sms, template: winback}", step)
    file = load_campaign(workspace({"a.yaml": text}), "winback-90d")
    assert file.conditions == {"lapsing": "recency_days >= 90 and orders >= 2", "orders > 3": "orders > 3"}


def test_a_trigger_may_stand_without_a_segment(workspace: Make, smallest: str) -> None:
    text = smallest.replace("{segment: recency_days >= 90}", "{trigger: {event: complaint_resolved, after: 48 hours}}")
    audience = load_campaign(workspace({"a.yaml": text}), "winback-90d").campaign.audience
    assert audience.segment == "True"
    assert audience.trigger is not None
    assert (audience.trigger.after, audience.trigger.before) == (timedelta(hours=48), timedelta(0))


def test_conditions_come_back_as_they_were_written_into_the_ledger(workspace: Make, smallest: str) -> None:
    step = "{channel: sms, template: winback, unless: [purchased, orders > 3], repeat: REPEAT}".replace(
        "REPEAT", "{every: 2 days, at_most: 3, until: [clicked, not lapsing]}"
    )
    file = load_campaign(
        workspace({"a.yaml": smallest.replace("{channel: sms, template: winback}", step)}), "winback-90d"
    )
    conditions = conditions_of_step(file.campaign.arms["ten-percent"].steps[0])
    assert [condition.reason for condition in conditions] == ["purchased", "orders > 3", "clicked", "until not lapsing"]
    assert [condition.is_lasting for condition in conditions] == [True, False, True, True]
    assert read_conditions(write_conditions(conditions)) == conditions
    assert write_conditions(()) is None
    assert read_conditions(None) == ()
    assert ExitCondition("until", "not lapsing") in conditions
