"""The global holdout: its rotation, its history, and what the whole programme is measured to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from experiments.assign import fractions
from experiments.errors import ExperimentError
from flows.steps.deliver_messages import deliver_messages
from flows.steps.programme import describe_history, measure_programme
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.programme import holdout_history, latest_programme, record_holdout
from warehouse.ledger.schema import outbox

Shop = Callable[..., Workspace]
DAY = timedelta(days=1)


def holdout(rotate: list[str] | None = None, share: str = "40%") -> dict[str, Any]:
    return {"holdout": {"share": share, "rotate": rotate or []}}


def members(salt: str, share: float, n: int) -> set[str]:
    ids = [f"C{number:04d}" for number in range(n)]
    return {customer for customer, place in zip(ids, fractions(salt, ids), strict=True) if place < share}


def test_the_programme_is_the_holdout_against_as_many_others_drawn_at_random(shop: Shop, monday: datetime) -> None:
    inside = members("retain.global-holdout", 0.4, 400)
    bought = {
        n: [(monday + 5 * DAY, 50.0)]
        for n in range(400)
        if (f"C{n:04d}" in inside and n % 5 == 0) or (f"C{n:04d}" not in inside and n % 2 == 0)
    }
    ws = shop(customers=400, bought=bought, **holdout())
    run_campaign(ws, "back", as_of=monday)
    found = measure_programme(ws, now=monday + 40 * DAY, window=30 * DAY)
    assert found.analysis.arms == {"holdout": len(inside), "programme": len(inside)}
    lift = next(result for result in found.analysis.results if result.metric == "repurchase")
    assert lift.control_value == pytest.approx(0.2, abs=0.07)
    assert lift.arm_value == pytest.approx(0.5, abs=0.09)
    assert lift.low is not None
    assert lift.low > 0
    plain = found.to_json()
    assert [result["metric"] for result in plain["results"]] == [
        "repurchase",
        "revenue",
        "retained",
        "orders",
        "margin",
    ]
    with ws.ledger.read() as tx:
        recorded = latest_programme(tx)
    assert recorded is not None
    assert recorded.measurement["results"] == plain["results"]
    assert measure_programme(ws, now=monday + 40 * DAY, window=30 * DAY).to_json() == plain


def test_a_day_of_rotation_draws_the_holdout_anew_and_the_ledger_keeps_who_it_was(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=400, **holdout(["2026-03-20"]))
    run_campaign(ws, "back", as_of=monday)
    later = datetime(2026, 4, 20, 9, 0, tzinfo=UTC)
    run_campaign(ws, "back", as_of=later)
    with ws.ledger.read() as tx:
        first, second = holdout_history(tx)
    assert (first.salt, first.began_at, first.ended_at) == (
        "retain.global-holdout", monday, datetime(2026, 3, 20, tzinfo=UTC),
    )  # fmt: skip
    assert (second.salt, second.ended_at) == ("retain.global-holdout.2026-03-20", None)
    before, after = (members(period.salt, period.share, 400) for period in (first, second))
    assert before - after
    assert after - before
    found = measure_programme(ws, now=later + 10 * DAY)
    assert found.start == second.began_at
    assert found.released["programme"] > 0  # they have not had a year's campaigns yet: it is said, not hidden
    assert [period["share"] for period in describe_history(ws)] == [0.4, 0.4]


def test_whoever_is_drawn_into_the_holdout_gets_nothing_that_was_promised_before(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=200, **holdout(["2026-03-04"]))
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    new = members("retain.global-holdout.2026-03-04", 0.4, 200)
    deliver_messages(ws, now=monday + 3 * DAY, worker="test")  # the second step, after the rotation
    with ws.ledger.read() as tx:
        kept = sa.select(outbox.c.customer_id).where(outbox.c.reason == "global_holdout")
        skipped = set(tx.execute(kept).scalars())
        assert skipped
        assert skipped <= new
        late = tx.execute(
            sa.select(outbox.c.customer_id).where(outbox.c.state == "sent", outbox.c.claimed_at > monday + 2 * DAY)
        )
        assert not new.intersection(late.scalars())


def test_the_past_of_the_holdout_is_not_written_anew(shop: Shop, monday: datetime) -> None:
    ws = shop(**holdout())
    with ws.ledger.begin() as tx:
        assert record_holdout(tx, "a", 0.1, at=monday)
        assert not record_holdout(tx, "a", 0.1, at=monday + DAY)
        assert not record_holdout(tx, "a", 0.1, at=monday - DAY / 24)  # a run of an earlier hour that came after
        assert record_holdout(tx, "a", 0.2, at=monday + 2 * DAY)
    with pytest.raises(LedgerError, match="not the one the ledger knows"), ws.ledger.begin() as tx:
        record_holdout(tx, "b", 0.1, at=monday + DAY)


def test_without_a_holdout_or_a_window_that_is_known_nothing_is_claimed(shop: Shop, monday: datetime) -> None:
    ws = shop()
    with pytest.raises(ExperimentError, match="no global holdout"):
        measure_programme(ws, now=monday)
    ws = shop(name="held", **holdout())
    run_campaign(ws, "back", as_of=monday)
    with pytest.raises(ExperimentError, match="shorter or an earlier window"):
        measure_programme(ws, now=monday + 10 * DAY, window=30 * DAY)
