"""A small shop whose customers and orders are written out by rule, and a workspace to run campaigns in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.settings import read_settings
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.wiring import Workspace, open_workspace

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

CAMPAIGN = """\
campaign: back
status: active
schedule: {cron: "0 9 * * 1", timezone: UTC}
audience:
  segment: recency_days >= 60 and orders >= 2
experiment:
  control: 20%
  horizon: 30 days
  primary: repurchase
  metrics: [revenue, margin, orders, retained]
  guardrails: {unsubscribed: {max_increase: 2pp}}
  minimum_effect: 10pp
arms:
  mail:
    weight: 40%
    offer: ten
    steps:
      - {channel: email, template: hello}
      - {channel: sms, template: hello, after: 3 days, unless: purchased}
  text:
    weight: 40%
    steps:
      - {channel: sms, template: hello}
timing: {window: {from: "09:00", to: "19:00"}}
feedback: {mode: apply, holdback: 10%}
"""

OFFERS = """\
ten:
  kind: percent_off
  percent: 10%
  text: {en: 10% off}
  code: {kind: generated, prefix: T}
  valid_for: 14 days
  cost: {redeemed: 10%, value: 3 EUR}
"""

Shop = Callable[..., Workspace]


def write_book(root: Path, campaign: str = CAMPAIGN) -> Path:
    """The workspace's one campaign, with its offer and its words."""
    path = root / "campaigns" / "book" / "back.yaml"
    path.write_text(campaign, encoding="utf-8")
    return path


def write_history(root: Path, *, customers: int, bought: dict[int, list[tuple[datetime, float]]] | None = None) -> None:
    """Customers C0000.. with two orders each, the last 70 days before MONDAY; `bought` adds orders by number."""
    people, orders = ["customer_id,created_at,email,phone,consent_email,consent_sms,time_zone,first_name"], []
    for n in range(customers):
        people.append(f"C{n:04d},2024-01-01,c{n}@example.com,+4420794600{n % 100:02d},yes,yes,Europe/London,Ann{n}")
        for days in (200, 70):
            orders.append((f"O{n:04d}-{days}", n, MONDAY - timedelta(days=days), 20.0 + n % 7))
        for number, (at, amount) in enumerate((bought or {}).get(n, [])):
            orders.append((f"N{n:04d}-{number}", n, at, amount))
    lines = ["order_id,customer_id,ordered_at,amount,margin"]
    lines += [f"{key},C{n:04d},{at.isoformat()},{amount:.2f},{amount / 2:.2f}" for key, n, at, amount in orders]
    (root / "customers.csv").write_text("\n".join(people) + "\n", encoding="utf-8")
    (root / "orders.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_words(root: Path) -> None:
    """Short templates for both channels."""
    templates = root / "templates"
    for channel, name, text in (
        ("sms", "hello.txt.j2", "Hello {{ customer.first_name }}. Reply STOP to opt out"),
        ("email", "hello.subject.j2", "Hello {{ customer.first_name }}"),
        (
            "email",
            "hello.html.j2",
            "<p>{{ offer.text }}: {{ offer.code }}</p><p><a href='{{ unsubscribe_url }}'>Unsubscribe</a>"
            " {{ company.name }}, {{ company.postal_address }}</p>",
        ),
    ):
        (templates / channel / name).write_text(text, encoding="utf-8")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Makes an opened workspace: shop(customers=40, campaign=YAML, bought={...}, name="a", **settings)."""
    with ExitStack() as stack:

        def make(
            *,
            customers: int = 60,
            campaign: str = CAMPAIGN,
            bought: dict[int, list[tuple[datetime, float]]] | None = None,
            name: str = "shop",
            **overrides: Any,
        ) -> Workspace:
            root = tmp_path / name
            make_workspace(root)
            shutil.rmtree(root / "campaigns" / "book")
            (root / "campaigns" / "book").mkdir()
            (root / "campaigns" / "book" / "offers.yaml").write_text(OFFERS, encoding="utf-8")
            write_book(root, campaign)
            write_words(root)
            write_history(root, customers=customers, bought=bought)
            settings = read_settings(root, overrides={"secret": "a key for tests only, never used", **overrides})
            ws = stack.enter_context(open_workspace(settings))
            for table in ("customers", "orders"):
                load_facts(ws, table, [root / f"{table}.csv"], renames={}, now=MONDAY)
            return ws

        yield make


@pytest.fixture
def monday() -> datetime:
    """The Monday on which the campaign runs."""
    return MONDAY


@pytest.fixture
def rewrite() -> Callable[[Workspace, str, str], Path]:
    """Exchanges a text in the workspace's campaign file."""

    def exchange(ws: Workspace, old: str, new: str) -> Path:
        path = ws.root / "campaigns" / "book" / "back.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        ws.__dict__.pop("book", None)
        return path

    return exchange
