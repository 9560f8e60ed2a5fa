"""A shop whose messages travel over HTTP to the simulators, whose receipts come back signed, all on one virtual clock.

The simulator is the oracle: what it accepted is what customers got. Real clients speak HTTP to it; text, promise, code
and last day are asserted on what it took, and each message key is accepted once.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from channels.simulators.receipts import Receipt, inbound_sms, loopback_address, twilio_receipts
from channels.simulators.record import Accepted
from channels.simulators.sendgrid import event_of, sign_events
from channels.simulators.server import Simulator
from channels.simulators.twilio import sign_callback
from flows.settings import read_settings
from flows.steps.deliver_messages import Delivered, deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.steps.run_campaign import due_campaigns, run_campaign
from flows.steps.show_status import show_status
from flows.wiring import Workspace, open_workspace
from tests.together import serving
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.history import customer_history
from warehouse.ledger.waves import waves
from web.app import create_app
from web.receiving import WithReceiving

MONDAY: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PUBLIC: Final = "https://n.shop.example"
PAGE: Final = "https://northwind.example/winback?utm_source=sms&utm_campaign=back-in-spring"
UNSUBSCRIBE: Final = (
    "<p><a href='{{ unsubscribe_url }}'>Unsubscribe</a> {{ company.name }}, {{ company.postal_address }}</p>"
)
PEOPLE: Final = (
    "customer_id,created_at,email,phone,push_token,consent_sms,consent_email,consent_push,time_zone,country,locale,"
    "first_name,birthday"
)
ORDERS: Final = "order_id,customer_id,ordered_at,amount,margin,discount_code"
COST: Final = "cost: {redeemed: 10%, value: 4 EUR}"
A_MUG: Final = f"kind: gift, item: a mug, code: {{kind: generated, prefix: GEN}}, {COST}"
HELLO: Final = {
    "sms/hello.txt.j2": "{{ company.name }}: {{ campaign.name }}, {{ customer.first_name }}. Reply STOP to opt out",
    "email/hello.subject.j2": "{{ campaign.name }}",
    "email/hello.html.j2": f"<p>{{{{ campaign.name }}}}, {{{{ customer.first_name }}}}</p>{UNSUBSCRIBE}",
    "push/hello.json.j2": '{"title": "{{ campaign.name }}", "body": "{{ customer.first_name }}"}',
}


class Time:
    """The clock of everything: shop, provider and receiving app."""

    def __init__(self) -> None:
        self.now = MONDAY

    def __call__(self) -> datetime:
        """The instant it shows."""
        return self.now


@dataclass(frozen=True)
class Story:
    """What a shop is made of: its campaign, offer and segment files, its templates."""

    book: Mapping[str, str]
    templates: Mapping[str, str]
    content: Mapping[str, Any]


class World:
    """One shop, its providers and its receiving app; `number` keeps its customers' addresses apart from others'."""

    def __init__(self, stack: ExitStack, root: Path, story: Story, provider: tuple[Simulator, str, Time]) -> None:
        """The shop is made and the receiving app is up; nothing is loaded."""
        self.simulator, base, self.time = provider
        self.time.now = MONDAY
        self.root = root
        make_workspace(root)
        shutil.rmtree(root / "campaigns" / "book")
        for name, text in {f"campaigns/book/{name}": text for name, text in story.book.items()}.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        for name, text in story.templates.items():
            (root / "templates" / name).write_text(text, encoding="utf-8")
        settings = read_settings(root, overrides=self._settings(base, story.content))
        self.ws: Workspace = stack.enter_context(open_workspace(settings))
        self._receiver = stack.enter_context(serving(WithReceiving(create_app(settings), settings, clock=self.time)))
        self._files = self._events = 0

    # --- the shop's days ----------------------------------------------------------------------------------------------

    def go_to(self, at: datetime) -> None:
        """Let time pass."""
        assert at >= self.time.now
        self.time.now = at

    def load(self, table: str, header: str, lines: Iterable[str]) -> None:
        """Load rows of facts, all of them accepted."""
        self._files += 1
        path = self.root / f"{table}-{self._files}.csv"
        rows = list(lines)
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        assert load_facts(self.ws, table, [path], renames={}, now=self.time.now).quarantined == 0
        self.ws.facts.refresh()

    def happen(self, event: str, customers: Iterable[str], at: datetime | None = None) -> None:
        """Load one event of each customer, now unless `at` says when."""
        at = at or self.time.now
        lines = [f"{event}-{c}-{at:%m%d%H%M},{c},{at.isoformat()},{event}" for c in customers]
        self.load("events", "event_id,customer_id,occurred_at,event", lines)

    def buy(self, bought: Mapping[str, str | None], *, amount: float = 30.0) -> None:
        """Load an order of each customer, with a discount code where there is one; half of it is margin."""
        at = self.time.now.isoformat()
        lines = [f"B{c}{self._files},{c},{at},{amount:.2f},{amount / 2:.2f},{code or ''}" for c, code in bought.items()]
        self.load("orders", ORDERS, lines)

    def run(self, *campaigns: str) -> None:
        """Plan and apply campaigns as of now."""
        for name in campaigns:
            run_campaign(self.ws, name, as_of=self.time.now)

    def run_due(self) -> list[str]:
        """Run what the schedules say is due, as a scheduled run does; a run that was made is not made again."""
        due = due_campaigns(self.ws, now=self.time.now)
        for each in due:
            run_campaign(self.ws, each.campaign, as_of=each.as_of)
        return [each.campaign for each in due]

    def deliver(self) -> Delivered:
        """One delivery run."""
        return deliver_messages(self.ws, now=self.time.now, worker="test")

    # --- what the provider took ---------------------------------------------------------------------------------------

    def accepted(self, campaign: str, step: str | None = None) -> dict[str, Accepted]:
        """Message key -> what was accepted under it, once each; of one step ("2", "1.2", "1/sms") or of all."""
        found: dict[str, Accepted] = {}
        for taken in self.simulator.book.accepted:
            if not taken.key.startswith(f"{campaign}:"):
                continue
            assert taken.key not in found, f"{taken.key} was accepted twice"
            if step is None or taken.key.split("/", 2)[2] == step:
                found[taken.key] = taken
        return found

    def reached(self, campaign: str, step: str | None = None) -> dict[str, list[Accepted]]:
        """Customer -> what he or she got, in order."""
        found: dict[str, list[Accepted]] = defaultdict(list)
        for key, taken in self.accepted(campaign, step).items():
            found[key.split("/")[1]].append(taken)
        return dict(found)

    def read(self, taken: Accepted) -> str:
        """The words of a message as its recipient reads them: of an e-mail the subject and the HTML."""
        if taken.provider != "sendgrid":
            return taken.body
        for request in self.simulator.requests:
            if request.path != "/v3/mail/send" or taken.key.encode() not in request.body:
                continue
            document = request.json()
            html = next(part["value"] for part in document["content"] if part["type"] == "text/html")
            for person in document["personalizations"]:
                if person["custom_args"]["message_key"] == taken.key:
                    for tag, value in person.get("substitutions", {}).items():
                        html = html.replace(tag, value)
                    return f"{taken.body} {html}"
        raise AssertionError(f"no request held {taken.key}")

    # --- what comes back ----------------------------------------------------------------------------------------------

    def report_sms(self, taken: Iterable[Accepted], status: str, code: str = "") -> None:
        """Send Twilio's signed callbacks of these messages."""
        for message in taken:
            (receipt,) = twilio_receipts(message, self.simulator.twilio.auth_token, (status,))
            body, headers = receipt.body, receipt.headers
            if code:
                fields = dict(parse_qsl(body.decode())) | {"ErrorCode": code}
                signature = sign_callback(self.simulator.twilio.auth_token, receipt.url, fields)
                body, headers = urlencode(fields).encode(), {**headers, "X-Twilio-Signature": signature}
            assert self._post(Receipt(receipt.url, headers, body)) == 204

    def report_mail(self, taken: Iterable[Accepted], event: str, **extra: Any) -> None:
        """Send SendGrid's signed events of these e-mails, as of now."""
        stamp = int(self.time.now.timestamp())
        self._events += 1
        told = [event_of(t, event, number=self._events, extra={"timestamp": stamp, **extra}) for t in taken]
        body = json.dumps(told).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Signature": sign_events(
                self.simulator.sendgrid.signing_key, str(stamp), body
            ),
            "X-Twilio-Email-Event-Webhook-Timestamp": str(stamp),
        }
        assert self._post(Receipt(f"{PUBLIC}/receipts/sendgrid/events", headers, body)) == 200

    def answer(self, phones: Iterable[str], text: str) -> None:
        """Let customers send an SMS."""
        url, token = f"{PUBLIC}/receipts/twilio/inbound", self.simulator.twilio.auth_token
        for number in phones:
            assert (
                self._post(inbound_sms(url=url, auth_token=token, sender=number, to="+15005550006", text=text)) == 200
            )

    def open_link(self, url: str) -> str:
        """Follow a short link; gives where it leads."""
        address = urlsplit(loopback_address(url, {PUBLIC: self._receiver}))
        connection = HTTPConnection(address.netloc, timeout=30)
        connection.request("GET", address.path)
        answer = connection.getresponse()
        connection.close()
        assert answer.status == 302
        return str(answer.headers["Location"])

    # --- what the ledger says -----------------------------------------------------------------------------------------

    def arms(self, campaign: str) -> dict[str, list[str]]:
        """The customers of each arm, over all runs."""
        found: dict[str, list[str]] = defaultdict(list)
        with self.ws.ledger.read() as tx:
            for wave in waves(tx, f"{campaign}:1"):
                for arm, group in assignments_frame(tx, wave.wave_id).groupby("arm"):
                    found[str(arm)] += sorted(group["customer_id"])
        return dict(found)

    def fates(self, customer: str, campaign: str) -> list[tuple[str, str, str]]:
        """Key (without experiment and customer), state and reason of a customer's messages."""
        with self.ws.ledger.read() as tx:
            rows = customer_history(tx, customer, campaign=campaign).messages
        prefix = f"{campaign}:1/{customer}/"
        return [(str(r["message_key"]).removeprefix(prefix), str(r["state"]), r["reason"] or "") for r in rows]

    def code(self, customer: str, campaign: str) -> str | None:
        """The one code a customer has, None without; fails where messages differ."""
        with self.ws.ledger.read() as tx:
            (code,) = {row["code"] for row in customer_history(tx, customer, campaign=campaign).messages}
        return None if code is None else str(code)

    def explain(self, campaign: str, customer: str) -> dict[str, Any]:
        """What `retain explain` says."""
        return explain_customer(self.ws, campaign, customer, now=self.time.now)

    def status(self, campaign: str) -> dict[str, Any]:
        """What `retain status` says; planned is the sum of all fates, and what was sent is what the provider took."""
        (shown,) = show_status(self.ws, campaign)
        total = shown["total"]
        assert total["planned"] == sum(n for fate, n in total.items() if fate != "planned")
        return shown

    def _post(self, receipt: Receipt) -> int:
        address = loopback_address(receipt.url, {PUBLIC: self._receiver})
        request = urllib.request.Request(address, data=receipt.body, headers=dict(receipt.headers))
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)

    def _settings(self, base: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "secret": "a key for tests only, never used",
            "public_url": PUBLIC,
            "company": {"website": "https://northwind.example"},
            "content": dict(content),
            # trials bounce far more often than a list that anybody keeps
            "reputation": {"bounce_rate": "100%", "complaint_rate": "100%"},
            "providers": {
                **dict.fromkeys(("sms", "email", "push"), "simulated"),
                "simulator_url": base,
                "sendgrid": {"webhook_public_key": self.simulator.sendgrid.public_key()},
            },
        }


MakeWorld = Callable[[str, Story], World]


def campaign(name: str, audience: str, arms: str, *, control: str = "10%", more: str = "", timing: str = "") -> str:
    """A campaign file; `arms` are lines of its own."""
    return (
        f"campaign: {name}\nstatus: active\n{more}audience: {{{audience}}}\n"
        f"experiment: {{control: {control}, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}}\n"
        f'arms:\n{arms}timing: {{window: {{from: "09:00", to: "19:00"}}{timing}}}\n'
    )


def bought_before(customers: list[str]) -> list[str]:
    """Lines of one old order each."""
    return [f"O{c},{c},2025-12-20T12:00:00+00:00,20.00,10.00," for c in customers]


def people(prefix: str, n: int, **columns: Sequence[str]) -> list[str]:
    """Lines of customers in London, PREFIX000 on; `columns`: name -> values that take turns, in place of the usual."""
    lines = []
    for number in range(n):
        name = f"{prefix}{number:03d}"
        row = {
            "customer_id": name, "created_at": "2024-01-01", "email": f"{name.lower()}@mail.example",
            "phone": phone(name), "push_token": f"app-{name}", "consent_sms": "yes", "consent_email": "yes",
            "consent_push": "yes", "time_zone": "Europe/London", "country": "GB", "locale": "en-GB",
            "first_name": f"Ann{number}", "birthday": "",
        } | {column: values[number % len(values)] for column, values in columns.items()}  # fmt: skip
        lines.append(",".join(row[column] for column in PEOPLE.split(",")))
    return lines


def phone(customer: str) -> str:
    """The number of a customer."""
    return f"+4474{ord(customer[0]):02d}{int(customer[1:]):06d}"
