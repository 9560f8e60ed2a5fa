"""An account that is set up wrongly keeps its own messages waiting, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from flows.steps.deliver_messages import deliver_messages
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace

Shop = Callable[..., Workspace]
SENDGRID = {"email": "sendgrid"}  # without a key


def by_channel(ws: Workspace) -> dict[tuple[str, str], int]:
    """(channel, state) -> messages whose slot is open on the first day."""
    with ws.ledger.read() as tx:
        rows = tx.execute(sa.text("SELECT channel, state, count(*) FROM outbox WHERE step = 1 GROUP BY channel, state"))
        return {(channel, state): n for channel, state, n in rows}


def test_a_wrong_account_is_told_and_its_messages_wait_while_the_others_leave(shop: Shop, monday: datetime) -> None:
    ws = shop(providers=SENDGRID)
    run_campaign(ws, "back", as_of=monday)
    planned = by_channel(ws)
    done = deliver_messages(ws, now=monday, worker="test")
    assert done.sent == planned["sms", "pending"] > 0
    assert list(done.unusable) == ["email"]
    assert "SENDGRID_API_KEY" in done.unusable["email"]
    assert by_channel(ws) == {("sms", "sent"): done.sent, ("email", "pending"): planned["email", "pending"]}


def test_the_waiting_messages_leave_no_line_in_the_history_at_each_run(shop: Shop, monday: datetime) -> None:
    ws = shop(providers=SENDGRID)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    deliver_messages(ws, now=monday + timedelta(minutes=1), worker="test")
    with ws.ledger.read() as tx:
        told = tx.execute(
            sa.text(
                "SELECT count(*) FROM message_events e JOIN outbox o ON o.message_key = e.message_key "
                "WHERE o.channel = 'email'"
            )
        )
        assert told.scalar() == 0


def test_an_account_that_no_message_needs_is_not_opened(shop: Shop, monday: datetime) -> None:
    ws = shop(providers={"push": "fcm"})
    run_campaign(ws, "back", as_of=monday)
    done = deliver_messages(ws, now=monday, worker="test")
    assert done.sent > 0
    assert done.unusable == {}
