"""The seam to the outside: what every provider of a channel does and what it says about each message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from channels.message import Channel, Outgoing

Outcome = Literal["accepted", "permanent", "transient", "unknown"]
"""accepted: the provider has it. permanent: it will never be taken. transient: it was not taken, try later.
unknown: it may or may not have been taken (a time-out, a reset, a 5xx): never to be sent again blindly."""

Capability = Literal["K", "Q", "N"]
"""K: honours an idempotency key, a second send of the same key does nothing. Q: can be asked what it accepted.
N: neither."""


Action = Literal["suppress", "halt"]


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one message: `code` is the provider's own (or ours), `reason` a sentence without any address.

    `retry_after_s` is how long the provider asked us to wait; `action` what must follow beyond this message: suppress
    the address for this channel, or halt the account until a person has looked (a refused password, a blocked sender).
    """

    key: str
    outcome: Outcome
    provider_id: str | None = None
    code: str | None = None
    reason: str | None = None
    retry_after_s: float | None = None
    action: Action | None = None


@runtime_checkable
class Provider(Protocol):
    """A way for the messages of one channel to leave."""

    @property
    def name(self) -> str:
        """The name it has in settings and in the ledger, such as "local"."""
        ...

    @property
    def channel(self) -> Channel:
        """The channel whose messages it takes."""
        ...

    @property
    def capability(self) -> Capability:
        """What may be done about a message in doubt."""
        ...

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """Try each message once and give one result each, in the batch's order; raises for no single message's sake."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
