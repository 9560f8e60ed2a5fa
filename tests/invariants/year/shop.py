"""The shop of the simulated year: its customers, its book, its settings; all invented, all from one seed."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pandas as pd

from flows.demo.world import World, make_world, write_table
from flows.settings import read_settings
from flows.steps.import_codes import import_code_file
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.wiring import open_workspace

BOOK: Final = Path(__file__).parent / "book"
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
ROTATION: Final = datetime(2026, 8, 1, tzinfo=UTC)
"""When the global holdout is drawn anew."""
CHANNELS: Final = ("sms", "email", "push")
COLUMNS: Final = {"sms": "phone", "email": "email", "push": "push_token"}
PREFIXES: Final = {
    "Europe/London": "+4474", "Europe/Dublin": "+35383", "Europe/Berlin": "+49171", "Europe/Paris": "+3363",
    "America/New_York": "+1212", "America/Chicago": "+1312", "America/Denver": "+1303", "America/Los_Angeles": "+1213",
    "America/Toronto": "+1416", "America/Vancouver": "+1604", "America/Edmonton": "+1780",
    "Australia/Sydney": "+614", "Australia/Brisbane": "+614", "Australia/Perth": "+614",
}  # fmt: skip
SETTINGS: Final[dict[str, Any]] = {
    "secret": "a key for tests only, never used",
    "seed": "the year",
    "holdout": {"share": "5%", "rotate": [ROTATION.date()]},
    "caps": {
        "per_customer": {"all": "4 per 7 days", "sms": "1 per day"},
        "min_gap": {"all": "20 hours"},
        "topics": {"offers": "2 per week"},
    },
    # nobody knows where some live; the oracle has them in London, as the settings do
    "policy": {"quiet_hours": {"from": "23:00", "to": "07:30"}, "default_time_zone": "Europe/London"},
    "prices": {"sms": "0.02 EUR", "email": "0.01 EUR", "push": "0 EUR"},
    "approval": {"recipients": 600},
    "reputation": {"bounce_rate": "12%", "complaint_rate": "5%"},
    "content": {"languages": []},
}
_CODE: Final = "{{ offer.code | default('-') }}"
_END: Final = "<p><a href='{{ unsubscribe_url }}'>Unsubscribe</a> {{ company.name }}, {{ company.postal_address }}</p>"
WORDS: Final = {
    **{
        f"{channel}/{name}.{ending}": text
        for name, code in (("words", _CODE), ("plain", "-"))
        for channel, ending, text in (
            ("sms", "txt.j2", f"Northwind Coffee arm={{{{ campaign.arm }}}} code={code} Reply STOP to opt out"),
            ("push", "json.j2", f'{{"title": "arm={{{{ campaign.arm }}}}", "body": "code={code} "}}'),
            ("email", "subject.j2", "arm={{ campaign.arm }}"),
            ("email", "html.j2", f"<p>arm={{{{ campaign.arm }}}} code={code} </p>{_END}"),
        )
    },
}


@dataclass
class Person:
    """One customer as the world knows it: where it lives, its addresses, what it consents to."""

    zone: str
    country: str
    addresses: dict[str, str]
    consents: dict[str, bool | None]
    erased: bool = False


@dataclass
class Shop:
    """A workspace on disk with the truth about its customers, and the tables that were written into it."""

    root: Path
    people: dict[str, Person]
    customers: pd.DataFrame
    newcomers: list[str] = field(default_factory=list)
    """Customers who are not loaded yet: they join during the year."""


def build_shop(root: Path, *, customers: int, seed: int) -> Shop:
    """Make the workspace as of the first day of the year; nobody has been written to yet."""
    make_workspace(root)
    shutil.rmtree(root / "campaigns" / "book")
    shutil.copytree(BOOK, root / "campaigns" / "book")
    for name, text in WORDS.items():
        (root / "templates" / name).write_text(text, encoding="utf-8")
    world = make_world(customers=customers, seed=seed, as_of=START)
    people, frame = populate(world, random.Random(seed))
    late = set(frame["customer_id"].iloc[:: max(20, customers // 500)])
    newcomers = sorted(late)
    (root / "in").mkdir()
    load_history(root, world, frame, late, pool=customers)
    return Shop(root, people, frame.set_index("customer_id", drop=False), newcomers)


def populate(world: World, rng: random.Random) -> tuple[dict[str, Person], pd.DataFrame]:
    """The customers with addresses of their own (a few share one), and a zone that their number does not contradict."""
    frame = world.customers.copy()
    zones = {"GB": "Europe/London", "IE": "Europe/Dublin", "DE": "Europe/Berlin", "FR": "Europe/Paris"}
    many = {"US": "America/Chicago", "CA": "America/Toronto", "AU": "Australia/Perth"}
    people: dict[str, Person] = {}
    phones: list[str | None] = []
    emails: list[str | None] = []
    for n, row in enumerate(frame.to_dict("records")):
        country = row["country"] if isinstance(row["country"], str) else ""
        zone = row["time_zone"] if isinstance(row["time_zone"], str) else {**zones, **many}.get(country, zones["GB"])
        prefix = PREFIXES[zone]
        phone = prefix + str(n).zfill(11 - len(prefix.removeprefix("+1")) if prefix[1] != "1" else 7)
        has = {channel: isinstance(row[column], str) for channel, column in COLUMNS.items()}
        email = f"c{n}@example.com"
        if n and rng.random() < 0.01 and emails[-1] is not None and has["email"]:
            email = emails[-1]  # a couple with one mailbox
        phones.append(phone if has["sms"] else None)
        emails.append(email if has["email"] else None)
        addresses = {"sms": phones[-1], "email": emails[-1], "push": row["push_token"] if has["push"] else None}
        consents = {c: {"true": True, "false": False}.get(str(row[f"consent_{c}"]).lower()) for c in CHANNELS}
        people[row["customer_id"]] = Person(zone, country, {k: v for k, v in addresses.items() if v}, consents)
    return people, frame.assign(phone=phones, email=emails)


def load_history(root: Path, world: World, frame: pd.DataFrame, late: set[str], *, pool: int) -> None:
    """Load what had happened before the year began, without those who join later, and the codes of the pool."""
    tables = {"customers": frame, "orders": world.orders, "events": world.events}
    with open_workspace(read_settings(root, overrides=SETTINGS)) as ws:
        for name, table in tables.items():
            path = write_table(table[~table["customer_id"].isin(late)], root / "in" / f"{name}.csv")
            load_facts(ws, name, [path], renames={}, now=START)
        codes = root / "in" / "codes.csv"
        codes.write_text("".join(f"CP{n:07d}\n" for n in range(pool)), encoding="utf-8")
        import_code_file(ws, "coupons", codes, expires_on=None, now=START, actor="ann")
