"""The feature catalogue says everything a marketer must know."""

from __future__ import annotations

import pytest

from campaigns.features import FEATURES, Feature, closed_values, known_kinds

DESIGNED = """
recency_days orders orders_365d spend spend_365d average_order tenure_days typical_gap_days overdue_ratio
rfm_r rfm_f rfm_m value_tier p_alive expected_orders_90d clv_365d churn_risk open_complaint days_since_complaint last_nps
last_csat loyalty_index days_to_birthday best_hour
"""


def test_every_feature_that_was_designed_is_listed() -> None:
    assert set(DESIGNED.split()) <= set(FEATURES)


@pytest.mark.parametrize("feature", FEATURES.values(), ids=list(FEATURES))
def test_a_feature_has_a_one_sentence_definition_a_kind_a_unit_and_its_needs(feature: Feature) -> None:
    assert feature.definition.endswith(".")
    assert feature.unit or feature.kind == "boolean"
    assert feature.needs
    assert not (feature.values and feature.kind != "text")


def test_attributes_join_the_catalogue_but_never_replace_it() -> None:
    kinds = known_kinds({"points": "number", "orders": "text"})
    assert kinds["points"] == "number"
    assert kinds["orders"] == "number"


def test_closed_lists_hold_the_tiers() -> None:
    assert closed_values()["value_tier"] == ("gold", "silver", "member")
