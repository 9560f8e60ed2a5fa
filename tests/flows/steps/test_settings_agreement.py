"""What a campaign file must not say beside these settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from campaigns.problems import BookErrors
from flows.steps.plan_campaign import plan_campaign
from flows.steps.validate_book import validate_book
from flows.wiring import Workspace

Rewrite = Callable[[Workspace, str, str], Path]
PRICES = {"sms": "0.05 EUR", "email": "0.001 EUR"}


def messages(ws: Workspace) -> list[str]:
    return [str(problem) for problem in validate_book(ws, "back").problems if problem.severity == "error"]


def test_a_budget_in_another_currency_than_the_prices_is_refused_and_not_counted(
    shop: Callable[..., Workspace], rewrite: Rewrite, monday: datetime
) -> None:
    ws = shop(customers=6, prices=PRICES)
    assert messages(ws) == []
    rewrite(ws, "experiment:", "budget: {cost: 10 USD, discounts: 10 USD}\nexperiment:")
    told = messages(ws)
    assert any("budget.cost: is in USD, and prices in retain.toml are in EUR" in line for line in told)
    assert any("budget.discounts: is in USD" in line for line in told)
    with pytest.raises(BookErrors, match=r"back\.yaml:.*budget\.cost"):
        plan_campaign(ws, "back", as_of=monday)


def test_an_offer_whose_cost_is_in_another_currency_than_the_prices_is_refused(
    shop: Callable[..., Workspace], rewrite: Rewrite
) -> None:
    ws = shop(customers=6, prices={"sms": "0.05 USD", "email": "0.001 USD"})
    assert any("the cost of offer" in line and "is in EUR, and prices" in line for line in messages(ws))
    free = shop(customers=6, name="free", prices={"sms": "0 USD", "email": "0 USD", "push": "0 USD"})
    assert messages(free) == []


def test_a_window_within_the_quiet_hours_is_refused_before_anybody_is_left_out(
    shop: Callable[..., Workspace], rewrite: Rewrite
) -> None:
    ws = shop(customers=6, policy={"quiet_hours": {"from": "21:00", "to": "08:00"}})
    campaign = (ws.root / "campaigns" / "book" / "back.yaml").read_text(encoding="utf-8")
    assert "\ntiming:" in campaign
    timing = campaign[campaign.index("\ntiming:") :].split("\n", 2)[1]
    rewrite(ws, timing, 'timing: {window: {from: "22:00", to: "06:00"}}')
    assert any("timing.window: lies within the quiet hours of retain.toml (21:00 to 08:00)" in m for m in messages(ws))
    rewrite(ws, 'to: "06:00"', 'to: "09:00"')
    assert messages(ws) == []
