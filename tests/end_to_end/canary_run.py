"""One whole run of a shop in a process of its own, whose every address, name and secret is unmistakable.

`python -m tests.end_to_end.canary_run FOLDER`: what the run writes lies below FOLDER; its output is what a terminal, or a
journal, would get. Logs are kept at DEBUG, errors are provoked with their tracebacks. Used by test_canaries.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

CUSTOMERS: Final = 60
NOW: Final = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
RIPE: Final = NOW + timedelta(days=40)
PUBLIC: Final = "https://n.shop.example"
PHONES: Final = [f"+4478605{n:05d}" for n in range(CUSTOMERS)]
EMAILS: Final = [f"qxz{n}zebulon@canary-mail.example" for n in range(CUSTOMERS)]
TOKENS: Final = [f"canarytoken-{n}-Wq7Lm2Zp9Xk4" for n in range(CUSTOMERS)]
NAMES: Final = [f"Zebulonia{n}qx" for n in range(CUSTOMERS)]
SECRETS: Final = {
    "RETAIN_SECRET": "canarysecret-of-links-Hq83Zt",
    "TWILIO_AUTH_TOKEN": "canarysecret-of-twilio-Bv51Ks",
    "TWILIO_WEBHOOK_KEY": "canarysecret-of-webhooks-Mn20Pd",
    "SENDGRID_API_KEY": "SG.canarysecret-of-sendgrid-Yx96Ra",
    "SMTP_PASSWORD": "canarysecret-of-smtp-Cu47Wf",
}
SID: Final = "AC" + "0" * 32
CAMPAIGN: Final = """\
campaign: NAME
status: active
audience: {segment: orders >= 2}
experiment: {control: 20%, horizon: 30 days, primary: repurchase, metrics: [revenue], minimum_effect: 10pp}
arms:
  text: {weight: 30%, steps: [{channel: sms, template: hello}]}
  mail: {weight: 30%, steps: [{channel: email, template: hello}]}
  note: {weight: 20%, steps: [{channel: push, template: hello}]}
timing: {window: {from: "09:00", to: "19:00"}}
caps: {per_customer: 9 per 7 days, min_gap: 1 hours}
feedback: {mode: propose, holdback: 10%}
"""
CONFIG: Final = """\
public_url = "{public}"
[company]
name = "Northwind Coffee"
postal_address = "1 High Street, London"
website = "https://northwind.example"
[content]
short_links = true
[providers]
sms = "twilio"
email = "sendgrid"
push = "simulated"
simulator_url = "{base}"
[providers.twilio]
account_sid = "{sid}"
sender = "+15005550006"
base_url = "{base}"
[providers.sendgrid]
sender = "news@northwind.example"
base_url = "{base}"
webhook_public_key = "{public_key}"
"""
TEMPLATES: Final = {
    "sms/hello.txt.j2": "Northwind Coffee: Hello {{ customer.first_name }}, "
    "https://northwind.example/a/long/way/to/come/back?code=1234567890. Reply STOP to end",
    "email/hello.subject.j2": "Hello {{ customer.first_name }}",
    "email/hello.html.j2": "<p>Hello {{ customer.first_name }}</p><p><a href='{{ unsubscribe_url }}'>Unsubscribe</a> "
    "{{ company.name }}, {{ company.postal_address }}</p>",
    "push/hello.json.j2": '{"title": "Hello", "body": "Dear {{ customer.first_name }}"}',
}


def canaries() -> list[str]:
    """Everything that must be nowhere, in the spellings it could have."""
    addresses = [*EMAILS, *(email.replace("@", "%40") for email in EMAILS), "canary-mail.example"]
    phones = [phone[1:] for phone in PHONES]  # with + or %2B before it, or without
    return [*addresses, *phones, *TOKENS, "canarytoken-", *NAMES, "Zebulonia", *SECRETS.values(), "canarysecret-"]


def main(folder: Path) -> None:
    """Do it all below `folder`."""
    logging.basicConfig(filename=folder / "debug.log", level=logging.DEBUG, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the tests' own client, which is who calls, not we
    os.environ.update(SECRETS)
    from channels.simulators.faults import FaultPlan
    from channels.simulators.server import Simulator, running

    simulator = Simulator(clock=lambda: NOW)
    simulator.twilio.auth_token = SECRETS["TWILIO_AUTH_TOKEN"]
    simulator.sendgrid.api_key = SECRETS["SENDGRID_API_KEY"]
    faults = ("too_many", "error_500", "error_503_accepted", "closed_accepted", "html_accepted", "reset_before")
    simulator.plan = FaultPlan(7, dict.fromkeys(faults, 0.05), {3: "error_503_accepted"})
    simulator.twilio.stopped.add(PHONES[5])
    with running(simulator) as base:
        root, files = make_shop(folder, base, simulator)
        on_the_command_line(root, files, folder)
        receive(root, simulator)
        provoke(root, folder)
        with prefect(folder):
            as_flows(root, folder)
        look(root, folder)


def make_shop(folder: Path, base: str, simulator: Any) -> tuple[Path, dict[str, Path]]:
    """A workspace with two campaigns; its customers' files lie beside it, where nobody looks for canaries."""
    from flows.steps.make_workspace import make_workspace

    root, source = folder / "shop", folder / "import"
    make_workspace(root)
    shutil.rmtree(root / "campaigns" / "book")
    (root / "campaigns" / "book").mkdir()
    for name in ("back", "again"):
        (root / "campaigns" / "book" / f"{name}.yaml").write_text(CAMPAIGN.replace("NAME", name), encoding="utf-8")
    for path, text in TEMPLATES.items():
        (root / "templates" / path).write_text(text, encoding="utf-8")
    key = simulator.sendgrid.public_key()
    config = CONFIG.format(public=PUBLIC, base=base, sid=SID, public_key=key)
    (root / "retain.toml").write_text(config, encoding="utf-8")
    source.mkdir()
    people = [
        "customer_id,created_at,email,phone,push_token,consent_email,consent_sms,consent_push,time_zone,first_name"
    ]
    orders = ["order_id,customer_id,ordered_at,amount"]
    for n in range(CUSTOMERS):
        people.append(f"C{n},2024-01-01,{EMAILS[n]},{PHONES[n]},{TOKENS[n]},yes,yes,yes,Europe/London,{NAMES[n]}")
        orders += [f"O{n}-{days},C{n},{(NOW - timedelta(days=days)).isoformat()},20" for days in (200, 70)]
        orders += [f"N{n},C{n},{(NOW + timedelta(days=9)).isoformat()},20"] if n % 3 else []
    broken = f"CX,not a day,{EMAILS[0]},{PHONES[0]},{TOKENS[0]},perhaps,yes,yes,Nowhere/At_all,{NAMES[0]}"
    files = {"customers": [*people, broken], "orders": orders}
    for name, lines in files.items():
        (source / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root, {name: source / f"{name}.csv" for name in files}


def on_the_command_line(root: Path, files: dict[str, Path], folder: Path) -> None:
    """The verbs of a campaign's life, as an operator would type them."""
    from retain.cli import run

    where = ["--workspace", str(root), "--now", NOW.isoformat()]
    for table, path in files.items():
        expect(run(["load", table, str(path), *where]), 0)
    expect(run(["validate", "--workspace", str(root)]), 0)
    expect(run(["plan", "back", *where, "--out", str(folder / "plan")]), 2)
    expect(run(["apply", str(next((folder / "plan").rglob("plan.json"))), *where]), 0)
    for minutes in (0, 6, 12):
        later = (NOW + timedelta(minutes=minutes)).isoformat()
        expect(run(["deliver", "--workspace", str(root), "--now", later]), 0)
    run(["load", "customers", str(folder / "import" / "nothing.csv"), *where])
    run(["undo", "back", "--workspace", str(root)])


def receive(root: Path, simulator: Any) -> None:
    """Receipts, answers, clicks and unsubscriptions reach the public pages; forged and broken ones too."""
    from starlette.testclient import TestClient

    from channels.simulators.receipts import inbound_sms, sendgrid_receipts, twilio_receipts
    from flows.settings import read_settings
    from web.app import create_app
    from web.receiving import WithReceiving

    settings = read_settings(root)
    app = WithReceiving(create_app(settings), settings, clock=lambda: NOW + timedelta(minutes=2))
    accepted = list(simulator.book.accepted)
    mails = [taken for taken in accepted if taken.provider == "sendgrid"]
    token = SECRETS["TWILIO_AUTH_TOKEN"]
    told = [one for taken in accepted if taken.provider == "twilio" for one in twilio_receipts(taken, token)]
    url = f"{PUBLIC}/receipts/sendgrid/events"
    kinds = ("delivered", "open", "spamreport", "bounce")
    told += sendgrid_receipts(mails, url=url, key=simulator.sendgrid.signing_key, events=kinds)
    inbound = f"{PUBLIC}/receipts/twilio/inbound"
    for n, text in enumerate(("STOP", "hello, it is Zebulonia1qx", "HELP", "START")):
        told.append(inbound_sms(url=inbound, auth_token=token, sender=PHONES[n], to="+15005550006", text=text))
    told.append(inbound_sms(url=inbound, auth_token="wrong", sender=PHONES[9], to="+15005550006", text="STOP"))
    with TestClient(app, base_url=PUBLIC, raise_server_exceptions=False, follow_redirects=False) as client:
        for receipt in told:
            client.post(receipt.url.removeprefix(PUBLIC), content=receipt.body, headers=dict(receipt.headers))
        for mail in mails[:3]:
            link = mail.details["headers"]["List-Unsubscribe"].strip("<>").removeprefix(PUBLIC)
            client.get(link)
            client.post(link, data={"List-Unsubscribe": "One-Click"})
        texts = [taken.body for taken in accepted if taken.provider == "twilio"]
        for text in texts[:3]:
            client.get("/l/" + text.partition("/l/")[2][:20])
        client.post(
            "/receipts/twilio/status", content=urlencode({"From": PHONES[0]}), headers={"X-Twilio-Signature": "x"}
        )
        client.get(f"/u/{EMAILS[0]}")
        client.get("/receipts/openapi.json")


def provoke(root: Path, folder: Path) -> None:
    """Errors at every seam that sees addresses, each with the traceback that a journal would get."""
    from channels.message import Address, Outgoing, Sms
    from channels.provider import SendResult
    from flows.settings import SettingsError, read_settings
    from flows.steps.deliver_messages import deliver_messages
    from flows.steps.receive_receipts import receive_inbound
    from flows.steps.run_campaign import run_campaign
    from flows.wiring import open_workspace

    class Broken:
        name, channel, capability = "twilio", "sms", "N"

        async def send(self, batch: Any, *, now: datetime) -> list[SendResult]:
            raise RuntimeError(f"{len(batch)} messages and a bad day: {batch[0]!r} {batch[0].address!s}")

        async def close(self) -> None:
            return None

    config = (root / "retain.toml").read_text(encoding="utf-8")

    def with_a_secret_in_the_file() -> None:
        (root / "retain.toml").write_text(f'{config}auth_token = "{SECRETS["TWILIO_AUTH_TOKEN"]}"\n', encoding="utf-8")
        try:
            read_settings(root)
        finally:
            (root / "retain.toml").write_text(config, encoding="utf-8")

    def with_a_provider_that_breaks_down() -> None:
        with open_workspace(read_settings(root)) as ws:
            run_campaign(ws, "again", as_of=NOW + timedelta(hours=3))
            ws.providers._made["sms"] = Broken()  # type: ignore[attr-defined]
            deliver_messages(ws, now=NOW + timedelta(hours=3), worker="broken")

    def with_facts_that_are_gone() -> None:
        from channels.receipts import Inbound

        hidden = root / "data" / "customers.away"
        with open_workspace(read_settings(root)) as ws:
            (root / "data" / "customers").rename(hidden)
            try:
                receive_inbound(ws, Inbound(Address("sms", PHONES[7]), "stop", "twilio:SM1:inbound"), now=NOW)
            finally:
                hidden.rename(root / "data" / "customers")

    def with_a_message_that_is_wrong() -> None:
        from channels.providers.sms_twilio import TwilioAccount, TwilioProvider

        account = TwilioAccount(SID, SECRETS["TWILIO_AUTH_TOKEN"], sender="+15005550006", base_url="http://127.0.0.1:9")
        message = Outgoing("back:1/C8/1", "sms", "C8", Address("sms", PHONES[8]), Sms(f"Hello {NAMES[8]}"))
        raise RuntimeError(f"{asyncio.run(TwilioProvider(account).send([message], now=NOW))} {account} {message}")

    provoked: list[Callable[[], None]] = [
        with_a_secret_in_the_file,
        with_a_provider_that_breaks_down,
        with_facts_that_are_gone,
        with_a_message_that_is_wrong,
    ]
    failed = 0
    for fail in provoked:
        try:
            fail()
        except (SettingsError, Exception) as error:
            failed += 1
            with (folder / "tracebacks.txt").open("a", encoding="utf-8") as out:
                out.write("".join(traceback.TracebackException.from_exception(error, capture_locals=False).format()))
            logging.getLogger("retain").error("provoked", exc_info=error)
    expect(failed >= 3, True)


@contextmanager
def prefect(folder: Path) -> Iterator[None]:
    """A Prefect server with its database below the folder; its files are copied before it is taken down."""
    os.environ.update(DO_NOT_TRACK="1", PREFECT_SERVER_ANALYTICS_ENABLED="false", PREFECT_HOME=str(folder / "prefect"))
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield
        APILogWorker.instance().drain()
        url = get_current_settings().server.database.connection_url
        assert url is not None
        database = Path(url.get_secret_value().removeprefix("sqlite+aiosqlite:///"))
        shutil.copytree(database.parent, folder / "prefect-database", dirs_exist_ok=True)


def as_flows(root: Path, folder: Path) -> None:
    """The same life as flows; one of them fails."""
    from flows.decide_experiments import decide_experiments
    from flows.deliver_messages import deliver_messages
    from flows.load_files import load_files
    from flows.measure_experiments import measure_experiments
    from flows.run_due_campaigns import run_due_campaigns

    where = {"workspace": str(root)}
    load_files("customers", [str(folder / "import" / "customers.csv")], now=NOW, **where)
    broken = folder / "import" / "broken.csv"
    broken.write_text(f"customer_id,created_at,email\nC1,2026-01-01,{EMAILS[1]},one field too many\n", encoding="utf-8")
    try:
        load_files("customers", [str(broken)], now=NOW, **where)
    except Exception:  # noqa: BLE001 (Prefect has logged it; that is what is looked at)
        logging.getLogger("retain").debug("a flow failed, as it should")
    run_due_campaigns(now=NOW + timedelta(hours=4), **where)
    deliver_messages(now=NOW + timedelta(hours=5), **where)
    measure_experiments(now=RIPE, **where)
    decide_experiments(now=RIPE, **where)


def look(root: Path, folder: Path) -> None:
    """What people read afterwards: status, stories, results, a report."""
    from retain.cli import run

    where, ripe = ["--workspace", str(root)], ["--now", RIPE.isoformat()]
    expect(run(["status", *where, "--json"]), 0)
    run(["status", *where])
    for n in range(8):
        run(["explain", "back", f"C{n}", *where])
        run(["explain", "back", f"C{n}", *where, "--json"])
    expect(run(["measure", "back", *where, *ripe, "--json"]), 0)
    run(["decide", "back", *where, *ripe])
    expect(run(["report", "back", *where, *ripe, "--out", str(folder / "report.html")]), 0)
    run(["undo", "back", *where])
    run(["doctor", *where, "--json"])
    print(json.dumps({"done": True}))  # noqa: T201 (the mark that nothing was left out)


def expect(found: object, wanted: object) -> None:
    """Stop where a step did not do what the run is about: a run that does nothing leaks nothing."""
    if found != wanted:
        raise SystemExit(f"the run went wrong: expected {wanted!r}, got {found!r}\n{''.join(traceback.format_stack())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
