"""Deliveries: which messages left, to whom and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.errors import LedgerError

if TYPE_CHECKING:
    import pandas as pd

_A = schema.assignments
_O = schema.outbox
_W = schema.waves
_COLUMNS = ("customer_id", "arm", "step", "channel", "code", "sent_at")


def sent_messages(tx: sa.Connection, experiment_id: str) -> pd.DataFrame:
    """Every message of the experiment that a provider accepted, by customer and step.

    Columns: customer_id, arm, step, channel, code (None where the offer has none), sent_at (aware UTC).
    """
    import pandas as pd

    query = (
        sa.select(_O.c.customer_id, _O.c.arm, _O.c.step, _O.c.channel, _O.c.code, _O.c.intent_at)
        .where(_O.c.experiment_id == experiment_id, _O.c.state.in_(["sent", "delivered"]))
        .order_by(_O.c.customer_id, _O.c.step)
    )
    frame = pd.DataFrame([tuple(row) for row in tx.execute(query)], columns=list(_COLUMNS))
    return frame.assign(sent_at=pd.to_datetime(frame["sent_at"], utc=True))


def messages_with_ids(tx: sa.Connection, provider: str, ids: Iterable[str]) -> dict[str, str]:
    """The SMS that a provider knows by these ids of its own: id -> message key. E-mails of one request share theirs."""
    # the channel as it stands in the index's own condition: a bound value would not match the partial index
    query = sa.select(_O.c.provider_id, _O.c.message_key).where(
        sa.text("outbox.channel = 'sms'"),
        _O.c.provider_id.is_not(None),
        dialect.among(tx, _O.c.provider_id, sorted(set(ids))),
        _O.c.provider == provider,
    )
    return {row[0]: row[1] for row in tx.execute(query)}


def reached_customers(tx: sa.Connection, wave_id: str) -> set[str]:
    """The wave's customers with at least one message that a provider accepted.

    Raises LedgerError when there is no such wave.
    """
    experiment_id = tx.execute(sa.select(_W.c.experiment_id).where(_W.c.wave_id == wave_id)).scalar()
    if experiment_id is None:
        raise LedgerError(f"no wave {wave_id} in the ledger; expected EXPERIMENT@INSTANT as waves() lists them")
    own = (_O.c.customer_id == _A.c.customer_id) & (_O.c.experiment_id == _A.c.experiment_id)
    query = (
        sa.select(_A.c.customer_id)
        .select_from(_A.join(_O, own))
        .where(_A.c.experiment_id == experiment_id, _A.c.wave_id == wave_id, _O.c.state.in_(["sent", "delivered"]))
        .distinct()
    )
    return set(tx.execute(query).scalars())
