"""Best hours: learned from opens, clicks and habits, local, with the crowd's hour for others and a share that explores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pandas as pd

from campaigns.best_hours import column_of, hours_at, learn_hours, local_hours, same_clocks
from campaigns.send_times import ANY_HOUR, StepTiming
from campaigns.timing import Window
from campaigns.whereabouts import Whereabouts, Zones

AS_OF = datetime(2026, 7, 1, tzinfo=UTC)
STEP = StepTiming(
    timedelta(0), Window(frozenset(range(7)), time(9), time(20)), "next_window", timedelta(days=2), at="best_hour"
)
NOTHING = np.nan


def deeds(*rows: tuple[str, str, int, int]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["customer_id", "kind", "hour", "n"])


def learned(habit: float, *rows: tuple[str, str, int, int]) -> float:
    return float(learn_hours(["a"], np.array([habit]), deeds(*rows))[0])


def test_clicks_weigh_more_than_opens_and_both_more_than_one_habit() -> None:
    assert learned(8.0) == 8
    assert learned(8.0, ("a", "open", 12, 2)) == 12
    assert learned(8.0, ("a", "open", 12, 2), ("a", "click", 18, 1)) == 18
    assert learned(8.0, ("a", "open", 12, 4), ("a", "click", 18, 1)) == 12


def test_neighbouring_hours_count_together_over_midnight_too() -> None:
    assert learned(NOTHING, ("a", "open", 9, 2), ("a", "open", 10, 2), ("a", "open", 11, 2), ("a", "open", 20, 3)) == 10
    assert learned(NOTHING, ("a", "open", 23, 2), ("a", "open", 0, 2), ("a", "open", 1, 2), ("a", "open", 12, 3)) == 0


def test_of_a_customer_without_any_deed_nothing_is_known_and_strangers_change_nothing() -> None:
    found = learn_hours(["a", "b"], np.array([NOTHING, 7.0]), deeds(("stranger", "click", 3, 9)))
    assert np.isnan(found[0])
    assert found[1] == 7


def hours_of(hours: list[float], *, explore: float = 0.0) -> np.ndarray:
    n = len(hours)
    frame = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], column_of("email"): hours})
    channel = np.full(n, "email", dtype=object)
    step = replace(STEP, explore=explore)
    return hours_at([step], [channel], frame, salt="salt")[0]


def living_in(*names: str) -> Zones:
    return Zones(tuple(Whereabouts((name,)) for name in names), np.arange(len(names), dtype=np.intp), {})


def test_the_hour_is_the_customer_s_local_one() -> None:
    zones = living_in("America/New_York", "Asia/Tokyo", "Asia/Kathmandu")
    rows = np.arange(3, dtype=np.intp)
    assert local_hours(np.array([14.0, 22.0, 8.0]), rows, zones, at=AS_OF).tolist() == [10, 7, 14]
    assert np.isnan(local_hours(np.array([NOTHING]), rows[:1], zones, at=AS_OF)).all()


def test_time_is_split_where_somebody_s_clock_changes() -> None:
    split = list(same_clocks(living_in("Europe/London", "Asia/Tokyo"), AS_OF - timedelta(days=365), AS_OF))
    assert [until.date().isoformat() for _, until in split] == ["2025-10-27", "2026-03-30", "2026-07-01"]
    assert [since for since, _ in split][1:] == [until for _, until in split][:-1]
    assert len(list(same_clocks(living_in("Asia/Tokyo"), AS_OF - timedelta(days=365), AS_OF))) == 1


def test_who_is_not_known_gets_the_crowd_s_hour_once_there_is_a_crowd() -> None:
    assert hours_of([18.0] * 19 + [NOTHING])[-1] == ANY_HOUR
    assert hours_of([18.0] * 15 + [9.0] * 5 + [NOTHING])[-1] == 18


def test_an_exploring_share_gets_any_hour_by_hash_whatever_is_known_of_it() -> None:
    found = hours_of([18.0] * 4_000, explore=0.1)
    share = (found == ANY_HOUR).mean()
    assert 0.08 < share < 0.12  # binomial: four standard deviations are 0.019
    assert (found == hours_of([18.0] * 4_000, explore=0.1)).all()
    assert not (hours_of([18.0] * 400) == ANY_HOUR).any()


def test_a_step_on_another_channel_has_the_hour_of_its_own_channel() -> None:
    frame = pd.DataFrame({"customer_id": ["c"], column_of("email"): [9.0], column_of("sms"): [17.0]})
    channels = [np.array([name], dtype=object) for name in ("email", "sms", "email")]
    steps = [STEP, STEP, replace(STEP, at=None)]
    found = hours_at(steps, channels, frame, salt="salt")
    assert [int(hours[0]) for hours in found] == [9, 17, ANY_HOUR]
