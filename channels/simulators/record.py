"""What a simulator accepted: the truth that every claim about delivery is held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One message a provider took; `key` is the message key as our request carried it ("" if it did not)."""

    provider: str
    key: str
    recipient: str
    provider_id: str
    body: str
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {"provider": self.provider, "key": self.key, "recipient": self.recipient, "body": self.body}
        return {**plain, "provider_id": self.provider_id, "at": self.at.isoformat(), "details": dict(self.details)}


@dataclass
class Book:
    """Everything accepted, in order, and what was taken back before it went out."""

    accepted: list[Accepted] = field(default_factory=list)
    withdrawn: list[Accepted] = field(default_factory=list)

    def add(self, taken: Accepted) -> None:
        """Note an acceptance."""
        self.accepted.append(taken)

    def withdraw(self, which: Callable[[Accepted], bool]) -> None:
        """Take back acceptances, as for a cancelled batch."""
        self.withdrawn += filter(which, self.accepted)
        self.accepted[:] = [taken for taken in self.accepted if not which(taken)]

    def duplicates(self) -> dict[str, int]:
        """Message keys that were accepted more than once."""
        counts = Counter(taken.key for taken in self.accepted)
        return {key: count for key, count in counts.items() if count > 1}
