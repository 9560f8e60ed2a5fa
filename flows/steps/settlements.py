"""From what a provider says of a message to the news that the ledger takes, and whom not to write to again."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from channels.message import Outgoing, Sms
from channels.pacing import backoff_s
from channels.provider import Provider, SendResult
from channels.receipts import suppress_reason
from channels.sms_length import measure_sms
from warehouse.ledger.outbox import Cost, Settlement
from warehouse.ledger.suppressions import Suppression

if TYPE_CHECKING:
    from flows.wiring import Workspace

BACKOFF_BASE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send: by which provider, when, under which fence (None: no worker's news), the how-manieth it is."""

    provider: Provider
    now: datetime
    fence: int | None
    number: int = 1


def settlement_of(
    ws: Workspace, message: Outgoing, result: SendResult, attempt: Attempt, *, rng: random.Random
) -> Settlement:
    """The news of one result; a message that was not taken comes back after a growing, jittered wait."""
    told = Settlement(
        message_key=result.key,
        state="sent",
        provider=attempt.provider.name,
        provider_id=result.provider_id,
        provider_code=result.code,
        fence=attempt.fence,
    )
    match result.outcome:
        case "accepted":
            cost = cost_of(ws, message)
            return replace(told, segments=cost.segments, cost_micros=cost.micros)
        case "permanent":
            return replace(told, state="failed", reason=result.code or "refused")
        case "transient":
            wait_s = backoff_s(attempt.number, rng=rng, base_s=BACKOFF_BASE_S, retry_after_s=result.retry_after_s)
            later = attempt.now + timedelta(seconds=wait_s)
            return replace(told, state="pending", reason=result.code or "try_later", not_before=later)
        case "unknown":
            return replace(told, state="in_doubt", reason=result.code or "unknown")


def is_bounce(result: SendResult) -> bool:
    """Whether the provider refused the address itself, and not because its owner had said STOP."""
    return result.action == "suppress" and suppress_reason(result.code) != "stop"


def cost_of(ws: Workspace, message: Outgoing) -> Cost:
    """What a message costs once a provider takes it."""
    segments = measure_sms(message.content.body).segments if isinstance(message.content, Sms) else None
    price = getattr(ws.settings.prices, message.channel).amount
    return Cost(segments, round(price * (segments or 1) * 1_000_000))


def suppressions_from(
    results: Iterable[SendResult], messages: Mapping[str, Outgoing], provider: Provider, at: datetime
) -> list[Suppression]:
    """Whom the provider said not to write to any more on its channel."""
    return [
        Suppression(
            messages[result.key].customer_id,
            provider.channel,
            suppress_reason(result.code) or "bounce",
            provider.name,
            at,
        )
        for result in results
        if result.action == "suppress"
    ]
