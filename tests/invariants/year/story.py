"""The story of the year, day by day, from one seed: customers, faults, wishes, pauses, changed files, a promotion."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import pandas as pd

from channels.errors import ChannelError
from channels.message import Address
from channels.receipts import Inbound
from flows.demo.world import write_table
from flows.settings import read_settings
from flows.steps import apply_plan, approve_launch, deliver_messages, receive_receipts
from flows.steps import plan_campaign as plan_campaign_step
from flows.steps.competition import due_campaigns
from flows.steps.decide_experiment import decide_experiment
from flows.steps.dispatch_pace import Pace, accounts_of
from flows.steps.erase_customer import erase_customer
from flows.steps.import_consents import record_consent
from flows.steps.load_facts import load_facts
from flows.steps.plan_campaign import plan_campaign
from flows.steps.resolve_message import resolve_message
from flows.steps.run_campaign import run_campaign
from flows.steps.suppress_customer import suppress_customer
from flows.steps.unsubscribe import find_link, unsubscribe
from flows.wiring import Workspace, open_workspace
from tests.invariants.year.outside import EVERY_DAY, WEEKDAYS, Hours, Killed, Outside, Sent, Truth
from tests.invariants.year.shop import CHANNELS, DAY, SETTINGS, START, Shop
from tests.invariants.year.shortcuts import checked_once
from tests.invariants.year.watch import Watch
from warehouse.ledger import switches
from warehouse.ledger.consents import Statement
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.launches import LaunchAnswer
from warehouse.ledger.outbox import in_doubt

HOUR: Final = timedelta(hours=1)
WINDOWS: Final[dict[tuple[str, str, int], Hours]] = {
    ("winback", "coupon", 1): (EVERY_DAY, 9, 19),
    ("winback", "coupon", 2): (EVERY_DAY, 9, 19),
    ("winback", "news", 1): (EVERY_DAY, 9, 19),
    ("slipping", "morning", 1): (EVERY_DAY, 8, 16),
    ("slipping", "night", 1): (frozenset({0, 2, 4}), 20.5, 25.5),
    ("welcome", "hello", 1): (frozenset(range(6)), 10, 20),
    ("welcome", "hello", 2): (frozenset(range(6)), 10, 20),
    ("birthday", "cake", 1): (EVERY_DAY, 7.5, 23),  # if_late: send
    ("care", "informed", 1): (WEEKDAYS, 9, 18),
    ("best", "tiered", 1): (frozenset({1, 2, 3}), 9.5, 21.5),
    ("best", "tiered", 2): (frozenset({1, 2, 3}), 9.5, 21.5),
}
CRASHING: Final = ("claim", "intend", "settle", "release", "skip", "count_sent", "fall_back")
"""What the dispatcher may be killed before or after."""
PROMOTED_ON: Final = 180


class Year:
    """Plays days; `watch.check` looks at the end of each. The same shop and seed play the same year."""

    def __init__(self, stack: ExitStack, shop: Shop, *, seed: int, trouble: int = 1) -> None:
        """`trouble`: how many times as often providers fail, people make up their minds and somebody pauses."""
        self.shop, self.rng, self.trouble = shop, random.Random(seed), trouble
        self.truth = Truth(shop.people, dict(WINDOWS))
        ws = stack.enter_context(open_workspace(read_settings(shop.root, overrides=SETTINGS)))
        self.outside = {c: Outside(c, self.truth, random.Random(f"{seed} {c}"), trouble) for c in CHANNELS}
        self.ws: Workspace = replace(ws, providers=self.outside)
        self.watch = Watch(shop.root / "data" / "ledger.db", self.truth)
        stack.callback(self.watch.close)
        stack.enter_context(self.faults())
        self.rows: dict[str, list[tuple[datetime, dict[str, Any]]]] = {"orders": [], "events": [], "customers": []}
        self.open_complaints: list[tuple[datetime, str]] = []
        self.replay: list[Any] = []
        self.done: Counter[str] = Counter()
        self.stopped: list[str] = []
        self.serial = 0
        self.told: set[str] = set()
        self.now = START

    def play(self, days: int) -> None:
        """Play so many days, and look at everything at the end of each."""
        for _ in range(days):
            day = round((self.now - START) / DAY)
            self.change_files(day)
            self.live(self.now)
            self.load(self.now + HOUR)
            self.run_due(self.now + 8 * HOUR)
            for hour in sorted(self.rng.uniform(0, 24) for _ in range(self.rng.choice([1, 2, 3]))):
                self.an_hour(self.now + timedelta(minutes=int(hour * 60)))
            for sent in self.truth.today:
                self.answer(sent)
            self.watch.check()
            self.now += DAY

    def an_hour(self, at: datetime) -> None:
        """Mail comes in, people make up their minds, a worker delivers."""
        self.receive(at)
        for _ in range(self.rng.choice([0, 1, 1, 2]) * self.trouble):
            self.rng.choice(WISHES)(self, at)
        self.switch(at)
        self.deliver(at)
        if self.rng.random() < 0.05:
            self.settle_doubts(at)

    # ---- what the marketers and operators do

    def run_due(self, at: datetime) -> None:
        """Run what is due; killed runs are run again, large launches wait for ben."""
        for due in due_campaigns(self.ws, now=at):
            if self.rng.random() < 0.06:
                first, again = (plan_campaign(self.ws, due.campaign, as_of=due.as_of) for _ in range(2))
                assert first.summary == again.summary, due
                self.done["planned twice"] += 1
            for _ in range(4):
                try:
                    applied = run_campaign(self.ws, due.campaign, as_of=due.as_of, by="ann")
                except Killed:
                    self.done["run killed"] += 1
                    continue
                if applied.launch.state != "awaiting_approval":
                    self.done[f"run {due.campaign}"] += 1
                    break
                said = LaunchAnswer(self.rng.random() < 0.9, "ben", at, "looked at it")
                approve_launch.answer(self.ws, due.campaign, due.as_of, said)
                self.done["launch approved" if said.approved else "launch refused"] += 1

    def deliver(self, at: datetime) -> None:
        """One worker delivers; whoever is killed is followed by another, sometimes before the lease is over."""
        for number in range(1 + (self.rng.random() < 0.2)):
            worker = f"w{self.serial}"
            self.serial += 1
            now = at + timedelta(minutes=7 * number)
            pace = Pace(
                self.ws.ledger, worker, accounts_of(self.ws.settings), clock=lambda now=now: now, sleep=_no_sleep
            )
            try:
                deliver_messages.deliver_messages(self.ws, now=now, worker=worker, pace=pace)
            except (Killed, ChannelError) as error:
                self.done[f"delivery ended by {type(error).__name__}"] += 1
            self.done["deliveries"] += 1

    def switch(self, at: datetime) -> None:
        """Somebody pauses something, or lets it go on."""
        for scope in sorted(self.truth.paused):
            if self.rng.random() < (0.5 if scope == "*" else 0.15):
                switches.resume(self.ws.ledger, scope, by="ann", reason="goes on", at=at)
                self.truth.paused.discard(scope)
        if self.rng.random() < 0.03 * self.trouble:
            self.pause(at)

    def pause(self, at: datetime) -> None:
        """Pause a campaign, a channel of it, a channel, or everything."""
        name = self.rng.choice(["winback", "slipping", "welcome", "birthday", "care", "best", "*"])
        scope = name if self.rng.random() < 0.6 else f"{name}/{self.rng.choice(CHANNELS)}"
        switches.pause(self.ws.ledger, scope, by="ann", reason="not now", at=at)
        self.truth.paused.add(scope)
        self.done["pauses"] += 1

    def settle_doubts(self, at: datetime) -> None:
        """A person asks the provider about pushes in doubt, and settles them as they are."""
        with self.ws.ledger.read() as tx:
            rows = in_doubt(tx, channel="push")
        for row in rows:
            outcome = "sent" if row.message_key in self.truth.sent else "failed"
            resolve_message(self.ws, row.message_key, outcome, by="ann", at=at)
            self.done["doubts settled by hand"] += 1

    def change_files(self, day: int) -> None:
        """What is changed in the book and in the settings, and the promotion."""
        files = self.shop.root / "campaigns" / "book"
        if day == 60:
            self.rewrite(files / "care.yaml", 'to: "18:00"', 'to: "16:00"')
            self.truth.windows["care:2", "informed", 1] = (WEEKDAYS, 9, 16)
        elif day == 100:
            words = self.shop.root / "templates" / "email" / "words.html.j2"
            words.write_text(words.read_text(encoding="utf-8").replace("<p>", "<p>Hello, ", 1), encoding="utf-8")
            self.ws = replace(self.ws)
        elif day in (130, 140):
            status = ("status: active", "status: paused")
            self.rewrite(files / "slipping.yaml", *(status if day == 130 else status[::-1]))
            (self.truth.paused.add if day == 130 else self.truth.paused.discard)("slipping")
        elif day == PROMOTED_ON:
            decided = decide_experiment(self.ws, "winback", now=self.now)
            assert (decided.verdict.verdict, decided.verdict.arm) == ("promote", "coupon"), decided.verdict
            self.refresh()
            assert self.ws.campaign("winback").campaign.experiment.control == 0.1
            self.done["promotions"] += 1

    def rewrite(self, path: Any, old: str, new: str) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text, (path, old)
        path.write_text(text.replace(old, new), encoding="utf-8")
        self.refresh()

    def refresh(self) -> None:
        """What another process would read anew."""
        self.ws = replace(self.ws)

    # ---- what customers do

    def live(self, day: datetime) -> None:
        """Orders, complaints and newcomers of a day; some reach the facts days later."""
        ids = list(self.shop.people)
        for _ in range(max(1, len(ids) // 300)):
            self.buy(self.rng.choice(ids), day + self.rng.random() * DAY)
        for _ in range(max(1, len(ids) // 4_000)):
            customer = self.rng.choice(ids)
            self.happen(customer, "complaint_opened", day + self.rng.random() * DAY)
            self.open_complaints.append((day + self.rng.uniform(2, 20) * DAY, customer))
        for ends, customer in [each for each in self.open_complaints if each[0] < day + DAY]:
            self.happen(customer, "complaint_resolved", ends)
            self.open_complaints.remove((ends, customer))
        if self.shop.newcomers and self.rng.random() < len(self.shop.newcomers) / 250:
            customer = self.shop.newcomers.pop()
            self.rows["customers"].append((day, dict(self.shop.customers.loc[customer])))
            self.buy(customer, day + HOUR)
        if self.rng.random() < 0.3:
            self.withdraw_in_facts(day)

    def buy(self, customer: str, at: datetime, code: str = "") -> None:
        """An order, which the shop's export brings the same night, or days later."""
        self.serial += 1
        late = 0 if self.rng.random() < 0.8 else self.rng.uniform(0, 9)
        row = {"order_id": f"Y{self.serial}", "customer_id": customer, "ordered_at": at, "amount": 30.0, "margin": 11.0}
        self.rows["orders"].append((at + late * DAY, {**row, "discount_code": code or None}))

    def happen(self, customer: str, event: str, at: datetime) -> None:
        self.serial += 1
        row = {"event_id": f"Y{self.serial}", "customer_id": customer, "occurred_at": at, "event": event}
        self.rows["events"].append((at, row))

    def withdraw_in_facts(self, day: datetime) -> None:
        """The shop's own consent flag is taken away; it holds from the load on."""
        customer = self.rng.choice(list(self.shop.people))
        if customer in self.shop.newcomers or self.shop.people[customer].erased:
            return
        self.shop.customers.loc[customer, f"consent_{self.rng.choice(CHANNELS)}"] = "false"
        self.rows["customers"].append((day, dict(self.shop.customers.loc[customer])))

    def load(self, now: datetime) -> None:
        """Load what has been exported by now, on most days."""
        if self.rng.random() < 0.4:
            return
        for name, waiting in self.rows.items():
            ready = [row for at, row in waiting if at <= now]
            gone = {c for c, person in self.shop.people.items() if person.erased}
            ready = [row for row in ready if row["customer_id"] not in gone or name == "customers"]
            if not ready:
                continue
            self.rows[name] = [each for each in waiting if each[0] > now]
            key = {"customers": "customer_id", "orders": "order_id", "events": "event_id"}[name]
            frame = pd.DataFrame(ready).drop_duplicates(key, keep="last")
            path = write_table(frame, self.shop.root / "in" / f"{name}-{self.serial}.csv")
            load_facts(self.ws, name, [path], renames={}, now=now)
            path.unlink()
            for row in ready if name == "customers" else ():
                said = {c: {"true": True, "false": False}.get(str(row[f"consent_{c}"]).lower()) for c in CHANNELS}
                self.shop.people[row["customer_id"]].consents = said
            self.done[f"rows of {name}"] += len(frame)

    def answer(self, sent: Sent) -> None:
        """Who got a coupon often buys; the others now and then."""
        if self.rng.random() < (0.3 if sent.arm == "coupon" else 0.02):
            code = "" if sent.code == "-" else sent.code
            self.buy(sent.customer, sent.at + self.rng.uniform(0.1, 5) * DAY, code)

    def receive(self, at: datetime) -> None:
        """Receipts in any order; yesterday's once more, which change nothing."""
        receipts = []
        for provider in self.outside.values():
            receipts += [receipt for due, receipt in provider.mail if due <= at]
            provider.mail = [each for each in provider.mail if each[0] > at]
        self.rng.shuffle(receipts)
        receive_receipts.receive_receipts(self.ws, receipts, now=at)
        for receipt in receipts:
            self.believe(receipt)
        again = [r for r in self.replay if self.rng.random() < 0.3]
        if again:
            keys = sorted({r.message_key for r in again if r.message_key})
            before = self.watch.states(keys)
            receive_receipts.receive_receipts(self.ws, again, now=at)
            assert self.watch.states(keys) == before
            self.done["receipts repeated"] += len(again)
        self.replay = receipts[:300]
        self.done["receipts"] += len(receipts)

    def believe(self, receipt: Any) -> None:
        """What a receipt means for what may be sent from now on."""
        sent = self.truth.by_id.get(receipt.provider_id)
        if sent is None:
            return
        if receipt.state == "failed" and sent.failed_at is None:
            self.truth.bounced[sent.key] = sent
        if self.shop.people[sent.customer].erased:
            return
        if receipt.suppress is not None and receipt.message_key is not None:
            self.truth.bar(sent.customer, (sent.channel, "all", "bounce"), addresses=True)
            self.done["bounces"] += 1

    # ---- what customers wish

    def stop(self, at: datetime) -> None:
        """STOP by SMS, which the provider delivers twice."""
        sent = self.somebody(lambda s: s.channel == "sms")
        if sent is None:
            return
        number = self.shop.people[sent.customer].addresses["sms"]
        self.serial += 1
        for _ in range(2):
            receive_receipts.receive_inbound(
                self.ws, Inbound(Address("sms", number), "stop", f"in{self.serial}"), now=at
            )
        self.truth.bar_address(number, ("sms", "all", "stop"))
        for customer in self.truth.having("sms", number):
            self.truth.bar(customer, ("sms", "all", "stop"))
        self.stopped.append(number)
        self.done["STOP"] += 1

    def start(self, at: datetime) -> None:
        """START: the number's owner has thought better of it."""
        if len(self.stopped) < 5:
            return
        number = self.stopped.pop(0)
        owners = self.truth.having("sms", number)
        if not owners or any(self.shop.people[c].erased for c in owners):
            return
        self.serial += 1
        receive_receipts.receive_inbound(self.ws, Inbound(Address("sms", number), "start", f"in{self.serial}"), now=at)
        self.truth.barred_addresses[number].discard(("sms", "all", "stop"))
        for customer in owners:
            self.truth.barred[customer].discard(("sms", "all", "stop"))
        self.done["START"] += 1

    def leave(self, at: datetime) -> None:
        """The link in an e-mail."""
        sent = self.somebody(lambda s: bool(s.token))
        link = None if sent is None else find_link(self.ws, sent.token)
        if sent is not None and link is not None:
            channel, topic = unsubscribe(self.ws, link, at=at)
            self.truth.bar(sent.customer, (channel, topic, "unsubscribe"))
            self.done["unsubscribed"] += 1

    def complain(self, at: datetime) -> None:
        """A call: somebody at the desk writes it down, for a channel, a topic, or all."""
        customer = self.anybody()
        channel, topic = self.rng.choice([*CHANNELS, "all"]), self.rng.choice(["offers", "news", "all", "all"])
        suppress_customer(self.ws, customer, channel=channel, reason="manual", by="desk", at=at, topic=topic)
        self.truth.bar(customer, (channel, topic, "manual"), addresses=True)
        self.done["suppressed"] += 1

    def withdraw(self, at: datetime) -> None:
        """A consent is withdrawn; or given, where the shop's own data say nothing."""
        customer, channel = self.anybody(), self.rng.choice(CHANNELS)
        given = self.shop.people[customer].consents[channel] is None
        record_consent(self.ws, Statement(customer, channel, given, at, "desk"), by="desk")
        if given:
            self.truth.granted[customer].add(channel)
            self.truth.barred[customer].discard((channel, "all", "withdrawn"))
        else:
            self.truth.granted[customer].discard(channel)
            self.truth.bar(customer, (channel, "all", "withdrawn"))
        self.done["consents"] += 1

    def erase(self, at: datetime) -> None:
        """The right to be forgotten; now and then the customer's row comes back with an import."""
        if self.rng.random() < 0.7:
            return
        sent = self.somebody(lambda _: True)
        if sent is None:
            return
        person = self.shop.people[sent.customer]
        try:
            erased = erase_customer(self.ws, sent.customer, by="desk", at=at)
        except LedgerError:
            self.done["erasure refused while sending"] += 1
            return
        person.erased = True
        for channel, address in person.addresses.items():
            self.truth.bar_address(address, (channel, "all", "erased"))
        self.watch.forget(sent.customer, erased.pseudonym)
        self.watch.check_forgotten(sent.customer)
        if self.rng.random() < 0.5:
            self.rows["customers"].append((at + 3 * DAY, dict(self.shop.customers.loc[sent.customer])))
        self.done["erased"] += 1

    def somebody(self, fits: Callable[[Sent], bool]) -> Sent | None:
        """The customer of some message that was taken, not erased."""
        keys = list(self.truth.sent)
        for _ in range(20 if keys else 0):
            sent = self.truth.sent[self.rng.choice(keys)]
            if fits(sent) and not self.shop.people[sent.customer].erased:
                return sent
        return None

    def anybody(self) -> str:
        return next(
            c for c in iter(lambda: self.rng.choice(list(self.shop.people)), None) if not self.shop.people[c].erased
        )

    # ---- what goes wrong

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Workers are killed anywhere; wishes and pauses come between any two commits; waves are cut short."""
        with ExitStack() as stack:
            check = checked_once(plan_campaign_step.refuse_broken_words)
            stack.enter_context(patch.object(plan_campaign_step, "refuse_broken_words", check))
            for name in CRASHING:
                real = getattr(deliver_messages, name)
                stack.enter_context(patch.object(deliver_messages, name, partial(self._fragile, name, real)))
            suppress = partial(self._noting_suppressions, deliver_messages.suppress_many)
            stack.enter_context(patch.object(deliver_messages, "suppress_many", suppress))
            for module in (deliver_messages, receive_receipts):
                guard = partial(self._noting_pauses, module.pause_harmful)
                stack.enter_context(patch.object(module, "pause_harmful", guard))
            batches = partial(apply_plan.wave_batches, rows=max(20, len(self.shop.people) // 100))
            stack.enter_context(patch.object(apply_plan, "wave_batches", batches))
            record = partial(self._cut_short, apply_plan.record_wave)
            stack.enter_context(patch.object(apply_plan, "record_wave", record))
            yield

    def _fragile(self, name: str, real: Callable[..., Any], *args: Any, **named: Any) -> Any:
        luck = self.rng.random()
        if luck < 0.004:
            raise Killed
        if name == "intend" and len(args[1]) and luck > 0.9:
            self._interrupt(args[1], args[4], luck)
        found = real(*args, **named)
        if luck > 0.996 or (name == "intend" and luck > 0.985):
            raise Killed
        return found

    def _interrupt(self, keys: list[str], now: datetime, luck: float) -> None:
        """Between claim and intent somebody opts out, or somebody pauses."""
        customer = keys[0].split("/")[1]
        if luck > 0.93:
            suppress_customer(self.ws, customer, channel="all", reason="manual", by="desk", at=now)
            self.truth.bar(customer, ("all", "all", "manual"), addresses=True)
            self.done["opted out between claim and intent"] += 1
        elif luck > 0.92:
            self.pause(now)

    def _noting_suppressions(self, real: Callable[..., int], ledger: Any, wishes: Any) -> int:
        n = real(ledger, wishes)
        for wish in wishes:
            self.truth.bar(wish.customer_id, (wish.channel, wish.topic, wish.reason))
        return n

    def _noting_pauses(self, real: Callable[..., dict[str, str]], ws: Workspace, *, now: datetime) -> dict[str, str]:
        found = real(ws, now=now)
        self.truth.paused.update(found)
        self.done["paused by itself"] += len(found)
        return found

    def _cut_short(self, real: Callable[..., Any], ledger: Any, wave: Any, batches: Any, **named: Any) -> Any:
        dies_after = self.rng.randrange(4) if self.rng.random() < 0.15 else None

        def until_killed() -> Iterator[Any]:
            for n, batch in enumerate(batches):
                if n == dies_after:
                    raise Killed
                yield batch

        return real(ledger, wave, until_killed(), **named)


def _no_sleep(_seconds: float) -> None:
    """Waiting costs no time in a replay."""


WISHES: Final[tuple[Callable[[Year, datetime], None], ...]] = (
    Year.stop, Year.stop, Year.start, Year.leave, Year.leave, Year.complain, Year.withdraw, Year.erase,
)  # fmt: skip
