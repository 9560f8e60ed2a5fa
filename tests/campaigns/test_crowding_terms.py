"""What a campaign file may say of caps, rest and households together, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from campaigns.checks import check_campaign
from campaigns.model import Campaign

PLAIN: dict[str, Any] = {
    "campaign": "back",
    "audience": {"segment": "orders >= 2"},
    "experiment": {"control": "50%", "horizon": "30 days", "primary": "repurchase", "minimum_effect": "1pp"},
    "arms": {"mail": {"weight": "50%", "steps": [{"channel": "email", "template": "hello"}]}},
}


def issues(**changes: Any) -> dict[str, str]:
    found = check_campaign(PLAIN | {key: PLAIN.get(key, {}) | value for key, value in changes.items()})
    return {".".join(map(str, issue.location)): issue.message for issue in found}


def test_a_rest_after_the_layer_needs_a_layer() -> None:
    assert "audience.cool_off" in issues(audience={"cool_off": "14 days"})
    assert issues(audience={"cool_off": "14 days", "exclusive": "offers"}) == {}


@pytest.mark.parametrize("more", [{"segments": ["tier"]}, {"bayesian": True}])
def test_households_have_no_reading_that_takes_customers_for_strangers(more: dict[str, Any]) -> None:
    key = next(iter(more))
    assert "strangers" in issues(experiment={"unit": "household", **more})[f"experiment.{key}"]
    assert f"experiment.{key}" not in issues(experiment=more)


def test_caps_may_be_several_at_once_by_channel_by_topic_and_by_calendar() -> None:
    caps = {"per_customer": {"sms": ["1 per day", "2 per 7 days"], "topic": "1 per week"}, "min_gap": "20 hours"}
    read = Campaign.model_validate(PLAIN | {"caps": caps, "priority": 10})
    assert [(cap.messages, cap.period) for cap in read.caps.per_customer["sms"]] == [(1, "day"), (2, None)]
    assert [(cap.messages, cap.period) for cap in read.caps.per_customer["topic"]] == [(1, "week")]
    assert read.priority == 10
