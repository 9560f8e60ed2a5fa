"""Turns settings into engines, renderers and providers (the composition root)."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from campaigns.book import Book, CampaignFile, load_book, load_campaign, load_usable
from campaigns.problems import Problem
from campaigns.timing import use_wheel_tzdata
from channels.addresses import MacKey
from channels.provider import Provider
from channels.render import Renderer
from flows.provider_wiring import make_providers as make_providers
from flows.settings import Settings, SettingsError
from warehouse.facts.features import FeatureOptions
from warehouse.facts.store import Facts, FactsMapping, TableMapping, open_facts
from warehouse.ledger.engine import Ledger, migrate, open_ledger


@dataclass(frozen=True)
class Workspace:
    """A workspace opened for work: where it lies, what it knows (facts), what it promised (ledger), how it speaks."""

    settings: Settings
    facts: Facts
    ledger: Ledger
    renderer: Renderer
    providers: Mapping[str, Provider]

    @property
    def root(self) -> Path:
        """The workspace's directory."""
        return self.settings.root

    @property
    def feature_options(self) -> FeatureOptions:
        """The thresholds of features that have them."""
        return FeatureOptions(**self.settings.value_tiers.model_dump())

    @cached_property
    def book(self) -> Book:
        """The marketers' files, read once and checked. Raises BookErrors with every problem of every file."""
        return load_book(self.root, attributes=self.facts.attributes())

    @cached_property
    def usable_book(self) -> tuple[Book, tuple[Problem, ...]]:
        """The campaigns without problems, and the problems of the others: for work that must go on by itself."""
        return load_usable(self.root, attributes=self.facts.attributes())

    def campaign(self, name: str) -> CampaignFile:
        """One campaign's file with its offers and segment; mistakes in other campaigns' files do not matter."""
        return load_campaign(self.root, name, attributes=self.facts.attributes())

    @cached_property
    def secret(self) -> str:
        """The key of generated codes and tokens: RETAIN_SECRET, else the workspace's own key file."""
        given = self.settings.secret.get_secret_value()
        return given or read_key_file(self.root)

    @cached_property
    def link_keys(self) -> tuple[str, ...]:
        """The keys that unsubscribe links may be signed with: the present one first, then those of former times."""
        old = [key.get_secret_value() for key in self.settings.old_secrets]
        path = key_file(self.root)
        if path.is_file():
            old.append(path.read_text(encoding="ascii").strip())
        return tuple(dict.fromkeys([self.secret, *old]))

    @cached_property
    def mac_keys(self) -> tuple[MacKey, ...]:
        """The keys under which addresses are known again that must not be written to, the present one first."""
        return tuple(MacKey(key) for key in self.link_keys)

    def close(self) -> None:
        """Give back every connection."""
        self.facts.close()
        self.ledger.close()


@contextmanager
def open_workspace(settings: Settings) -> Iterator[Workspace]:
    """Open the workspace of `settings`; the ledger is brought to the newest schema first."""
    use_wheel_tzdata()
    facts = open_facts(
        settings.facts_url,
        data_dir=settings.data_dir,
        mapping=_mapping(settings),
        memory_limit=settings.facts_memory_limit,
    )
    ledger = open_ledger(settings.ledger_address)
    workspace = Workspace(settings, facts, ledger, Renderer([settings.root / "templates"]), make_providers(settings))
    try:
        migrate(ledger)
        yield workspace
    finally:
        workspace.close()


def worker_name() -> str:
    """A name no other dispatching process has at the same time."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"


def key_file(root: Path) -> Path:
    """Where the workspace's own key lies."""
    return root / ".retain" / "key"


def write_key_file(root: Path) -> Path:
    """Make the workspace's own key, readable by its owner only; an existing key is kept."""
    path = key_file(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32), encoding="ascii")
    return path


def read_key_file(root: Path) -> str:
    """The workspace's own key. Raises SettingsError where there is none."""
    path = key_file(root)
    if not path.is_file():
        raise SettingsError(
            f"{path}: no key for codes and unsubscribe links; set RETAIN_SECRET or run `retain init {root}` to make one"
        )
    return path.read_text(encoding="ascii").strip()


def _mapping(settings: Settings) -> FactsMapping:
    named = {"customers": settings.facts.customers, "orders": settings.facts.orders, "events": settings.facts.events}
    return FactsMapping({name: TableMapping(entry.table, entry.columns) for name, entry in named.items()})
