"""The world outside: providers that take, refuse and lose; and what it knows to be true when a message reaches it.

It is the oracle. It never asks the product what is allowed: it keeps its own account of who opted out, what is paused,
who is held out, and which clock hangs on each customer's wall, and refuses what must not have been sent by failing.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

from channels.errors import ChannelError
from channels.message import Address, Channel, Email, Outgoing, Push, Sms
from channels.provider import Capability, SendResult
from channels.receipts import Receipt
from tests.invariants.year.shop import CHANNELS, DAY, ROTATION, SETTINGS, Person

CAPABILITIES: Final[dict[str, Capability]] = {"sms": "Q", "email": "K", "push": "N"}
HOUR: Final = timedelta(hours=1)
EVERY_DAY, WEEKDAYS = frozenset(range(7)), frozenset(range(5))
Wish = tuple[str, str, str]
"""Channel, topic (either may be "all") and why."""
Hours = tuple[frozenset[int], float, float]
"""Days of the week, first hour and end, of a local day; an end above 24 is in the night after it."""

LEGAL_SMS: Final[dict[str, tuple[Hours, ...]]] = {
    "Europe/London": ((EVERY_DAY, 9, 20),),
    "Europe/Dublin": ((EVERY_DAY, 8, 21),),
    "Europe/Berlin": ((EVERY_DAY, 8, 21),),
    "Europe/Paris": ((frozenset(range(6)), 8, 20.5),),
    # a zone without a state: the strictest of its states hold (Rhode Island; Kentucky, Mississippi; Texas; Nevada)
    "America/New_York": ((WEEKDAYS, 10, 18), (frozenset({5, 6}), 10, 17)),
    "America/Chicago": ((frozenset(range(6)), 10, 20),),
    "America/Denver": ((frozenset(range(6)), 9, 21), (frozenset({6}), 12, 21)),
    "America/Los_Angeles": ((EVERY_DAY, 9, 20),),
    **dict.fromkeys(("America/Toronto", "America/Vancouver", "America/Edmonton"), ((EVERY_DAY, 8.0, 21.0),)),
    **dict.fromkeys(("Australia/Sydney", "Australia/Brisbane", "Australia/Perth"), ((EVERY_DAY, 11.0, 20.0),)),
}
"""Written down by hand from the sources that the packs name, not read from the packs."""
NO_SMS: Final = {
    "Europe/Paris": {(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)},
}
QUIET: Final[Hours] = (EVERY_DAY, 7.5, 23)
"""What the company's quiet hours leave of a day."""
TOPICS: Final = {"winback": "offers", "slipping": "offers", "best": "offers", "birthday": "news", "care": "service"}


class Killed(BaseException):
    """The process is gone: nothing catches it."""


@dataclass(slots=True)
class Sent:
    """One message that a provider took, once and for good."""

    key: str
    experiment: str
    customer: str
    step: int
    channel: str
    arm: str
    code: str
    at: datetime
    token: str = ""
    failed_at: datetime | None = None
    """When the ledger, being told so, noted that it did not arrive: from then on it uses up no cap and no budget."""

    @property
    def campaign(self) -> str:
        return self.experiment.rpartition(":")[0]


@dataclass
class Truth:
    """What holds at this moment, whatever the ledger says."""

    people: dict[str, Person]
    windows: dict[tuple[str, str, int], Hours]
    """(campaign, arm, step) -> its hours; (experiment, arm, step) where an epoch has others: its design is frozen."""
    barred: dict[str, set[Wish]] = field(default_factory=lambda: defaultdict(set))
    """Customer -> what must not reach the customer."""
    barred_addresses: dict[str, set[Wish]] = field(default_factory=lambda: defaultdict(set))
    """The same by address, whoever has it."""
    granted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Customer -> channels allowed by a consent given to us, where the facts say nothing."""
    paused: set[str] = field(default_factory=set)
    sent: dict[str, Sent] = field(default_factory=dict)
    by_id: dict[str | None, Sent] = field(default_factory=dict)
    """By the provider's id."""
    of_customer: dict[str, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    of_campaign: dict[str, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    bounced: dict[str, Sent] = field(default_factory=dict)
    """What the ledger was told did not arrive, by key, until it believes it."""
    today: list[Sent] = field(default_factory=list)

    @cached_property
    def _owners(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for customer, person in self.people.items():
            for at in person.addresses.items():
                found[at].append(customer)
        return found

    def bar(self, customer: str, wish: Wish, *, addresses: bool = False) -> None:
        """The customer wants nothing of this any more; nor must the addresses hear of it that the customer has."""
        self.barred[customer].add(wish)
        for channel, address in self.people[customer].addresses.items() if addresses else ():
            if wish[0] in (channel, "all"):
                self.bar_address(address, (channel, *wish[1:]))

    def bar_address(self, address: str, wish: Wish) -> None:
        """An address is out, whoever has it."""
        self.barred_addresses[address].add(wish)

    def having(self, channel: str, address: str) -> list[str]:
        """Who has an address: nobody's changes in the year."""
        return self._owners.get((channel, address), [])

    def take(self, message: Outgoing, now: datetime) -> None:
        """A provider takes a message: everything that must be true at this moment is."""
        sent = read_message(message, now)
        assert message.key not in self.sent, f"{message.key} was taken twice"
        self.refuse_unwanted(sent, message.address.value)
        self.refuse_held_out(sent)
        self.refuse_hour(sent)
        self.sent[sent.key] = self.by_id[provider_id(sent.key)] = sent
        self.of_customer[sent.customer].append(sent)
        self.of_campaign[sent.campaign].append(sent)
        self.today.append(sent)

    def refuse_unwanted(self, sent: Sent, address: str) -> None:
        """Nobody suppressed, erased or without consent; nothing that is paused; nobody else's address."""
        person, topic = self.people[sent.customer], TOPICS.get(sent.campaign, "marketing")
        out = {(c, t) for c in (sent.channel, "all") for t in (topic, "all")}
        assert not person.erased, f"{sent.key}: the customer was erased"
        assert person.addresses.get(sent.channel) == address, f"{sent.key}: goes to a wrong address"
        for told, who in ((self.barred[sent.customer], "customer"), (self.barred_addresses[address], "address")):
            why = [wish for wish in told if wish[:2] in out]
            assert not why, f"{sent.key}: the {who} was out: {why}"
        consent = person.consents[sent.channel]
        assert consent or (consent is None and sent.channel in self.granted[sent.customer]), f"{sent.key}: no consent"
        scopes = {"*", sent.campaign, f"*/{sent.channel}", f"{sent.campaign}/{sent.channel}"}
        assert not scopes & self.paused, f"{sent.key}: left while paused"

    def refuse_held_out(self, sent: Sent) -> None:
        """Neither control nor the global holdout of that day gets anything."""
        assert sent.arm != "control", f"{sent.key}: control got a message"
        salt = "the year.global-holdout" + (f".{ROTATION.date().isoformat()}" if sent.at >= ROTATION else "")
        assert fraction(salt, sent.customer) >= 0.05, f"{sent.key}: of the global holdout"

    def refuse_hour(self, sent: Sent) -> None:
        """The clock on the customer's wall is inside window, quiet hours and law."""
        zone = self.people[sent.customer].zone
        wall = sent.at.astimezone(ZoneInfo(zone))
        of_campaign = self.windows[sent.campaign, sent.arm, sent.step]
        hours = self.windows.get((sent.experiment, sent.arm, sent.step), of_campaign)
        assert is_within(hours, wall), f"{sent.key}: {wall} is off window"
        assert is_within(QUIET, wall), f"{sent.key}: {wall} is in the quiet hours"
        if sent.channel == "sms":
            assert any(is_within(hours, wall) for hours in LEGAL_SMS[zone]), f"{sent.key}: {wall} is off legal hours"
            assert (wall.month, wall.day) not in NO_SMS.get(zone, ()), f"{sent.key}: {wall} is a holiday"


def is_within(hours: Hours, wall: datetime) -> bool:
    """By the weekday and the minute of the day that a clock on the wall shows."""
    days, opens, closes = hours
    hour = wall.hour + wall.minute / 60 + wall.second / 3600
    day = wall.weekday()
    return (day in days and opens <= hour < closes) or ((day - 1) % 7 in days and opens <= hour + 24 < closes)


def fraction(salt: str, unit: str) -> float:
    """The published rule of every draw: the first 8 bytes of SHA-256(salt.unit) as a fraction."""
    return int.from_bytes(hashlib.sha256(f"{salt}.{unit}".encode()).digest()[:8], "big") / 2**64


def read_message(message: Outgoing, now: datetime) -> Sent:
    """What a message says of itself: its key and its words."""
    experiment, customer, step, *_ = message.key.split("/")
    content = message.content
    text = {Sms: "body", Email: "html", Push: "title"}[type(content)]
    words = getattr(content, text) + (f" {content.body}" if isinstance(content, Push) else "")
    arm, code = re.search(r"arm=(\S+)", words), re.search(r"code=(\S+)", words)
    token = re.search(r"/([\w.~-]+)['\"]>Unsubscribe", words)
    assert arm is not None
    assert code is not None
    return Sent(
        message.key, experiment, customer, int(step.partition(".")[0]), message.channel, arm[1], code[1], now,
        token[1] if token else "",
    )  # fmt: skip


class Outside:
    """A provider of one channel that goes wrong now and then, and reports late, twice, or never."""

    name: Final = "outside"

    def __init__(self, channel: Channel, truth: Truth, rng: random.Random, trouble: int) -> None:
        self.channel: Channel = channel
        self.capability: Capability = CAPABILITIES[channel]
        self.truth, self.rng, self.trouble = truth, rng, trouble
        self.mail: list[tuple[datetime, Receipt]] = []
        """Receipts under way, with the instant at which each comes in."""
        self.doubled = 0

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """Take most; refuse, lose the answer of, or break down in the middle of the rest."""
        breaks_at = self.rng.randrange(len(batch)) if self.rng.random() < 0.02 else None
        results = []
        for n, message in enumerate(batch):
            if n == breaks_at:
                if self.rng.random() < 0.5:
                    raise Killed
                raise ChannelError("the provider broke down")
            results.append(self._try(message, now))
        return results

    async def find(self, message: Outgoing, *, since: datetime, others: Collection[str] = ()) -> SendResult | None:
        """Say whether a message was taken; now and then not to be asked."""
        if self.rng.random() < 0.1:
            raise ChannelError("cannot be asked now")
        if self.rng.random() < 0.05:
            return SendResult(message.key, "unknown", code="too_many")
        taken = message.key in self.truth.sent
        return SendResult(message.key, "accepted", provider_id=provider_id(message.key)) if taken else None

    async def close(self) -> None:
        """Nothing is held open."""

    def _try(self, message: Outgoing, now: datetime) -> SendResult:
        luck = self.rng.random() / self.trouble
        if self.capability == "K" and message.key in self.truth.sent:
            self.doubled += 1
            return SendResult(message.key, "accepted", provider_id=provider_id(message.key))
        if luck < 0.015:
            return SendResult(message.key, "transient", code="429", retry_after_s=self.rng.choice([None, 40.0]))
        if luck < 0.02:
            return SendResult(message.key, "permanent", code="21614", action="suppress")
        if luck < 0.025:
            return SendResult(message.key, "permanent", code="400")
        if luck < 0.03:
            return SendResult(message.key, "unknown", code="timeout")  # it never came
        self.truth.take(message, now)
        self._report(message, now)
        if luck < 0.045:
            return SendResult(message.key, "unknown", code="timeout")  # it came, the answer was lost
        return SendResult(message.key, "accepted", provider_id=provider_id(message.key))

    def _report(self, message: Outgoing, now: datetime) -> None:
        """Put the receipts of one message into the mail: in any order, some twice, some never."""
        luck = self.rng.random()
        told = ["sent", "bounce" if luck < 0.03 else "delivered"]
        if self.channel == "email" and luck > 0.6:
            told += ["open", "click"] if luck > 0.8 else ["open"]
        for event in told:
            if self.rng.random() < 0.08:
                continue
            for _ in range(1 + (self.rng.random() < 0.15)):
                late = timedelta(hours=self.rng.expovariate(1 / 6) if self.rng.random() < 0.9 else 24 * 9)
                self.mail.append((now + late, self._receipt(message, event, now)))

    def _receipt(self, message: Outgoing, event: str, now: datetime) -> Receipt:
        failed = event == "bounce"
        by_id = self.channel == "sms" and hash_of(message.key) % 3 == 0
        return Receipt(
            provider=self.name,
            channel=self.channel,
            event=event,
            event_key=f"{provider_id(message.key)}-{event}",
            state="failed" if failed else "sent" if event == "sent" else "delivered",
            message_key=None if by_id else message.key,
            provider_id=provider_id(message.key),
            reason="bounce" if failed else None,
            at=now + HOUR,
            suppress="bounce" if failed and hash_of(message.key) % 2 else None,
            address=Address(self.channel, message.address.value) if failed and hash_of(message.key) % 4 == 1 else None,
        )


def provider_id(key: str) -> str:
    """The id that a provider gives to a message; it tells nobody whose it is."""
    return "id" + hashlib.sha256(key.encode()).hexdigest()[:24]


def hash_of(text: str) -> int:
    """A number of a text, the same in every run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def sends_within(sends: Sequence[Sent], at: datetime, reach: timedelta) -> list[Sent]:
    """Those of a customer's messages that count at `at`: taken in (at - reach, at], not known to have failed by then."""
    return [s for s in sends if at - reach < s.at <= at and (s.failed_at is None or s.failed_at > at)]


def same_day(a: datetime, b: datetime, zone: str) -> bool:
    """Whether two instants are of one local day."""
    return local_day(a, zone) == local_day(b, zone)


def same_week(a: datetime, b: datetime, zone: str) -> bool:
    """Whether two instants are of one local week from Monday."""
    return _monday(local_day(a, zone)) == _monday(local_day(b, zone))


def local_day(at: datetime, zone: str) -> date:
    """The day that a calendar on the customer's wall shows."""
    return at.astimezone(ZoneInfo(zone)).date()


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


__all__ = ["CHANNELS", "DAY", "SETTINGS", "Killed", "Outside", "Sent", "Truth"]
