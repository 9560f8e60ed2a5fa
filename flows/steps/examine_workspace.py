"""Checks that everything a workspace needs is there and agrees: what `retain doctor` tells."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.timing import tzdata_version
from flows.settings import SettingsError
from flows.steps.make_workspace import TREE
from flows.steps.validate_book import validate_book
from warehouse.ledger.results import verify_decisions

if TYPE_CHECKING:
    from flows.wiring import Workspace

ROOMS: Final = ("retain", "web", "flows", "warehouse", "campaigns", "experiments", "channels")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    check: str
    ok: bool
    finding: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def examine_workspace(ws: Workspace) -> list[Finding]:
    """Every check, in the order in which a person would mend things."""
    return [_rooms(), _zones(), _facts(ws), _ledger(ws), _book(ws), _key(ws)]


def _rooms() -> Finding:
    """Every room must come from one tree: another package of the same name would shadow it."""
    astray = [name for name in ROOMS if _home(name) != TREE]
    text = f"{', '.join(astray)} imported from elsewhere" if astray else f"all rooms come from {TREE}"
    return Finding("rooms", not astray, text)


def _home(room: str) -> Path:
    return Path(str(importlib.import_module(room).__file__)).resolve().parents[1]


def _zones() -> Finding:
    return Finding("time zones", True, f"rules of the tzdata wheel, version {tzdata_version()}")


def _facts(ws: Workspace) -> Finding:
    tables = ws.facts.tables
    missing = [name for name in ("customers", "orders") if not len(ws.facts.frame(_one_row(tables, name)))]
    text = f"no {' and no '.join(missing)} yet; next: retain load {missing[0]} FILE" if missing else "loaded"
    return Finding("facts", not missing, f"{ws.settings.facts_url.split('@')[-1]}: {text}")


def _one_row(tables: Any, name: str) -> Any:
    return getattr(tables, name).select().limit(1)


def _ledger(ws: Workspace) -> Finding:
    with ws.ledger.read() as tx:
        count = verify_decisions(tx)
    return Finding("ledger", True, f"{ws.ledger.where}: chain of {count} decisions is whole")


def _book(ws: Workspace) -> Finding:
    checked = validate_book(ws, None)
    text = f"{len(checked.campaigns)} campaigns, {checked.n_errors} errors, {checked.n_warnings} warnings"
    return Finding("book", checked.n_errors == 0, text + ("; see retain validate" if checked.problems else ""))


def _key(ws: Workspace) -> Finding:
    try:
        return Finding("key", bool(ws.secret), "there is a key for codes and unsubscribe links")
    except SettingsError as error:
        return Finding("key", False, str(error))
