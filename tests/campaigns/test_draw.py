"""The draw of units: households together, and a holdback that stays where it is from epoch to epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from campaigns.draw import draw, units_of, withheld_arms
from experiments.assign import draw_arms

N = 20_000
IDS = np.array([f"c{n:06d}" for n in range(N)], dtype=object)
TEST = [("mail", 0.5), ("text", 0.3), ("control", 0.2)]


def drawn(weights, *, salt="s2", before=None, units=IDS):  # type: ignore[no-untyped-def]
    return draw(units, IDS, salt=salt, weights=weights, before=before or {}, holdback_salt="held")


def before_of(arms, share):  # type: ignore[no-untyped-def]
    return {customer: (arm == "control", share) for customer, arm in zip(IDS, arms, strict=True)}


def test_without_an_earlier_epoch_the_draw_is_the_plain_hash() -> None:
    found = drawn(TEST)
    assert found.arms.tolist() == draw_arms(IDS.tolist(), salt="s2", weights=TEST)
    assert not found.returning.any()


def test_a_holdback_is_a_part_of_the_control_that_won_nothing_and_stays_from_epoch_to_epoch() -> None:
    first = drawn(TEST, salt="s1").arms
    promoted = [("mail", 0.9), ("text", 0.0), ("control", 0.1)]
    second = drawn(promoted, before=before_of(first, 0.2))
    held = set(IDS[second.arms == "control"])
    assert held < set(IDS[first == "control"])  # nobody who was written to before is said to be untouched
    assert len(held) / N == pytest.approx(0.1, abs=0.01)
    third = drawn(promoted, salt="s3", before=before_of(second.arms, 0.1))
    assert set(IDS[third.arms == "control"]) == held
    assert third.returning.all()


def test_a_new_test_keeps_the_holdback_in_its_larger_control_and_draws_the_rest_anew() -> None:
    second = drawn([("mail", 0.9), ("control", 0.1)], salt="s2").arms
    third = drawn([("mail", 0.35), ("text", 0.35), ("control", 0.3)], salt="s3", before=before_of(second, 0.1))
    held = second == "control"
    assert (third.arms[held] == "control").all()
    shares = {arm: n / N for arm, n in Counter(third.arms).items()}
    assert shares == pytest.approx({"mail": 0.35, "text": 0.35, "control": 0.3}, abs=0.012)


def test_customers_of_one_household_share_an_arm_and_those_without_one_are_alone() -> None:
    frame = pd.DataFrame({"customer_id": IDS[:6], "household_id": ["h1", "h1", None, "", "c000002", "h1"]})
    units = units_of(frame, "household")
    assert units.tolist() == ["h:h1", "h:h1", "c:c000002", "c:c000003", "h:c000002", "h:h1"]
    assert (
        len({draw(units, IDS[:6], salt="x", weights=TEST, before={}, holdback_salt="").arms[i] for i in (0, 1, 5)}) == 1
    )
    assert units_of(frame, "customer").tolist() == IDS[:6].tolist()


def test_a_household_with_one_member_in_the_holdback_stays_in_it_as_a_whole() -> None:
    units = np.array([f"h:{n // 2}" for n in range(N)], dtype=object)
    before = {IDS[0]: (False, 0.1), IDS[1]: (True, 0.1)}
    found = draw(units, IDS, salt="s", weights=[("mail", 0.9), ("control", 0.1)], before=before, holdback_salt="held")
    assert found.arms[:2].tolist() == ["control", "control"]
    assert found.returning.tolist() == [True, True] + [False] * (N - 2)


def test_what_control_would_be_sent_is_drawn_by_the_arms_shares() -> None:
    arms = Counter(withheld_arms(IDS, salt="s", weights=TEST))
    assert arms["mail"] / N == pytest.approx(0.625, abs=0.012)
    assert set(arms) == {"mail", "text"}
