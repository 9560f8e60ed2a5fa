"""Whom a run is for: everybody of the segment, or those of it whose moment has come since the run before."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from campaigns.segment_tree import And, InSet, Name
from warehouse.facts.cohorts import LISTED
from warehouse.facts.segment_sql import select_segment
from warehouse.facts.triggers import trigger_moments
from warehouse.ledger.audit import record_audit
from warehouse.ledger.standing import LOOKED, last_assigned, last_run

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.book import CampaignFile
    from campaigns.journey_terms import Trigger
    from flows.wiring import Workspace

TRIGGERED_AT: Final = "triggered_at"


def select_audience(ws: Workspace, file: CampaignFile, *, as_of: datetime, **more: Any) -> pd.DataFrame:
    """The candidates of a run as of an instant, as `select_segment` gives them; `more` is handed on to it.

    With a trigger only those whose moment lies since the last run (any epoch's, earlier than this instant), or within
    `look_back` before it, and one more column: triggered_at. Who was assigned at that moment or later has had it: late
    events get in, and nobody gets in twice for one moment.
    """
    trigger = file.campaign.audience.trigger
    if trigger is None:
        return select_segment(ws.facts, file.segment, as_of=as_of, options=ws.feature_options, **more)
    moments = _new_moments(ws, file, trigger, as_of)
    return _narrowed(ws, file, moments, as_of, more)


def audience_between(ws: Workspace, file: CampaignFile, *, start: datetime, end: datetime) -> pd.DataFrame:
    """Who would have been the audience of runs up to `end`: for a trigger everybody with a moment in [start, end).

    For planning by the past, so what the ledger knows is left aside. Columns as of `select_audience`.
    """
    trigger = file.campaign.audience.trigger
    if trigger is None:
        return select_segment(ws.facts, file.segment, as_of=end, options=ws.feature_options)
    zone = ws.settings.policy.default_time_zone
    moments = trigger_moments(ws.facts, trigger, start=start, end=end, default_zone=zone)
    return _narrowed(ws, file, moments, end, {})


def trigger_window(ws: Workspace, file: CampaignFile, *, as_of: datetime) -> tuple[datetime, datetime] | None:
    """Since when and until when a run as of an instant looks for moments; None without a trigger."""
    trigger = file.campaign.audience.trigger
    if trigger is None:
        return None
    with ws.ledger.read() as tx:
        previous = last_run(tx, file.campaign.name, before=as_of)
    return (previous or as_of) - trigger.look_back, as_of


def note_first_look(ws: Workspace, file: CampaignFile, *, as_of: datetime) -> None:
    """Record the first run that looked for moments, which may have found nobody: the next one goes on from there."""
    name = file.campaign.name
    if file.campaign.audience.trigger is None:
        return
    with ws.ledger.read() as tx:
        if last_run(tx, name, before=as_of + timedelta(microseconds=1)) is not None:
            return
    with ws.ledger.begin() as tx:
        record_audit(tx, at=as_of, actor="run", action=LOOKED, subject=name, detail={"event": "trigger"})


def _new_moments(ws: Workspace, file: CampaignFile, trigger: Trigger, as_of: datetime) -> pd.DataFrame:
    window = trigger_window(ws, file, as_of=as_of)
    assert window is not None  # there is a trigger
    zone = ws.settings.policy.default_time_zone
    moments = trigger_moments(ws.facts, trigger, start=window[0], end=as_of, default_zone=zone)
    with ws.ledger.read() as tx:
        assigned = last_assigned(tx, file.campaign.name, since=window[0], other_than=as_of)
    had = [
        customer in assigned and assigned[customer] >= moment
        for customer, moment in zip(moments["customer_id"], moments[TRIGGERED_AT], strict=True)
    ]
    return moments[~np.array(had, dtype=bool)].reset_index(drop=True)


def _narrowed(
    ws: Workspace, file: CampaignFile, moments: pd.DataFrame, as_of: datetime, more: dict[str, Any]
) -> pd.DataFrame:
    """Those of the segment who have a moment, with it."""
    ids = moments["customer_id"].tolist()
    segment = file.segment
    if 0 < len(ids) <= LISTED:
        segment = And((InSet(Name("customer_id", "text"), tuple(ids)), segment))
    frame = select_segment(ws.facts, segment, as_of=as_of, options=ws.feature_options, **more)
    moments = moments.astype({"customer_id": frame["customer_id"].dtype})
    return frame.merge(moments, on="customer_id", how="inner")  # in the order of the frame
