"""A small shop whose customers and orders are written out by rule, and a workspace to run campaigns in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.settings import read_settings
from flows.steps.deliver_messages import deliver_messages
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace, open_workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.waves import waves

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
    people, orders = ["customer_id,created_at,email,phone,consent_email,consent_sms,time_zone,first_name,club"], []
    for n in range(customers):
        club = ("gold", "plain")[n % 2]
        people.append(f"C{n:04d},2024-01-01,c{n}@example.com,+44207946{n:04d},yes,yes,Europe/London,Ann{n},{club}")
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


def build_shop(
    stack: ExitStack,
    root: Path,
    *,
    customers: int = 60,
    campaign: str = CAMPAIGN,
    bought: dict[int, list[tuple[datetime, float]]] | None = None,
    **overrides: Any,
) -> Workspace:
    """A workspace at `root` with everything loaded, open as long as `stack`."""
    make_workspace(root)
    shutil.rmtree(root / "campaigns" / "book")
    (root / "campaigns" / "book").mkdir()
    (root / "campaigns" / "book" / "offers.yaml").write_text(OFFERS, encoding="utf-8")
    write_book(root, campaign)
    write_words(root)
    write_history(root, customers=customers, bought=bought)
    ws = open_shop(stack, root, **overrides)
    for table in ("customers", "orders"):
        load_facts(ws, table, [root / f"{table}.csv"], renames={}, now=MONDAY)
    return ws


def build_guarded_shop(root: Path, *approvers: str) -> Path:
    """A workspace at `root` whose launches above ten recipients need one of these persons."""
    with ExitStack() as stack:
        build_shop(stack, root)
    config = root / "retain.toml"
    names = ", ".join(f'"{name}"' for name in approvers)
    limits = f"\n[approval]\nrecipients = 10\napprovers = [{names}]\n"
    config.write_text(config.read_text(encoding="utf-8") + limits, encoding="utf-8")
    return root


def open_shop(stack: ExitStack, root: Path, **overrides: Any) -> Workspace:
    """The workspace at `root`, open as long as `stack`."""
    settings = read_settings(root, overrides={"secret": "a key for tests only, never used", **overrides})
    return stack.enter_context(open_workspace(settings))


class Time:
    """A clock that only sleeping moves."""

    def __init__(self, start: datetime) -> None:
        """It shows `start`."""
        self.start, self.now = start, start

    def __call__(self) -> datetime:
        """The instant it shows."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    @property
    def gone_s(self) -> float:
        """The seconds slept."""
        return (self.now - self.start).total_seconds()


def send_round(ws: Workspace, at: datetime) -> None:
    """Run the campaign and send its messages, the reminder of the third day included."""
    run_campaign(ws, "back", as_of=at)
    deliver_messages(ws, now=at, worker="test")
    deliver_messages(ws, now=at + timedelta(days=3), worker="test")


def read_arms(ws: Workspace, experiment: str = "back:1", number: int = 0) -> dict[str, list[str]]:
    """The customers of each arm in one wave, the first unless `number` says another."""
    with ws.ledger.read() as tx:
        frame = assignments_frame(tx, waves(tx, experiment)[number].wave_id)
    return {str(arm): group["customer_id"].tolist() for arm, group in frame.groupby("arm")}


def buy(ws: Workspace, arms: Mapping[str, list[str]], buys: Mapping[str, float], *, at: datetime) -> None:
    """Let the first so many of each arm buy a week after `at`."""
    bought_at = (at + timedelta(days=7)).isoformat()
    lines = ["order_id,customer_id,ordered_at,amount,margin"]
    for arm, members in arms.items():
        for customer in members[: round(buys.get(arm, 0.0) * len(members))]:
            lines.append(f"N{at:%m%d}{customer},{customer},{bought_at},30.00,12.00")
    path = ws.root / f"new-{at:%m%d}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_facts(ws, "orders", [path], renames={}, now=at + timedelta(days=8))


BUYS = {"mail": 0.45, "text": 0.08, "control": 0.08}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Makes an opened workspace: shop(customers=40, campaign=YAML, bought={...}, name="a", **settings)."""
    with ExitStack() as stack:

        def make(*, name: str = "shop", **options: Any) -> Workspace:
            return build_shop(stack, tmp_path / name, **options)

        yield make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the directory of a closed workspace to copy, made once: prepared(customers, campaign[, buys])."""
    made: dict[tuple[object, ...], Path] = {}

    def find(customers: int, campaign: str, buys: Mapping[str, float] | None = None) -> Path:
        key = (customers, campaign, None if buys is None else tuple(sorted(buys.items())))
        if key not in made:
            root = tmp_path_factory.mktemp("prepared") / "shop"
            with ExitStack() as stack:
                if buys is None:
                    send_round(build_shop(stack, root, customers=customers, campaign=campaign), MONDAY)
                else:
                    copy_workspace(find(customers, campaign), root)
                    ws = open_shop(stack, root)
                    buy(ws, read_arms(ws), buys, at=MONDAY)
            made[key] = root
        return made[key]

    return find


def copy_workspace(source: Path, target: Path) -> None:
    """Copy a workspace without the messages that it wrote out."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("outbox"))


@pytest.fixture
def round_of(prepared: Callable[..., Path], tmp_path: Path) -> Iterator[Shop]:
    """A shop whose campaign has been sent and answered: round_of(customers=2400, campaign=YAML, buys={...}).

    2,400 customers, so that every gate can be passed. `buys`: arm -> share that buys a week later.
    """
    with ExitStack() as stack:

        def make(
            *,
            customers: int = 2400,
            campaign: str = CAMPAIGN,
            buys: Mapping[str, float] | None = None,
            name: str = "round",
            **overrides: Any,
        ) -> Workspace:
            copy_workspace(prepared(customers, campaign, BUYS if buys is None else buys), tmp_path / name)
            return open_shop(stack, tmp_path / name, **overrides)

        yield make


@pytest.fixture
def arms_of() -> Callable[..., dict[str, list[str]]]:
    """Reads the customers of each arm in one wave: arms_of(ws, "back:1", number=0)."""
    return read_arms


@pytest.fixture
def answer() -> Callable[..., None]:
    """Lets shares of the arms buy a week after an instant: answer(ws, arms, {"mail": 0.5}, at=monday)."""
    return buy


@pytest.fixture
def go_round() -> Callable[..., dict[str, list[str]]]:
    """Runs, sends, lets shares of the arms buy a week later, and gives the wave's arms: go_round(ws, at, buys)."""

    def go(
        ws: Workspace, at: datetime, buys: Mapping[str, float] = BUYS, *, experiment: str = "back:1", number: int = 0
    ) -> dict[str, list[str]]:
        send_round(ws, at)
        arms = read_arms(ws, experiment, number)
        buy(ws, arms, buys, at=at)
        return arms

    return go


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
        ws.__dict__.pop("usable_book", None)
        return path

    return exchange
