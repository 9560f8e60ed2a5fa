"""What limits a campaign's messages at the moment they leave: caps, budget, and the verdict on each candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from warehouse.ledger.errors import LedgerError


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `messages` to a customer within any `window`, over all campaigns; of one channel, or of all (None).

    A smallest gap between messages is a cap of one message within the gap.
    """

    messages: int
    window: timedelta
    channel: str | None = None

    def __post_init__(self) -> None:
        if self.messages < 1 or self.window <= timedelta(0):
            raise LedgerError(f"a cap allows at least one message within a positive window, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRules:
    """What limits a campaign's messages at the moment they leave.

    `when_capped`: "defer" to the first instant the caps allow (skipped once the message would expire first), or "skip".
    `over_budget`: "skip" the message with reason over_budget, or "hold" it pending until there is budget or it expires.
    `max_messages` and `max_cost_micros` count all epochs of the campaign.
    """

    caps: tuple[Cap, ...] = ()
    when_capped: Literal["defer", "skip"] = "defer"
    max_messages: int | None = None
    max_cost_micros: int | None = None
    over_budget: Literal["skip", "hold"] = "skip"


class Candidate(NamedTuple):
    """A due message, as read and locked by a claim."""

    message_key: str
    experiment_id: str
    customer_id: str
    step: int
    arm: str
    channel: str
    template: str
    offer: str | None
    code: str | None
    locale: str | None
    unless: str | None
    zones: str
    not_before: datetime
    closes_at: datetime
    expires_at: datetime
    attempts: int
    cost_micros: int
    fence: int
    assigned_at: datetime
    suppressed: bool
    has_left: bool


@dataclass(slots=True)
class Verdicts:
    """What becomes of the candidates of one round: claimed, skipped (why), deferred (until when)."""

    claimed: list[Candidate] = field(default_factory=list)
    skipped: list[tuple[Candidate, str]] = field(default_factory=list)
    deferred: list[tuple[Candidate, datetime]] = field(default_factory=list)


Sent = tuple[datetime, str]
"""When a message went to a customer, and on which channel."""

_NO_RULES: Final = CampaignRules()


def campaign_of(experiment_id: str) -> str:
    """Give the campaign of an experiment's id."""
    return experiment_id.rpartition(":")[0]


def is_held(rules: CampaignRules | None, used: tuple[int, int]) -> bool:
    """Tell whether the campaign's messages wait for a larger budget. `used`: (messages, cost_micros)."""
    if rules is None or rules.over_budget != "hold":
        return False
    messages_left, cost_left = _left(rules, used)
    return messages_left <= 0 or cost_left <= 0


def judge(
    candidates: Iterable[Candidate],
    now: datetime,
    *,
    rules: Mapping[str, CampaignRules],
    recent: Mapping[str, Sequence[Sent]],
    used: Mapping[str, tuple[int, int]],
) -> Verdicts:
    """Decide on each candidate in turn; what an earlier one uses up counts for the later ones.

    `recent`: customer -> messages within the longest window; `used`: campaign -> (messages, cost_micros).
    """
    verdicts = Verdicts()
    times = {customer: list(sent) for customer, sent in recent.items()}
    spent = dict(used)
    for candidate in candidates:
        campaign = campaign_of(candidate.experiment_id)
        rule = rules.get(campaign, _NO_RULES)
        sent = times.setdefault(candidate.customer_id, [])
        free_at = _free_at(rule.caps, sent, candidate.channel, now) if rule.caps else None
        messages_left, cost_left = _left(rule, spent[campaign])
        if candidate.suppressed:
            verdicts.skipped.append((candidate, "suppressed"))
        elif candidate.has_left:
            verdicts.skipped.append((candidate, candidate.unless or "left"))
        elif free_at is not None and (rule.when_capped == "skip" or free_at >= candidate.expires_at):
            verdicts.skipped.append((candidate, "capped"))
        elif free_at is not None:
            verdicts.deferred.append((candidate, free_at))
        elif messages_left < 1 or cost_left < candidate.cost_micros:
            if rule.over_budget == "skip":
                verdicts.skipped.append((candidate, "over_budget"))
        else:
            verdicts.claimed.append(candidate)
            sent.append((now, candidate.channel))
            spent[campaign] = (spent[campaign][0] + 1, spent[campaign][1] + candidate.cost_micros)
    return verdicts


def _left(rules: CampaignRules, used: tuple[int, int]) -> tuple[float, float]:
    messages = float("inf") if rules.max_messages is None else rules.max_messages - used[0]
    cost = float("inf") if rules.max_cost_micros is None else rules.max_cost_micros - used[1]
    return messages, cost


def _free_at(caps: Sequence[Cap], sent: Sequence[Sent], channel: str, now: datetime) -> datetime | None:
    """Give the first instant at which every cap has room, None when that is now."""
    free_at = now
    for cap in caps:
        if cap.channel not in (None, channel):
            continue
        within = sorted((at for at, of in sent if cap.channel in (None, of) and at > now - cap.window), reverse=True)
        if len(within) >= cap.messages:
            free_at = max(free_at, within[cap.messages - 1] + cap.window)
    return free_at if free_at > now else None
