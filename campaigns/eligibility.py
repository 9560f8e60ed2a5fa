"""Who may take part: one set of rules, before randomisation, the same for every arm and for control."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from campaigns.draw import Before
from campaigns.shared_addresses import Sharing
from experiments.assign import fractions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

REASONS: Final[Mapping[str, str]] = {
    "erased": "was erased at his or her own wish and has come back with an import: delete the customer at the source",
    "global_holdout": "belongs to the global holdout, which no campaign touches",
    "already_assigned": "has an arm in this experiment already; a later one may take the customer in again",
    "reentry_too_soon": "took part in an earlier experiment less than reentry_after ago (without that key: ever)",
    "rival_campaign": "takes part in another campaign of the same exclusive layer",
    "cooling_off": "was in another campaign of the layer, or in any other campaign, less than the time of rest ago",
    "outranked": "goes to a campaign of higher priority, or of larger expected value, that is due as well",
    "open_complaint": "has a complaint that is not resolved",
    "capped": "has received as many messages as the caps allow",
    "no_address": "has no address on any channel of some step",
    "no_consent": "has not consented to any channel of some step that has an address",
    "suppressed": "is suppressed on every consented channel of some step, or for the campaign's topic",
    "suppressed_address": "has, on every open channel of some step, an address that must not be written to",
    "no_send_time": "has no permitted moment for some step: no zone is known, law, quiet hours or holidays leave "
    "nothing of its window, or its offer or max_lateness ends first",
    "shared_address": "shares an address with a customer who takes part already: it is written to once",
    "over_limit": "is beyond audience.limit (drawn by hash, not by order)",
    "over_budget": "is beyond what the campaign's budget pays for (drawn by hash, not by order)",
}
"""Reason codes in the order in which they are tried; a customer is counted under the first that applies."""

CHANNELS: Final = ("sms", "email", "push")


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger knows about customers when a plan is made; every collection holds customer ids."""

    already_assigned: Collection[str] = frozenset()
    reentry_too_soon: Collection[str] = frozenset()
    rival_campaign: Collection[str] = frozenset()
    cooling_off: Collection[str] = frozenset()
    outranked: Collection[str] = frozenset()
    capped: Collection[str] = frozenset()
    suppressed: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Channel -> customers suppressed on it (scope "all" already expanded)."""
    erased: Collection[str] = frozenset()
    granted: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Channel -> customers who consented to it where the facts say nothing."""
    suppressed_addresses: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Channel -> customers whose address there must not be written to."""
    sharing: Sharing = field(default_factory=Sharing)
    """Who shares an address with whom."""
    assigned_units: Collection[str] = frozenset()
    """Households that another run of this experiment has drawn; nobody of them is drawn again."""
    before: Before = field(default_factory=dict)
    """How earlier epochs drew, where a holdback must stay in control."""


@dataclass(frozen=True, slots=True)
class HoldoutRule:
    """The global holdout: the customers whose hash under `salt` falls below `share` (0 to 1)."""

    share: float
    salt: str


class Reach:
    """On which channels each candidate can be reached: an address, consent and no suppression (arrays of length n)."""

    def __init__(self, candidates: pd.DataFrame, standing: Standing) -> None:
        self.has = {c: candidates[f"has_{c}"].to_numpy(dtype=bool) for c in CHANNELS}
        ids = candidates["customer_id"].to_numpy(dtype=object)
        said_yes = {
            c: candidates[f"consent_{c}"].to_numpy(dtype=bool) | _among(ids, standing.granted.get(c, ()))
            for c in CHANNELS
        }
        self.consented = {c: self.has[c] & said_yes[c] for c in CHANNELS}
        self.wanted = {c: self.consented[c] & ~_among(ids, standing.suppressed.get(c, ())) for c in CHANNELS}
        self.open = {c: self.wanted[c] & ~_among(ids, standing.suppressed_addresses.get(c, ())) for c in CHANNELS}

    def any_of(self, kind: Mapping[str, NDArray[np.bool_]], channels: Sequence[str]) -> NDArray[np.bool_]:
        """True where at least one of the channels is open in the sense of `kind` (has, consented, wanted or open)."""
        found: NDArray[np.bool_] = np.logical_or.reduce([kind[c] for c in channels])
        return found

    def first_open(self, channels: Sequence[str], rows: NDArray[np.intp]) -> NDArray[np.object_]:
        """The first open channel of each row; the rows must have one (eligibility has seen to that)."""
        return np.asarray(np.select([self.open[c][rows] for c in channels], list(channels), default=""), dtype=object)


def screen(
    candidates: pd.DataFrame,
    *,
    needs: Sequence[Sequence[str]],
    reach: Reach,
    standing: Standing,
    holdout: HoldoutRule,
    allow_open_complaint: bool = False,
    units: NDArray[np.object_] | None = None,
) -> NDArray[np.object_]:
    """The reason why each candidate may not take part, or "" (object array of length n).

    `candidates` has the columns of `select_segment`. `needs` holds, for every step of every arm, the channels that
    would do (the step's own first, then its fallbacks): a candidate must be reachable for all of them, whatever arm
    the draw may give, so that control and arms are alike.
    """
    ids = candidates["customer_id"].to_numpy(dtype=object)
    reasons = np.full(len(candidates), "", dtype=object)

    def refuse(reason: str, mask: NDArray[np.bool_]) -> None:
        reasons[mask & (reasons == "")] = reason

    if holdout.share > 0:
        refuse("global_holdout", fractions(holdout.salt, ids.tolist()) < holdout.share)
    refuse("erased", _among(ids, standing.erased))
    refuse("already_assigned", _among(ids, standing.already_assigned))
    if units is not None and standing.assigned_units:
        drawn = set(standing.assigned_units)
        refuse("already_assigned", np.array([unit in drawn for unit in units], dtype=bool))
    for reason in ("reentry_too_soon", "rival_campaign", "cooling_off", "outranked"):
        refuse(reason, _among(ids, getattr(standing, reason)))
    if not allow_open_complaint:
        refuse("open_complaint", candidates["open_complaint"].to_numpy(dtype=bool))
    refuse("capped", _among(ids, standing.capped))
    kinds = {"no_address": reach.has, "no_consent": reach.consented}
    kinds |= {"suppressed": reach.wanted, "suppressed_address": reach.open}
    for reason, kind in kinds.items():
        for channels in needs:
            refuse(reason, ~reach.any_of(kind, channels))
    return reasons


def _among(ids: NDArray[np.object_], members: Collection[str]) -> NDArray[np.bool_]:
    """Which of the ids are members. `isin` of a column of texts makes an object of every member: 20 times as slow."""
    if not members:
        return np.zeros(len(ids), dtype=bool)
    known = members if isinstance(members, Set | Mapping) else frozenset(members)
    return np.fromiter(map(known.__contains__, ids), dtype=bool, count=len(ids))
