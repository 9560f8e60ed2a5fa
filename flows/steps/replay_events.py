"""Records provider events that come as a file instead of as webhooks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channels.errors import ChannelError
from channels.receipts import Inbound, Receipt, sendgrid_receipt, twilio_inbound, twilio_receipt
from flows.steps.receive_receipts import receive_inbound, receive_receipts

if TYPE_CHECKING:
    from flows.wiring import Workspace


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a file's events led to; `silent` say nothing about a message's fate, `inbound` are customers' SMS."""

    events: int
    applied: int
    known: int
    unknown: int
    suppressed: int
    silent: int
    inbound: int

    def to_json(self) -> dict[str, int]:
        """Plain JSON types."""
        return asdict(self)


def replay_events(ws: Workspace, file: Path, *, now: datetime) -> Replayed:
    """Record the events of a file: a JSON list, or JSON objects line by line. Whoever has the file is trusted.

    Raises ChannelError, naming the line or the place in the list, before anything is recorded.
    """
    events = read_events(file)
    told, inbound = _sorted(file, events)
    receipts = [receipt for receipt in told if receipt is not None]
    received = receive_receipts(ws, receipts, now=now)
    answers = [receive_inbound(ws, message, now=now) for message in inbound]
    stopped = sum(answer.changed for answer in answers if answer.wish == "stop")
    return Replayed(
        events=len(events),
        applied=received.applied,
        known=received.known,
        unknown=received.unknown,
        suppressed=received.suppressed + stopped,
        silent=len(told) - len(receipts),
        inbound=len(inbound),
    )


def read_events(file: Path) -> Sequence[Mapping[str, Any]]:
    """The events of a file. Raises ChannelError naming the line that is no JSON object."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ChannelError(f"{file}: not UTF-8; expected a list of events, or one object a line, as JSON") from None
    if text.lstrip().startswith("["):
        return [_event(file, number, item) for number, item in enumerate(_parse(file, None, text), start=1)]
    # JSON may hold what else would break a line, such as U+2028, as it is
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [_event(file, number, _parse(file, number, line)) for number, line in lines]


def _sorted(file: Path, events: Sequence[Mapping[str, Any]]) -> tuple[list[Receipt | None], list[Inbound]]:
    """What each event says of a message (None: nothing), and the SMS among them."""
    told: list[Receipt | None] = []
    inbound: list[Inbound] = []
    for number, event in enumerate(events, start=1):
        try:
            if "MessageSid" not in event and "SmsSid" not in event:
                told.append(sendgrid_receipt(event))
            elif "MessageStatus" in event:
                told.append(twilio_receipt(_texts(event), message_key=event.get("m")))
            else:
                inbound.append(twilio_inbound(_texts(event)))
        except ChannelError as error:
            raise ChannelError(f"{file}: event {number}: {error}") from None
    return told, inbound


def _parse(file: Path, number: int | None, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        place = f"{file}:{number}" if number else str(file)
        raise ChannelError(f"{place}: not JSON; expected a list of events, or one object a line") from None


def _event(file: Path, number: int, item: Any) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise ChannelError(f"{file}: event {number}: expected a JSON object")
    return item


def _texts(event: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in event.items() if isinstance(value, str | int)}
