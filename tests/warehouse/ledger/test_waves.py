"""Recording a wave: what was assigned and promised, once, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError, PlanConflictError
from warehouse.ledger.experiments import end_experiment
from warehouse.ledger.schema import outbox
from warehouse.ledger.waves import WaveBatch, find_wave, record_wave, wave_batches, waves

from .story import DAY, HOUR, T0, cohort, record, start, wave_of


def outbox_rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    columns = "message_key, customer_id, step, arm, channel, template, offer, code, locale, unless, zones, cost_micros"
    with ledger.read() as tx:
        return [tuple(row) for row in tx.execute(sa.text(f"SELECT {columns} FROM outbox ORDER BY message_key"))]


def test_a_wave_holds_assignments_and_messages_and_is_found_again(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    summary = record(ledger, experiment_id)
    assert summary.assigned == {"control": 3, "offer": 3, "points": 3}
    assert summary.messages == {"offer": 3, "points": 6}
    assert (summary.already_assigned, summary.resumed) == (0, False)
    with ledger.read() as tx:
        wave = find_wave(tx, experiment_id, T0)
        assert wave is not None
        assert waves(tx, experiment_id) == [wave]
        frame = assignments_frame(tx, summary.wave_id)
        assert find_wave(tx, experiment_id, T0 + HOUR) is None
    assert (wave.status, wave.planned, wave.skipped) == ("complete", dict(summary.assigned), {"no_consent": 3})
    assert wave.recorded == {
        "assigned": summary.assigned,
        "messages": summary.messages,
        "already_assigned": 0,
    }
    people, _ = cohort(9)
    pd.testing.assert_frame_equal(frame, people.astype(object))
    rows = outbox_rows(ledger)
    assert len(rows) == 9
    assert rows[0] == (
        "winback:1/c000000/1", "c000000", 1, "offer", "sms", "offer_1", None, None, None, None, "Europe/London", 50_000,
    )  # fmt: skip


def test_recording_again_changes_nothing_and_reads_no_rows(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    first = record(ledger, experiment_id)
    before = outbox_rows(ledger)

    def unread() -> Iterator[WaveBatch]:
        raise AssertionError("the rows of a complete wave are not needed")
        yield

    people, _ = cohort(9)
    again = record_wave(ledger, wave_of(experiment_id, people), unread())
    assert again.resumed
    assert (again.assigned, again.messages) == (first.assigned, first.messages)
    assert outbox_rows(ledger) == before


def test_a_broken_off_wave_is_completed_by_the_same_rows(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    people, messages = cohort(20)
    wave = wave_of(experiment_id, people)

    def broken() -> Iterator[WaveBatch]:
        yield from list(wave_batches(people, messages, rows=6))[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_wave(ledger, wave, broken())
    with ledger.read() as tx:
        found = find_wave(tx, experiment_id, T0)
        assert found is not None
        assert found.status == "open"
        assert len(assignments_frame(tx, wave.wave_id)) == 12
    # other batch borders than before make no difference
    summary = record_wave(ledger, wave, wave_batches(people, messages, rows=7))
    assert summary.resumed
    assert sum(summary.assigned.values()) == 20
    assert len(outbox_rows(ledger)) == len(messages)


def test_another_plan_for_the_same_instant_is_refused(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    people, messages = cohort(9)
    with pytest.raises(PlanConflictError, match="another plan"):
        record_wave(ledger, wave_of(experiment_id, people, plan_hash="q" * 64), wave_batches(people, messages))


def test_a_customer_of_an_earlier_wave_keeps_arm_and_messages(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    before = outbox_rows(ledger)
    # c000006..c000014: three of them known; the arms are dealt anew, so that two would change
    people, messages = cohort(9, first=6, arms=("points", "offer", "control"), at=T0 + DAY)
    summary = record_wave(ledger, wave_of(experiment_id, people, at=T0 + DAY), wave_batches(people, messages))
    assert summary.already_assigned == 3
    assert sum(summary.assigned.values()) == 6
    after = outbox_rows(ledger)
    assert [row for row in after if row[1] < "c000009"] == before
    assert len(waves_of(ledger, experiment_id)) == 2


def waves_of(ledger: Ledger, experiment_id: str) -> list[object]:
    with ledger.read() as tx:
        return list(waves(tx, experiment_id))


def test_resuming_with_other_arms_is_refused(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    people, messages = cohort(9)
    with pytest.raises(LedgerError, match="the wave stays open"):
        record_wave(ledger, wave_of(experiment_id, people), wave_batches(people[:6], messages[:6]))
    swapped = people.assign(arm=people["arm"].replace({"offer": "control", "control": "offer"}))
    with pytest.raises(LedgerError, match="resume with the same rows"):
        record_wave(ledger, wave_of(experiment_id, people), [WaveBatch(swapped)])


def test_an_ended_experiment_takes_no_new_wave(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    with ledger.begin() as tx:
        end_experiment(tx, experiment_id, reason="stopped", ended_at=T0)
    with pytest.raises(LedgerError, match="has ended"):
        record(ledger, experiment_id)


def test_two_processes_recording_one_wave_at_once_record_it_once(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    failures: list[Exception] = []

    def run() -> None:
        try:
            record(ledger, experiment_id, 60, rows=5)
        except LedgerError as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    _, messages = cohort(60)
    assert len(outbox_rows(ledger)) == len(messages)


def test_the_rows_of_both_databases_are_equal(sqlite_ledger: Ledger, postgres_ledger: Ledger) -> None:
    hostile = ["tab\tand\\slash", "line\nbreak\rreturn", "退订 😀", "quote'\"", "\\N", ""]
    people, messages = cohort(18)
    messages["code"] = [hostile[i % len(hostile)] for i in range(len(messages))]
    messages["offer"] = [None if i % 3 else "ten" for i in range(len(messages))]
    messages["locale"] = [None if i % 2 else f"zh\t{i}" for i in range(len(messages))]
    for ledger in (sqlite_ledger, postgres_ledger):
        start(ledger)
        record_wave(ledger, wave_of("winback:1", people), wave_batches(people, messages, rows=5))
    rows = outbox_rows(sqlite_ledger)
    assert rows == outbox_rows(postgres_ledger)
    assert {row[7] for row in rows} == set(hostile)


def _one(**changes: Any) -> WaveBatch:
    message = {
        "customer_id": "a",
        "step": 1,
        "arm": "offer",
        "channel": "sms",
        "template": "t",
        "not_before": T0,
        "closes_at": T0 + HOUR,
        "expires_at": T0 + DAY,
    }
    return WaveBatch({"customer_id": ["a"], "arm": ["offer"]}, {k: [v] for k, v in (message | changes).items()})


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (WaveBatch({"customer_id": ["a", "a"], "arm": ["offer", "offer"]}), "named twice"),
        (WaveBatch({"customer_id": ["a"]}), r"missing columns \['arm'\]"),
        (WaveBatch({"customer_id": ["a"], "arm": ["offer"], "email": ["x"]}), r"unknown columns \['email'\]"),
        (WaveBatch({"customer_id": ["a", None], "arm": ["offer", "offer"]}), "missing in row 1"),
        (_one(customer_id="b"), "no assignment in the same batch"),
        (_one(arm="points"), "has a message of arm points"),
        (_one(not_before=datetime(2026, 1, 1)), "naive datetime"),
        (_one(not_before="2026-01-01"), "expected aware datetimes, got str"),
        (_one(not_before=pd.NaT), "missing in row 0"),
        (_one(channel="fax"), "refused"),
        (_one(step=-1), "refused"),
    ],
)
def test_rows_that_break_the_rules_are_refused_and_nothing_is_recorded(
    ledger: Ledger, batch: WaveBatch, said: str
) -> None:
    experiment_id = start(ledger)
    people = pd.DataFrame({"customer_id": ["a"], "arm": ["offer"]})
    with pytest.raises(LedgerError, match=said):
        record_wave(ledger, wave_of(experiment_id, people), [batch])
    assert outbox_rows(ledger) == []


def test_control_gets_nothing(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    people = pd.DataFrame({"customer_id": ["a"], "arm": ["control"]})
    _, messages = cohort(1)
    messages = messages.assign(customer_id="a", arm="control")
    with pytest.raises(LedgerError, match="never to control"):
        record_wave(ledger, wave_of(experiment_id, people), [WaveBatch(people, messages)])


def test_columns_may_come_as_numpy_lists_or_object_frames(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    people, messages = cohort(6)
    as_lists = {name: messages[name].tolist() for name in messages}
    as_lists["not_before"] = [value.to_pydatetime() for value in messages["not_before"]]
    batch = WaveBatch(
        {"customer_id": np.array(people["customer_id"], dtype=object), "arm": list(people["arm"])}, as_lists
    )
    summary = record_wave(ledger, wave_of(experiment_id, people), [batch, WaveBatch({"customer_id": [], "arm": []})])
    assert summary.messages == {"offer": 2, "points": 4}


def test_instants_may_come_in_any_zone_and_are_kept_as_utc(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    people, messages = cohort(4, arms=("offer",))
    zones = [UTC, timezone(5 * HOUR), timezone(-8 * HOUR), UTC]
    mixed = [(T0 + HOUR).astimezone(zone) for zone in zones]
    messages = messages.assign(not_before=pd.Series(mixed, dtype=object))
    record_wave(ledger, wave_of(experiment_id, people), wave_batches(people, messages))
    with ledger.read() as tx:
        assert set(tx.execute(sa.select(outbox.c.not_before)).scalars()) == {T0 + HOUR}


def test_a_wave_without_messages_is_a_wave(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    people, _ = cohort(4, arms=("control",))
    summary = record_wave(ledger, wave_of(experiment_id, people), wave_batches(people, rows=3))
    assert (summary.assigned, summary.messages) == ({"control": 4}, {})


def test_batches_hold_each_customer_with_all_its_messages() -> None:
    people, messages = cohort(10)
    shuffled = people.sample(frac=1, random_state=1), messages.sample(frac=1, random_state=2)
    batches = list(wave_batches(*shuffled, rows=3))
    assert [len(batch.assignments) for batch in batches] == [3, 3, 3, 1]
    for batch in batches:
        assert isinstance(batch.messages, pd.DataFrame)
        assert set(batch.messages["customer_id"]) <= set(batch.assignments["customer_id"])
    assert sum(len(batch.messages) for batch in batches if batch.messages is not None) == len(messages)
