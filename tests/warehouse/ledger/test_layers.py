"""Exclusive layers under concurrency: two runs recorded at once do not both take a customer."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from warehouse.ledger import waves
from warehouse.ledger.engine import Ledger
from warehouse.ledger.layers import Layer, held_by_rivals
from warehouse.ledger.schema import assignments
from warehouse.ledger.waves import WaveSummary, record_wave, wave_batches

from .story import DAY, T0, cohort, start, wave_of

N = 60


def record_in_layer(ledger: Ledger, campaign: str, rivals: tuple[str, ...], *, at: Any = T0) -> WaveSummary:
    people, messages = cohort(N, at=at)
    wave = wave_of(f"{campaign}:1", people, at=at)
    layered = waves.Wave(
        **{name: getattr(wave, name) for name in waves.Wave.__slots__ if name != "layer"},
        layer=Layer(rivals, timedelta(0)),
    )
    return record_wave(ledger, layered, wave_batches(people, messages, rows=7))


def in_both(ledger: Ledger) -> int:
    query = sa.select(assignments.c.customer_id).group_by(assignments.c.customer_id).having(sa.func.count() > 1)
    with ledger.read() as tx:
        return len(tx.execute(query).all())


def race(ledger: Ledger) -> dict[str, WaveSummary]:
    """Both campaigns planned the same customers; they are recorded at the same time, batch by batch."""
    for campaign in ("a", "b"):
        start(ledger, campaign)
    found: dict[str, WaveSummary] = {}
    failures: list[BaseException] = []

    def work(campaign: str, rival: str) -> None:
        try:
            found[campaign] = record_in_layer(ledger, campaign, (rival,))
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return found


def test_two_applies_at_once_never_put_a_customer_into_two_campaigns_of_a_layer(ledger: Ledger) -> None:
    found = race(ledger)
    assert in_both(ledger) == 0
    assert sum(sum(summary.assigned.values()) for summary in found.values()) == N  # and everybody is in one of them
    assert sum(summary.taken for summary in found.values()) == N


def test_without_looking_again_as_they_are_recorded_both_would_take_them(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeded bug: the layer is looked at only when the plan is made."""
    monkeypatch.setattr(waves, "_taken", lambda *_: set())
    race(ledger)
    assert in_both(ledger) == N


def test_a_run_of_an_earlier_instant_yields_to_one_that_was_recorded_for_a_later_one(ledger: Ledger) -> None:
    for campaign in ("a", "b"):
        start(ledger, campaign)
    record_in_layer(ledger, "a", ("b",), at=T0 + 2 * DAY)
    late = record_in_layer(ledger, "b", ("a",), at=T0)
    assert (late.taken, in_both(ledger)) == (N, 0)
    assert record_in_layer(ledger, "b", ("a",), at=T0).taken == N  # said again when the wave is complete
    customers = [f"c{n:06d}" for n in range(N)]
    with ledger.read() as tx:
        rest = Layer(("a",), 5 * DAY)
        assert not held_by_rivals(tx, Layer(("a",)), customers, start=T0 + 33 * DAY, horizon=30 * DAY)
        assert len(held_by_rivals(tx, rest, customers, start=T0 + 33 * DAY, horizon=30 * DAY)) == N
        assert held_by_rivals(tx, Layer(), customers, start=T0, horizon=DAY) == set()
