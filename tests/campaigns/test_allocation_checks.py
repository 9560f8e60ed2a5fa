"""What a campaign whose shares follow its outcomes cannot have beside it is named where it stands."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from campaigns.checks import check_campaign

PLAIN: dict[str, Any] = {
    "experiment": {"control": "20%", "allocation": "thompson", "primary": "repurchase", "minimum_effect": "1pp"},
    "arms": {"a": {"weight": "40%"}, "b": {"weight": "40%"}},
}


def found(**changes: object) -> dict[str, str]:
    """The issues of the campaign with these keys of its experiment."""
    raw = copy.deepcopy(PLAIN)
    raw["experiment"] |= changes
    return {".".join(map(str, issue.location)): issue.message for issue in check_campaign(raw)}


def test_a_campaign_with_learnt_shares_may_be_sound() -> None:
    assert found() == {}
    assert found(looks=1, unit="customer", segments=[]) == {}


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        (
            {"primary": "revenue", "minimum_effect": "1 EUR"},
            "experiment.allocation",
            "the shares follow successes of a share: revenue is a mean; use repurchase, retained",
        ),
        (
            {"looks": 4},
            "experiment.looks",
            "thompson never promotes, so there is nothing to look early for: use 1, or allocation: fixed",
        ),
        (
            {"segments": ["value_tier"]},
            "experiment.segments",
            "with thompson a segment's customers differ in when they were drawn: leave it out, or use fixed",
        ),
        (
            {"unit": "household"},
            "experiment.unit",
            "thompson counts customers, one by one: use customer, or allocation: fixed",
        ),
        (
            {"expected_lift": "2pp"},
            "experiment.allocation",
            "a promoted arm is measured against a holdback of fixed size: use fixed",
        ),
    ],
)
def test_what_does_not_go_with_learnt_shares_is_named(changes: dict[str, Any], place: str, message: str) -> None:
    assert found(**changes) == {place: message}
    assert found(**{**changes, "allocation": "fixed"}) == {}


def test_no_share_lies_below_the_floor_and_arms_without_one_do_not_count() -> None:
    raw = copy.deepcopy(PLAIN)
    raw["experiment"]["control"] = "5%"
    raw["arms"] = {"a": {"weight": "95%"}, "b": {"weight": "0%"}}
    (issue,) = check_campaign(raw)
    assert issue.location == ("experiment", "control")
    assert issue.message == "is below 10.0%, which thompson leaves everybody so that all can be compared"
