"""Who has left a journey: conditions asked of the facts and of receipts right before messages may leave."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from campaigns.exit_conditions import ExitCondition, read_conditions
from campaigns.segment import Expression, SegmentError, names
from campaigns.segment_file import Segments
from warehouse.facts.outcomes import purchased_since
from warehouse.facts.segment_rows import rows_of_segment
from warehouse.facts.segment_sql import compute_features
from warehouse.facts.signals import redeemed_since, visited_since
from warehouse.ledger.claim_rules import campaign_of
from warehouse.ledger.engagement import engaged
from warehouse.ledger.exits import Conditional, due_conditionals, record_exits
from warehouse.ledger.outbox import skip

if TYPE_CHECKING:
    from flows.steps.deliver_messages import Delivered
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace

STALE: Final = timedelta(minutes=5)
"""A delivery that goes on for longer asks about the messages that still wait once more."""
_log = logging.getLogger(__name__)


class Leavers:
    """Keeps out, batch by batch of one delivery run, whoever has left."""

    def __init__(self, ws: Workspace, sending: Sending, delivered: Delivered) -> None:
        """`delivered` counts what is skipped; a campaign whose conditions mean nothing any more is held."""
        self._ws, self._sending, self._delivered = ws, sending, delivered
        self._asked_at: datetime | None = None
        self._began_at: datetime | None = None
        self._expressions: dict[str, Expression] = {}

    def leave_out(self, now: datetime) -> None:
        """Skip every message due by `now` of which a condition is true; those that were asked about lately excepted.

        What a customer did is recorded for good, so that the claim, and all later messages, know it too.
        """
        after = self._asked_at
        if after is not None and now <= after:
            return
        if self._began_at is None or now - self._began_at >= STALE:
            after, self._began_at = None, now
        if self._asked_at is not None and after is None:
            self._ws.facts.refresh()  # this run has lasted a while
        for part in due_conditionals(self._ws.ledger, after=after, until=now, experiments=self._sending.experiments):
            for experiment_id in sorted({message.experiment_id for message in part}):
                self._leave_out_of(experiment_id, [m for m in part if m.experiment_id == experiment_id], now)
        self._asked_at = now

    def forget(self) -> None:
        """Ask again about everything that waits: messages were added."""
        self._asked_at = None

    def _leave_out_of(self, experiment_id: str, messages: Sequence[Conditional], now: datetime) -> None:
        waiting = list(messages)
        # any one will do, so who has left by one is not asked about the next
        for condition in dict.fromkeys(c for message in messages for c in read_conditions(message.unless)):
            named = [message for message in waiting if condition in read_conditions(message.unless)]
            try:
                leaving = self._true_of(condition, experiment_id, named, now) if named else set()
            except SegmentError as error:
                self._hold(experiment_id, condition, error)
                return
            if not leaving:
                continue
            self._record(experiment_id, condition, [m for m in named if m.customer_id in leaving], now)
            waiting = [m for m in waiting if not (m.customer_id in leaving and m in named)]

    def _true_of(
        self, condition: ExitCondition, experiment_id: str, messages: Sequence[Conditional], now: datetime
    ) -> Collection[str]:
        """Of which customers the condition is true at `now`."""
        if condition.kind != "signal":
            return self._in_segment(condition.text, sorted({m.customer_id for m in messages}), now)
        return _SIGNALS[condition.text](self._ws, experiment_id, messages, now)

    def _in_segment(self, text: str, customers: Sequence[str], now: datetime) -> set[str]:
        expression = self._parse(text)
        frame = compute_features(
            self._ws.facts,
            as_of=now,
            names=sorted(names(expression)),
            customer_ids=customers,
            options=self._ws.feature_options,
        )
        return set(frame["customer_id"][rows_of_segment(expression, frame)])

    def _parse(self, text: str) -> Expression:
        if text not in self._expressions:
            book = self._ws.usable_book[0]
            self._expressions[text] = Segments(book.segment_texts, self._ws.facts.attributes()).parse(text)
        return self._expressions[text]

    def _record(
        self, experiment_id: str, condition: ExitCondition, messages: Sequence[Conditional], now: datetime
    ) -> None:
        reason = condition.reason
        if condition.is_lasting:
            customers = {message.customer_id for message in messages}
            n = record_exits(self._ws.ledger, experiment_id, customers, reason=reason, at=now)
        else:
            n = skip(self._ws.ledger, {message.message_key: reason for message in messages}, now)
        self._delivered.skipped[reason] += n

    def _hold(self, experiment_id: str, condition: ExitCondition, error: SegmentError) -> None:
        """Better no message than one that a condition may forbid: the campaign waits until somebody mends it."""
        campaign = campaign_of(experiment_id)
        self._sending.experiments.discard(experiment_id)
        why = (
            f'messages are to be left out by "{condition.text}", which means nothing any more ({error.text}); '
            "put the segment back into segments.yaml, or the column into the customers"
        )
        self._delivered.held[campaign] = why
        _log.error("campaign %s is held: %s", campaign, why)


def _purchased(ws: Workspace, experiment_id: str, messages: Sequence[Conditional], now: datetime) -> set[str]:
    del experiment_id
    return purchased_since(ws.facts, {m.customer_id: m.assigned_at for m in messages}, until=now)


def _visited(ws: Workspace, experiment_id: str, messages: Sequence[Conditional], now: datetime) -> set[str]:
    del experiment_id
    return visited_since(ws.facts, {m.customer_id: m.assigned_at for m in messages}, until=now)


def _redeemed(ws: Workspace, experiment_id: str, messages: Sequence[Conditional], now: datetime) -> set[str]:
    del experiment_id
    codes = {m.customer_id: m.code for m in messages if m.code is not None}
    return redeemed_since(ws.facts, codes, {m.customer_id: m.assigned_at for m in messages}, until=now)


def _opened(ws: Workspace, experiment_id: str, messages: Sequence[Conditional], now: datetime) -> set[str]:
    del now
    with ws.ledger.read() as tx:
        return engaged(tx, experiment_id, [m.customer_id for m in messages], "open")


def _clicked(ws: Workspace, experiment_id: str, messages: Sequence[Conditional], now: datetime) -> set[str]:
    del now
    with ws.ledger.read() as tx:
        return engaged(tx, experiment_id, [m.customer_id for m in messages], "click")


def _replied(ws: Workspace, experiment_id: str, messages: Sequence[Conditional], now: datetime) -> set[str]:
    """A reply was recorded, and acted upon, when it came."""
    del ws, experiment_id, messages, now
    return set()


_Asked = Callable[["Workspace", str, Sequence[Conditional], datetime], set[str]]
_SIGNALS: Final[dict[str, _Asked]] = {
    "purchased": _purchased,
    "visited": _visited,
    "redeemed": _redeemed,
    "opened": _opened,
    "clicked": _clicked,
    "replied": _replied,
}
