"""What limits a campaign's messages at the moment they leave: caps, budget, and the verdict on each candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from campaigns.caps import LONGEST, Period, in_period, next_period, zones_of
from experiments.assign import fraction
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.types import read_instant


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `messages` to a customer within any `window`, over all campaigns; of one channel, one topic, or of all.

    With `period` the cap is of the customer's own calendar day or week, and `window` only names its usual length. A
    smallest gap between messages is a cap of one message within the gap.
    """

    messages: int
    window: timedelta
    channel: str | None = None
    topic: str | None = None
    period: Period | None = None

    def __post_init__(self) -> None:
        if self.messages < 1 or self.window <= timedelta(0):
            raise LedgerError(f"a cap allows at least one message within a positive window, got {self}")

    @property
    def reach(self) -> timedelta:
        """How far back messages may count: the window, or the longest that its period can last."""
        return self.window if self.period is None else LONGEST[self.period]

    def counts(self, sent: Sent, now: datetime, zone: str) -> bool:
        """Whether a message that was sent uses up a place of the cap at `now`, for a customer in `zone`."""
        if self.channel not in (None, sent.channel) or self.topic not in (None, sent.topic):
            return False
        if self.period is None:
            return sent.at > now - self.window
        return in_period(sent.at, now, self.period, zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRules:
    """What limits a campaign's messages at the moment they leave.

    `when_capped`: "defer" to the first instant the caps allow (skipped once the message would expire first), or "skip".
    `over_budget`: "skip" the message with reason over_budget, or "hold" it pending until there is budget or it expires.
    `max_messages` and `max_cost_micros` count all epochs of the campaign. `priority`, then `value` (expected gain per
    customer): whose message goes first where several want a customer's last place, the larger of each.
    """

    caps: tuple[Cap, ...] = ()
    when_capped: Literal["defer", "skip"] = "defer"
    max_messages: int | None = None
    max_cost_micros: int | None = None
    over_budget: Literal["skip", "hold"] = "skip"
    priority: int = 0
    value: float = 0.0

    @property
    def rank(self) -> tuple[float, float]:
        """Its place among campaigns that compete; the smallest goes first."""
        return (-self.priority, -self.value)


class Holdout(NamedTuple):
    """The global holdout: whoever's hash under `salt` falls below `share` (0..1) gets nothing."""

    salt: str
    share: float

    def holds(self, customer_id: str) -> bool:
        """Whether the customer belongs to it."""
        return self.share > 0.0 and fraction(self.salt, customer_id) < self.share


class Sent(NamedTuple):
    """When a message went to a customer (or would have, were it not control), on which channel, about what."""

    at: datetime
    channel: str
    topic: str | None = None


class Candidate(NamedTuple):
    """A due message, as read and locked by a claim; instants as the database writes them, for `read_instant`."""

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
    not_before: str
    closes_at: str
    expires_at: str
    attempts: int
    cost_micros: int
    fence: int
    assigned_at: str
    suppressed: bool
    left_by: str | None
    place: str | int | None = None
    """Where the database keeps the row while it is locked."""


@dataclass(slots=True)
class Verdicts:
    """What becomes of the candidates of one round: claimed, skipped (why), deferred (until when, and why)."""

    claimed: list[Candidate] = field(default_factory=list)
    skipped: list[tuple[Candidate, str]] = field(default_factory=list)
    deferred: list[tuple[Candidate, datetime, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a claim knows when it judges.

    `rules` by campaign; `recent`: customer -> messages as far back as a cap reaches; `used`: campaign -> (messages,
    cost_micros); `topics`: experiment -> topic.
    """

    rules: Mapping[str, CampaignRules]
    recent: Mapping[str, Sequence[Sent]]
    used: Mapping[str, tuple[int, int]]
    topics: Mapping[str, str] = field(default_factory=dict)
    holdout: Holdout | None = None


_NO_RULES: Final = CampaignRules()


def campaign_of(experiment_id: str) -> str:
    """Give the campaign of an experiment's id."""
    return experiment_id.rpartition(":")[0]


def rules_of(rules: Mapping[str, CampaignRules], experiment_id: str) -> CampaignRules:
    """Give the rules of an experiment's campaign; none where nobody named them."""
    return rules.get(campaign_of(experiment_id), _NO_RULES)


def is_held(rules: CampaignRules | None, used: tuple[int, int]) -> bool:
    """Tell whether the campaign's messages wait for a larger budget. `used`: (messages, cost_micros)."""
    if rules is None or rules.over_budget != "hold":
        return False
    messages_left, cost_left = _left(rules, used)
    return messages_left <= 0 or cost_left <= 0


def judge(
    candidates: Iterable[Candidate],
    now: datetime,
    known: Known,
    *,
    limit: int | None = None,
    carried: Mapping[str, int | None] | None = None,
) -> Verdicts:
    """Decide on each candidate in turn, campaigns of higher rank first; what one uses up counts for the later ones.

    After `limit` claimed the others are left for another round, and so are a channel's after as many as are `carried`
    on it (None, or not named: any number). Nothing capped of lower rank goes to a customer who waits for such a round.
    """
    verdicts, room, accounts = Verdicts(), _Room(known, now), _Accounts(carried or {})
    rows = list(candidates)
    of = _campaigns_of(rows, known)
    for candidate in sorted(rows, key=lambda row: of[row.experiment_id].rank):
        if limit is not None and len(verdicts.claimed) >= limit:
            break
        campaign = of[candidate.experiment_id]
        rule = campaign.rules
        if rule.caps and candidate.customer_id in accounts.waiting:
            continue
        free_at, reason = room.of(candidate, campaign)
        if (never := _never(candidate, known.holdout)) is not None:
            verdicts.skipped.append((candidate, never))
        elif free_at is not None and (rule.when_capped == "skip" or free_at >= read_instant(candidate.expires_at)):
            verdicts.skipped.append((candidate, reason))
        elif free_at is not None:
            verdicts.deferred.append((candidate, free_at, reason))
        elif not campaign.affords(candidate.cost_micros):
            if rule.over_budget == "skip":
                verdicts.skipped.append((candidate, "over_budget"))
        elif accounts.carry(candidate):
            verdicts.claimed.append(candidate)
            room.use(candidate, campaign)
            campaign.spend(candidate.cost_micros)
    return verdicts


def _never(candidate: Candidate, holdout: Holdout | None) -> str | None:
    """Why the candidate may never leave, whatever caps and budget say; None where it may."""
    if holdout is not None and holdout.holds(candidate.customer_id):
        return "global_holdout"
    return "suppressed" if candidate.suppressed else candidate.left_by


class _Campaign:
    """A campaign in one round: its rules, its rank, and what its budget leaves as the round's messages use it up."""

    __slots__ = ("_cost_left", "_messages_left", "rank", "rules")

    def __init__(self, rules: CampaignRules, used: tuple[int, int]) -> None:
        self.rules, self.rank = rules, rules.rank
        self._messages_left, self._cost_left = _left(rules, used)

    def affords(self, cost_micros: int) -> bool:
        """Whether the budget has room for one more message at this cost."""
        return self._messages_left >= 1 and self._cost_left >= cost_micros

    def spend(self, cost_micros: int) -> None:
        """Count a message that was claimed."""
        self._messages_left -= 1
        self._cost_left -= cost_micros


def _campaigns_of(rows: Iterable[Candidate], known: Known) -> dict[str, _Campaign]:
    """Give the campaign of each experiment; the epochs of one share it, as they share its budget."""
    ids = {row.experiment_id for row in rows}
    names = {campaign_of(experiment_id) for experiment_id in ids}
    campaigns = {name: _Campaign(known.rules.get(name, _NO_RULES), known.used[name]) for name in names}
    return {experiment_id: campaigns[campaign_of(experiment_id)] for experiment_id in ids}


class _Accounts:
    """How many messages of each channel are left to claim in one round, and who waits for another one."""

    def __init__(self, carried: Mapping[str, int | None]) -> None:
        self._left = {channel: most for channel, most in carried.items() if most is not None}
        self.waiting: set[str] = set()

    def carry(self, candidate: Candidate) -> bool:
        """Take one more message onto its channel, or let its customer wait."""
        if self._left.get(candidate.channel, 1) < 1:
            self.waiting.add(candidate.customer_id)
            return False
        if candidate.channel in self._left:
            self._left[candidate.channel] -= 1
        return True


class _Room:
    """What the caps leave each customer, as the messages of one round use it up."""

    def __init__(self, known: Known, now: datetime) -> None:
        self._known, self._now = known, now
        self._sent: dict[str, Sequence[Sent]] = dict(known.recent)
        self._won: dict[str, tuple[float, float]] = {}
        self._alone: dict[tuple[str, str], tuple[Sent]] = {}

    def of(self, candidate: Candidate, campaign: _Campaign) -> tuple[datetime | None, str]:
        """Give the first instant that has room (None: now), and why not now: capped, or outranked in this round."""
        customer = candidate.customer_id
        sent = self._sent.get(customer)
        if sent is None:  # most of all
            return None, ""
        (sending,), caps = self._sending(candidate), campaign.rules.caps
        free_at = _free_at(caps, sent, sending, candidate.zones)
        if free_at is None:
            return None, ""
        had_room = _free_at(caps, self._known.recent.get(customer, ()), sending, candidate.zones) is None
        outranked = had_room and self._won.get(customer, campaign.rank) < campaign.rank
        return free_at, "outranked" if outranked else "capped"

    def use(self, candidate: Candidate, campaign: _Campaign) -> None:
        """Count a message that was claimed."""
        customer, sending = candidate.customer_id, self._sending(candidate)
        before = self._sent.get(customer)
        self._sent[customer] = sending if before is None else (*before, *sending)
        if customer not in self._won:
            self._won[customer] = campaign.rank

    def _sending(self, candidate: Candidate) -> tuple[Sent]:
        """What the candidate counts as once it is claimed: the same for all of its experiment on its channel."""
        lane = (candidate.experiment_id, candidate.channel)
        known = self._alone.get(lane)
        if known is None:
            topic = self._known.topics.get(candidate.experiment_id)
            known = self._alone[lane] = (Sent(self._now, candidate.channel, topic),)
        return known


def _left(rules: CampaignRules, used: tuple[int, int]) -> tuple[float, float]:
    messages = float("inf") if rules.max_messages is None else rules.max_messages - used[0]
    cost = float("inf") if rules.max_cost_micros is None else rules.max_cost_micros - used[1]
    return messages, cost


def _free_at(caps: Sequence[Cap], sent: Sequence[Sent], sending: Sent, zones: str) -> datetime | None:
    """Give the first instant at which every cap has room in each of the customer's zones, None when that is now."""
    now = free_at = sending.at
    for cap in caps:
        if cap.channel not in (None, sending.channel) or cap.topic not in (None, sending.topic):
            continue
        for zone in zones_of(zones) if cap.period is not None else ("",):
            within = sorted((message.at for message in sent if cap.counts(message, now, zone)), reverse=True)
            if len(within) < cap.messages:
                continue
            if cap.period is None:
                free_at = max(free_at, within[cap.messages - 1] + cap.window)
            else:
                free_at = max(free_at, next_period(now, cap.period, zone))
    return free_at if free_at > now else None
