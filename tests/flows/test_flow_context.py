"""What every flow shares: its instant, its failures and its result page; without a Prefect server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from prefect.states import Failed

from campaigns.errors import CampaignError
from flows.result_page import artifact_key, markdown_table
from flows.run_context import clock, may_pass, one_by_one, scheduled_at
from warehouse.facts.errors import FactsError
from warehouse.ledger.errors import LedgerError, PlanConflictError

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def test_a_given_instant_is_kept_and_becomes_utc() -> None:
    in_tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    for instant in (scheduled_at(in_tokyo), clock(in_tokyo), scheduled_at(NOON.replace(tzinfo=None))):
        assert instant == NOON
        assert instant.tzinfo is UTC


def test_the_scheduler_s_own_instants_become_plain_ones_that_keep_their_zone() -> None:
    moment = scheduled_at(None)
    assert type(moment) is datetime
    assert (moment - timedelta(days=180)).tzinfo is UTC


def test_without_a_given_instant_sending_goes_by_the_clock() -> None:
    before = datetime.now(UTC)
    assert before <= clock(None) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (LedgerError("database is locked"), True),
        (ConnectionResetError("lost"), True),
        (PlanConflictError("another plan"), False),
        (FactsError("no such file"), False),
        (CampaignError("paused"), False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(error: Exception, passes: bool) -> None:
    assert may_pass(None, None, Failed(data=error)) is passes


def test_everybody_has_a_turn_and_those_who_failed_are_named_at_the_end() -> None:
    turns = []

    def work(name: str) -> str:
        turns.append(name)
        if name in {"b", "c"}:
            raise CampaignError(f"{name} is paused")
        return name.upper()

    assert one_by_one(work, ["a", "d"]) == ["A", "D"]
    with pytest.raises(ExceptionGroup, match="2 of 4 failed: b, c") as raised:
        one_by_one(work, ["a", "b", "c", "d"])
    assert turns == ["a", "d", "a", "b", "c", "d"]
    assert [str(error) for error in raised.value.exceptions] == ["b is paused", "c is paused"]


def test_a_result_page_is_a_table_that_nothing_breaks_out_of() -> None:
    text = markdown_table("one\n# two", ("name", "value"), [("a|b\nc", 0.123456), (None, True), ("n", 12_345)])
    assert text.splitlines() == [
        "## one # two",
        "",
        "| name | value |",
        "| --- | --- |",
        "| a\\|b c | 0.1235 |",
        "| – | yes |",
        "| n | 12345 |",
    ]


def test_keys_of_result_pages_are_what_prefect_accepts() -> None:
    assert artifact_key("run", "Winback_90d") == "run-winback-90d"
    assert artifact_key("run", "été") == "run--t-"
