"""Pauses by itself what too many customers complain about, or what bounces too often; a person lets it go on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from warehouse.ledger import switches
from warehouse.ledger.audit import record_audit
from warehouse.ledger.reputation import Tally, tallies
from warehouse.ledger.switches import EVERYTHING, Switch, channel_scope, is_stopped

if TYPE_CHECKING:
    from flows.settings import Reputation
    from flows.wiring import Workspace

BY: Final = "retain"
"""Who pauses, as the switch and the audit say."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Share:
    """What is watched: the word for it, how many messages it befell, the largest share of them that is borne."""

    word: str
    harmed: int
    limit: float


def pause_harmful(ws: Workspace, *, now: datetime) -> dict[str, str]:
    """Pause each campaign's channel whose complaints or bounces are too many, then channels that are so as a whole.

    A channel as a whole is judged by the campaigns that go on: one bad campaign does not stop the others. Messages that
    left before somebody resumed their scope count no more. Gives what was paused now: scope -> reason.
    """
    rules = ws.settings.reputation
    begin = now - rules.window
    with ws.ledger.read() as tx:
        listed = [tally for tally in tallies(tx, since=begin) if tally.slot_at <= now]
        known = {switch.scope: switch for switch in switches.switches(tx)}
    stopped = {scope for scope, switch in known.items() if switch.paused}
    done: dict[str, str] = {}
    for campaign, channel in sorted({(tally.campaign, tally.channel) for tally in listed}):
        scope = channel_scope(campaign, channel)
        _judge(ws, scope, _since(known, scope, _of(listed, campaign, channel)), stopped, done, now)
    for channel in sorted({tally.channel for tally in listed}):
        scope = channel_scope(EVERYTHING, channel)
        names = sorted({t.campaign for t in listed if not is_stopped(stopped, t.campaign, channel)})
        rest = [t for n in names for t in _since(known, channel_scope(n, channel), _of(listed, n, channel))]
        _judge(ws, scope, _since(known, scope, rest), stopped, done, now)
    return done


def _of(listed: Sequence[Tally], campaign: str, channel: str) -> list[Tally]:
    return [tally for tally in listed if (tally.campaign, tally.channel) == (campaign, channel)]


def _since(known: dict[str, Switch], scope: str, listed: Sequence[Tally]) -> list[Tally]:
    """The tallies that began after the scope was last resumed."""
    switch = known.get(scope)
    return [tally for tally in listed if switch is None or tally.slot_at >= switch.changed_at]


def _judge(
    ws: Workspace, scope: str, listed: Sequence[Tally], stopped: set[str], done: dict[str, str], now: datetime
) -> None:
    reason = None if scope in stopped else why_harmful(listed, ws.settings.reputation)
    if reason is None:
        return
    stopped.add(scope)
    if switches.pause(ws.ledger, scope, by=BY, reason=reason, at=now):
        done[scope] = reason
        _log.error("%s is paused: %s", scope, reason)
        with ws.ledger.begin() as tx:
            record_audit(tx, at=now, actor=BY, action="pause", subject=scope, detail={"reason": reason})


def why_harmful(listed: Collection[Tally], rules: Reputation) -> str | None:
    """Why messages with these tallies must stop; None where they are too few to tell, or do not do too much harm."""
    sent = sum(tally.sent for tally in listed)
    if sent < rules.least_messages:
        return None
    complained, bounced = sum(t.complained for t in listed), sum(t.bounced for t in listed)
    for share in (
        _Share("were complained about", complained, rules.complaint_rate),
        _Share("bounced", bounced, rules.bounce_rate),
    ):
        if share.harmed >= rules.least_harmed and share.harmed > share.limit * sent:
            shares = f"({share.harmed / sent:.2%}; limit {share.limit:.2%})"
            hours = rules.window / timedelta(hours=1)
            return f"{share.harmed} of {sent} messages of the last {hours:g} hours {share.word} {shares}"
    return None
