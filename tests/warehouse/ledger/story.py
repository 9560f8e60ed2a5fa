"""A small campaign to tell stories with: three arms, one of them control, two steps in one of the others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from warehouse.ledger.engine import Ledger
from warehouse.ledger.experiments import start_experiment
from warehouse.ledger.outbox import ClaimedMessage, ClaimRequest, Settlement, claim, intend, settle
from warehouse.ledger.waves import Wave, WaveSummary, record_wave, wave_batches

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CHANNELS = ("sms", "email", "push")


def design(campaign: str = "winback", epoch: int = 1, **changes: Any) -> dict[str, Any]:
    """What `Design.to_json` gives, as far as the ledger looks at it."""
    plain: dict[str, Any] = {
        "experiment_id": f"{campaign}:{epoch}",
        "campaign": campaign,
        "epoch": epoch,
        "salt": f"{campaign}.{epoch}.pepper",
        "control": "control",
        "horizon_days": 30.0,
    }
    return plain | changes


def start(ledger: Ledger, campaign: str = "winback", epoch: int = 1) -> str:
    """Start an experiment; gives its id."""
    with ledger.begin() as tx:
        row = start_experiment(tx, design(campaign, epoch), design_hash="d" * 64, started_at=T0)
    return row.experiment_id


def cohort(
    n: int, *, first: int = 0, arms: Sequence[str] = ("offer", "points", "control"), at: datetime = T0, **changes: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """n customers dealt to the arms in turn, and their messages: one SMS, for arm points a later e-mail too."""
    ids = [f"c{number:06d}" for number in range(first, first + n)]
    people = pd.DataFrame({"customer_id": ids, "arm": [arms[i % len(arms)] for i in range(n)]})
    rows = []
    for customer, arm in zip(people["customer_id"], people["arm"], strict=True):
        steps = {"control": [], "points": [("sms", HOUR), ("email", 4 * DAY)]}.get(arm, [("sms", HOUR)])
        for step, (channel, after) in enumerate(steps, start=1):
            rows.append(
                {
                    "customer_id": customer,
                    "step": step,
                    "arm": arm,
                    "channel": channel,
                    "template": f"{arm}_{step}",
                    "not_before": at + after,
                    "closes_at": at + after + 8 * HOUR,
                    "expires_at": at + after + 10 * DAY,
                    "cost_micros": 50_000 if channel == "sms" else 1_000,
                    "zones": "Europe/London",
                }
                | changes
            )
    columns = ["customer_id", "step", "arm", "channel", "template", "not_before", "closes_at", "expires_at"]
    return people, pd.DataFrame(rows, columns=None if rows else columns)


def wave_of(experiment_id: str, people: pd.DataFrame, *, at: datetime = T0, plan_hash: str = "p" * 64) -> Wave:
    """The wave that records these people."""
    return Wave(
        experiment_id=experiment_id,
        as_of=at,
        assigned_at=at,
        plan_hash=plan_hash,
        config_hash="c" * 64,
        facts_fingerprint="f" * 64,
        planned={str(arm): int(n) for arm, n in people["arm"].value_counts().items()},
        skipped={"no_consent": 3},
    )


def record(
    ledger: Ledger, experiment_id: str, n: int = 9, *, rows: int = 4, at: datetime = T0, first: int = 0, **changes: Any
) -> WaveSummary:
    """Record a wave of n customers in batches of `rows`: 3 in each arm of 9, 9 messages, 6 of them SMS."""
    people, messages = cohort(n, at=at, first=first, **changes)
    return record_wave(ledger, wave_of(experiment_id, people, at=at), wave_batches(people, messages, rows=rows))


def take(
    ledger: Ledger, *, now: datetime = T0 + HOUR, worker: str = "w1", limit: int = 100, **more: Any
) -> list[ClaimedMessage]:
    """Claim as one worker, for ten minutes."""
    more = {"channels": CHANNELS, "lease": 10 * MINUTE} | more
    return claim(ledger, ClaimRequest(worker=worker, limit=limit, now=now, **more))


def keys_of(claimed: Sequence[ClaimedMessage]) -> list[str]:
    """Their keys."""
    return [message.message_key for message in claimed]


def send(ledger: Ledger, claimed: Sequence[ClaimedMessage], *, now: datetime = T0 + HOUR, worker: str = "w1") -> None:
    """Intend and settle as sent, as a worker does whose provider takes everything."""
    if not claimed:
        return
    allowed = intend(ledger, keys_of(claimed), worker, claimed[0].fence, now)
    fence = claimed[0].fence
    settle(ledger, [Settlement(message_key=key, state="sent", provider="local", fence=fence) for key in allowed], now)


def states(ledger: Ledger, experiment_id: str = "winback:1") -> dict[str, int]:
    """State -> messages, as the database has them."""
    import sqlalchemy as sa

    from warehouse.ledger.schema import outbox

    query = sa.select(outbox.c.state, sa.func.count()).where(outbox.c.experiment_id == experiment_id)
    with ledger.read() as tx:
        return {row[0]: row[1] for row in tx.execute(query.group_by(outbox.c.state))}
