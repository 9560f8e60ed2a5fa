"""Whether a campaign's file and the settings of the workspace agree: one currency, and hours in which a message may go.

A budget in dollars beside prices in euros would be counted as if they were one, and a window within the quiet hours
would leave everybody out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from campaigns.offers import promises_of
from campaigns.problems import Problem, show_path
from campaigns.timing import next_slot
from campaigns.yaml_source import read_yaml

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from campaigns.problems import Location
    from flows.wiring import Workspace

_SOME_MONDAY: Final = datetime(2026, 3, 2, tzinfo=UTC)  # in UTC, whose clocks never change, any week is like any other


def check_agreement(ws: Workspace, file: CampaignFile) -> list[Problem]:
    """Every place of the file that contradicts retain.toml."""
    found = [*_check_currencies(ws, file), *_check_hours(ws, file)]
    return [_problem(ws, file, location, message) for location, message in found]


def _check_currencies(ws: Workspace, file: CampaignFile) -> Iterator[tuple[Location, str]]:
    """Budgets and offers in another currency than the prices of messages; where these are all 0 nothing is said."""
    prices, campaign = ws.settings.prices, file.campaign
    priced = [price for price in (prices.sms, prices.email, prices.push) if price.amount > 0]
    if not priced:
        return
    ours = priced[0].currency
    advice = f'and prices in retain.toml are in {ours}: write both in one currency, such as "10 {ours}"'
    for key, limit in (("cost", campaign.budget.cost), ("discounts", campaign.budget.discounts)):
        if limit is not None and limit.currency != ours:
            yield ("budget", key), f"is in {limit.currency}, {advice}"
    for name, arm in campaign.arms.items():
        costs = [(promise.name, promise.terms.cost) for promise in promises_of(file.offers.get(arm.offer or ""))]
        for offer, cost in costs:
            if cost is not None and cost.value.currency != ours:
                yield ("arms", name, "offer"), f"the cost of offer {offer} is in {cost.value.currency}, {advice}"


def _check_hours(ws: Workspace, file: CampaignFile) -> Iterator[tuple[Location, str]]:
    """Windows that the quiet hours leave nothing of."""
    quiet, campaign = ws.settings.policy.quiet_window, file.campaign
    if quiet is None:
        return
    told = set()
    for name, arm in campaign.arms.items():
        for i, step in enumerate(arm.steps):
            window = campaign.timing_of(name, step).window.window
            if next_slot(window, ("UTC",), at=_SOME_MONDAY, quiet=quiet) is not None:
                continue
            location: Location = ("timing", "window")
            if step.timing is not None and "window" in step.timing.model_fields_set:
                location = ("arms", name, "steps", i, "timing", "window")
            elif arm.timing is not None and "window" in arm.timing.model_fields_set:
                location = ("arms", name, "timing", "window")
            if location not in told:
                hours = f"{quiet.opens:%H:%M} to {quiet.closes:%H:%M}"
                yield location, f"lies within the quiet hours of retain.toml ({hours}): no message could ever leave"
            told.add(location)


def _problem(ws: Workspace, file: CampaignFile, location: Location, message: str) -> Problem:
    place = read_yaml(file.path).place_of(location)
    shown = file.path.relative_to(ws.root).as_posix() if file.path.is_relative_to(ws.root) else file.path.name
    return Problem(shown, place.line, place.column, show_path(location), message, "error")
