"""What the ledger holds against a plan: who took part already, what waits or has left, what is promised.

A plan may be made again to resume a run that was killed; what that very run (its experiment and as-of instant) recorded
is therefore left out everywhere here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from campaigns.caps import LONGEST, in_period, zones_of
from warehouse.ledger import schema
from warehouse.ledger.claim_rules import Cap
from warehouse.ledger.programme_tables import withheld

_A = schema.assignments
_E = schema.experiments
_O = schema.outbox
_W = withheld

LOOKED: Final = "looked for moments"
"""What the audit calls the first run of a campaign with a trigger."""
_OPEN_OR_GONE = ("pending", *schema.COUNTED)


def assigned_elsewhen(tx: sa.Connection, experiment_id: str, as_of: datetime) -> set[str]:
    """Everyone whom another run of the experiment, as of another instant, assigned."""
    query = sa.select(_A.c.customer_id).where(_A.c.experiment_id == experiment_id, _A.c.assigned_at != as_of)
    return set(tx.execute(query).scalars())


def assigned_in_earlier_epochs(
    tx: sa.Connection, campaign: str, experiment_id: str, *, since: datetime | None
) -> set[str]:
    """Everyone whom another epoch of the campaign assigned: after `since`, or ever."""
    epochs = sa.select(_E.c.experiment_id).where(_E.c.campaign == campaign, _E.c.experiment_id != experiment_id)
    query = sa.select(_A.c.customer_id).where(_A.c.experiment_id.in_(epochs))
    if since is not None:
        query = query.where(_A.c.assigned_at > since)
    return set(tx.execute(query).scalars())


def earlier_draws(tx: sa.Connection, campaign: str, epoch: int) -> dict[str, tuple[bool, float]]:
    """How the last of the earlier epochs drew each customer: whether for control, and what share control had then.

    Empty where none of them was promoted: only a promotion leaves a holdback, everything else is drawn anew.
    """
    d = schema.decisions
    earlier = sa.select(_E).where(_E.c.campaign == campaign, _E.c.epoch < epoch).order_by(_E.c.epoch)
    rows = tx.execute(earlier).mappings().all()
    promoted = sa.select(d.c.decision_id).where(
        d.c.verdict == "promote", d.c.experiment_id.in_([row["experiment_id"] for row in rows])
    )
    if not rows or tx.execute(promoted.limit(1)).first() is None:
        return {}
    found: dict[str, tuple[bool, float]] = {}
    for row in rows:
        control = str(row["design"].get("control", "control"))
        share = float(dict(row["design"]["weights"])[control])
        drawn = sa.select(_A.c.customer_id, _A.c.arm).where(_A.c.experiment_id == row["experiment_id"])
        found.update((customer, (arm == control, share)) for customer, arm in tx.execute(drawn))
    return found


def units_elsewhen(tx: sa.Connection, experiment_id: str, as_of: datetime) -> set[str]:
    """Every household that another run of the experiment, as of another instant, drew."""
    query = sa.select(_A.c.unit.distinct()).where(
        _A.c.experiment_id == experiment_id, _A.c.assigned_at != as_of, _A.c.unit.is_not(None)
    )
    return set(tx.execute(query).scalars())


def last_run(tx: sa.Connection, campaign: str, *, before: datetime) -> datetime | None:
    """The as-of instant of the campaign's last run before an instant, of any epoch, though it found nobody at first."""
    w, log = schema.waves, schema.audit
    query = (
        sa.select(sa.func.max(w.c.as_of))
        .select_from(w.join(_E, _E.c.experiment_id == w.c.experiment_id))
        .where(_E.c.campaign == campaign, w.c.as_of < before)
    )
    first = sa.select(sa.func.max(log.c.at)).where(log.c.subject == campaign, log.c.action == LOOKED, log.c.at < before)
    found: list[datetime | None] = [tx.execute(query).scalar(), tx.execute(first).scalar()]
    return max((at for at in found if at is not None), default=None)


def last_assigned(tx: sa.Connection, campaign: str, *, since: datetime, other_than: datetime) -> dict[str, datetime]:
    """Whom the campaign's runs assigned since an instant, and when last; the run as of `other_than` is left out."""
    query = (
        sa.select(_A.c.customer_id, sa.func.max(_A.c.assigned_at))
        .select_from(_A.join(_E, _E.c.experiment_id == _A.c.experiment_id))
        .where(_E.c.campaign == campaign, _A.c.assigned_at >= since, _A.c.assigned_at != other_than)
        .group_by(_A.c.customer_id)
    )
    return {customer_id: at for customer_id, at in tx.execute(query)}  # noqa: C416 - a result has keys() of its own


def customers_at_cap(
    tx: sa.Connection,
    caps: Sequence[Cap],
    *,
    at: datetime,
    experiment_id: str,
    planned: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> set[str]:
    """Everyone with as many messages as a cap allows, over all other experiments: left in its window, or waiting.

    What a customer of control would have been sent counts as if it had been: control must not be easier to write to.
    `planned`: customer -> (channel, topic) of further messages that are about to be promised.
    """
    full: set[str] = set()
    for cap in caps:
        coming = _matching(cap, planned or {})
        pressure = _pressure(cap, at, experiment_id)
        least = max(1, cap.messages - max(coming.values(), default=0))
        customer, left_at = pressure.c.customer_id, pressure.c.left_at
        crowded = sa.select(customer).group_by(customer).having(sa.func.count() >= least)
        # in a calendar period: what waits, or will leave, counts for sure; of the rest every local clock is asked
        sure = sa.true() if cap.period is None else sa.or_(left_at.is_(None), left_at > at)
        n_sure = sa.func.sum(sa.case((sure, 1), else_=0))
        doubtful = False
        for one, n, n_all in tx.execute(crowded.add_columns(n_sure, sa.func.count())):
            coming[one] += n
            doubtful |= n < n_all
        if cap.period is not None and doubtful:
            left = sa.select(customer, left_at, pressure.c.zones).where(~sure, customer.in_(crowded))
            for one, moment, zones in tx.execute(left):
                coming[one] += any(in_period(moment, at, cap.period, zone) for zone in zones_of(zones))
        full.update(one for one, n in coming.items() if n >= cap.messages)
    return full


def _matching(cap: Cap, planned: Mapping[str, Sequence[tuple[str, str]]]) -> Counter[str]:
    """How many of the planned messages to each customer the cap counts."""
    return Counter(
        customer
        for customer, messages in planned.items()
        for channel, topic in messages
        if cap.channel in (None, channel) and cap.topic in (None, topic)
    )


def _pressure(cap: Cap, at: datetime, experiment_id: str) -> sa.Subquery:
    """One row for each message that may count against the cap: customer, when it left (None while it waits), zones."""
    since = at - (cap.window if cap.period is None else LONGEST[cap.period])
    left = sa.and_(_O.c.state.in_(schema.COUNTED), _O.c.claimed_at > since)
    waiting = sa.and_(_O.c.state == "pending", _O.c.expires_at > at)
    left_at = sa.case((_O.c.state != "pending", _O.c.claimed_at))
    sent = sa.select(_O.c.customer_id, left_at.label("left_at"), _O.c.zones)
    sent = sent.where(_O.c.experiment_id != experiment_id, sa.or_(left, waiting))
    unsent = sa.select(_W.c.customer_id, _W.c.at.label("left_at"), _W.c.zones)
    unsent = unsent.where(_W.c.experiment_id != experiment_id, _W.c.at > since)
    if cap.channel is not None:
        sent, unsent = sent.where(_O.c.channel == cap.channel), unsent.where(_W.c.channel == cap.channel)
    if cap.topic is not None:
        of_topic = sa.select(_E.c.experiment_id).where(_E.c.topic == cap.topic)
        sent = sent.where(_O.c.experiment_id.in_(of_topic))
        unsent = unsent.where(_W.c.experiment_id.in_(of_topic))
    return sa.union_all(sent, unsent).subquery("pressure")


def promised(tx: sa.Connection, campaign: str, *, experiment_id: str, as_of: datetime) -> tuple[int, int]:
    """What the campaign's other runs have used up or promised: messages, and their cost in millionths."""
    epochs = sa.select(_E.c.experiment_id).where(_E.c.campaign == campaign)
    own = sa.exists().where(
        _A.c.experiment_id == _O.c.experiment_id,
        _A.c.customer_id == _O.c.customer_id,
        _A.c.assigned_at == as_of,
        _A.c.experiment_id == experiment_id,
    )
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_O.c.cost_micros), 0)).where(
        _O.c.experiment_id.in_(epochs), _O.c.state.in_(_OPEN_OR_GONE), ~own
    )
    messages, cost_micros = tx.execute(query).one()
    return int(messages), int(cost_micros)
