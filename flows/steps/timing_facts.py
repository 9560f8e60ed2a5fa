"""What timing needs to know of the candidates of a run: where they live, when they look, and which rules hold."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from campaigns.best_hours import column_of, learn_hours, local_hours, same_clocks
from campaigns.packs import packs, packs_of
from campaigns.timing import tzdata_version
from campaigns.whereabouts import FALLBACKS, Zones, resolve_zones
from warehouse.ledger.engagement import engagement_hours

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.model import Campaign
    from campaigns.plan import Plan
    from flows.wiring import Workspace

MEMORY: Final = timedelta(days=365)
"""How far back opens and clicks tell a best hour."""


def timing_features(campaign: Campaign) -> tuple[str, ...]:
    """The features that the campaign's timing needs of every candidate."""
    return ("region", "best_hour") if wants_best_hour(campaign) else ("region",)


def wants_best_hour(campaign: Campaign) -> bool:
    """Whether some step of the campaign is sent at each customer's best hour."""
    return any(
        campaign.timing_of(name, step).at == "best_hour" for name, arm in campaign.arms.items() for step in arm.steps
    )


def describe_rules(plan: Plan) -> dict[str, Any]:
    """What decided the moments of a plan: zones by source, the share guessed, legal packs, versions of the rules."""
    total = sum(plan.zone_sources.values())
    guessed = sum(plan.zone_sources.get(source, 0) for source in FALLBACKS)
    kinds = plan.messages.groupby(["place", "zones", "channel"], sort=True).size()
    limited: Counter[str] = Counter()
    for place, zones, channel, n in kinds.reset_index(name="n").itertuples(index=False):
        for name in packs_of(str(place), tuple(str(zones).split(",")), str(channel)):
            limited[name] += int(n)
    return {
        "zones": dict(plan.zone_sources),
        "zones_guessed": guessed / total if total else 0.0,
        "jurisdictions": {
            name: {"title": packs()[name].title, "messages": limited[name]} for name in packs() if limited[name]
        },
        "tzdata": tzdata_version(),
        "holidays": version("holidays"),
    }


def with_best_hours(ws: Workspace, campaign: Campaign, frame: pd.DataFrame, *, as_of: datetime) -> pd.DataFrame:
    """The candidates with their best local hour on each channel: of opens and clicks there, of purchases and visits.

    Unchanged where no step of the campaign is sent at best_hour.
    """
    import pandas as pd

    if not wants_best_hour(campaign):
        return frame

    zones = resolve_zones(frame, default=ws.settings.policy.default_time_zone)
    everybody = np.arange(len(frame), dtype=np.intp)
    habits = local_hours(pd.to_numeric(frame["best_hour"]).to_numpy(dtype=float), everybody, zones, at=as_of)
    ids = frame["customer_id"].tolist()
    return frame.assign(
        **{
            column_of(channel): learn_hours(ids, habits, _local_deeds(ws, channel, ids, zones, as_of))
            for channel in ("sms", "email", "push")
        }
    )


def _local_deeds(ws: Workspace, channel: str, ids: list[str], zones: Zones, as_of: datetime) -> pd.DataFrame:
    """What these customers did with messages of a channel, by the hour that their own clocks showed."""
    import pandas as pd

    index = pd.Index(ids)
    parts = [pd.DataFrame(columns=["customer_id", "kind", "hour", "n"])]
    for since, until in same_clocks(zones, as_of - MEMORY, as_of):
        with ws.ledger.read() as tx:
            deeds = pd.DataFrame(engagement_hours(tx, channel, since=since, until=until))
        if deeds.empty:
            continue
        rows = index.get_indexer(pd.Index(deeds["customer_id"]))
        deeds, rows = deeds[rows >= 0], rows[rows >= 0]
        parts.append(deeds.assign(hour=local_hours(deeds["hour"].to_numpy(dtype=float), rows, zones, at=since)))
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
