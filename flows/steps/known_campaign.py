"""Refuses the name of a campaign that nobody knows; one whose file is gone or broken is known still."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from campaigns.problems import BookErrors
from warehouse.ledger.experiments import experiments
from warehouse.ledger.launches import launches
from warehouse.ledger.switches import switches

if TYPE_CHECKING:
    from flows.wiring import Workspace


def require_campaign(ws: Workspace, name: str) -> None:
    """Raise CampaignError, with what was perhaps meant, where neither the ledger nor the book knows the campaign."""
    with ws.ledger.read() as tx:
        paused = (switch.scope.partition("/")[0] for switch in switches(tx))
        known = experiments(tx, name) or launches(tx, name) or name in paused
    if not known:
        with suppress(BookErrors):  # there is a file, whatever is wrong with it
            ws.campaign(name)
