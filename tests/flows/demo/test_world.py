"""The demonstration's shop: reproducible, believable, unreachable, and its truth is what it says."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.demo.dirt import BAD_LINES
from flows.demo.purchases import HISTORY_DAYS, Buyers, ShopTime, go_on, make_history
from flows.demo.world import World, make_world, numbered, to_second

AS_OF = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(customers=6000, seed=7, as_of=AS_OF)


def test_the_same_arguments_give_the_same_files_byte_for_byte(tmp_path: Path) -> None:
    first = make_world(customers=300, seed=5, as_of=AS_OF).write(tmp_path / "a")
    second = make_world(customers=300, seed=5, as_of=AS_OF.astimezone(timezone(timedelta(hours=9)))).write(
        tmp_path / "b"
    )
    other = make_world(customers=300, seed=6, as_of=AS_OF).write(tmp_path / "c")
    assert list(first) == ["customers", "orders", "events"]
    for table in first:
        assert first[table].read_bytes() == second[table].read_bytes()
        assert first[table].read_bytes() != other[table].read_bytes()


@pytest.mark.parametrize("customers", [1, 2, 17])
def test_even_the_smallest_shop_can_be_made_and_written(customers: int, tmp_path: Path) -> None:
    small = make_world(customers=customers, seed=1, as_of=AS_OF)
    assert len(small.customers) == customers
    assert len(pd.read_csv(small.write(tmp_path, dirt=False)["customers"])) == customers


def test_a_shop_without_customers_or_with_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_world(customers=0, seed=1, as_of=AS_OF)
    with pytest.raises(ValueError, match="time zone"):
        make_world(customers=5, seed=1, as_of=AS_OF.replace(tzinfo=None))


def test_keys_are_unique_and_every_order_and_event_belongs_to_a_customer(world: World) -> None:
    known = set(world.customers.customer_id)
    for table, key in ((world.customers, "customer_id"), (world.orders, "order_id"), (world.events, "event_id")):
        assert table[key].is_unique
        assert table[key].notna().all()
    assert set(world.orders.customer_id) <= known
    assert set(world.events.customer_id) <= known


def test_nothing_happens_before_a_customer_arrives_or_after_the_instant_of_the_world(world: World) -> None:
    arrived = world.customers.set_index("customer_id").created_at
    for table, column in ((world.orders, "ordered_at"), (world.events, "occurred_at")):
        assert table[column].is_monotonic_increasing
        assert (table[column] < AS_OF).all()
    assert (world.orders.ordered_at >= world.orders.customer_id.map(arrived)).all()
    assert arrived.min() >= AS_OF - timedelta(days=HISTORY_DAYS + 1)


def test_every_address_is_at_a_reserved_domain_or_in_a_country_that_is_none(world: World) -> None:
    phones = world.customers.phone.dropna()
    assert phones.str.fullmatch(r"\+999\d{9}").all()
    assert phones.is_unique
    assert world.customers.email.dropna().str.fullmatch(r"[a-z]+\.\d+@example\.(com|org)").all()
    assert world.customers.email.dropna().is_unique
    assert world.customers.push_token.dropna().str.startswith("demo-device-").all()


def test_consent_and_reachability_have_realistic_shares_and_hang_together(world: World) -> None:
    people = world.customers
    shares = {channel: (people[f"consent_{channel}"] == "true").mean() for channel in ("email", "sms", "push")}
    assert 0.68 < shares["email"] < 0.78
    assert 0.5 < shares["sms"] < 0.62
    assert people.consent_email.isna().mean() == pytest.approx(0.015, abs=0.006)
    both = ((people.consent_email == "true") & (people.consent_sms == "true")).mean()
    assert both > shares["email"] * shares["sms"] + 0.03
    for column, low, high in (
        ("email", 0.95, 1),
        ("phone", 0.8, 0.92),
        ("push_token", 0.38, 0.5),
        ("time_zone", 0.9, 0.97),
    ):
        assert low < people[column].notna().mean() < high


def test_households_share_a_home_and_tiers_follow_spend(world: World) -> None:
    people = world.customers
    sizes = people.groupby("household_id").size()
    assert 0.1 < (sizes > 1).mean() < 0.15
    assert people.dropna(subset=["country"]).groupby("household_id").country.nunique().max() == 1
    recent = world.orders[world.orders.ordered_at >= AS_OF - timedelta(days=365)]
    spend = people.customer_id.map(recent.groupby("customer_id").amount.sum()).fillna(0)
    by_tier = spend.groupby(people.tier).mean()
    assert by_tier["premier"] > 2 * by_tier["plus"] > 2 * by_tier["standard"]


def test_orders_look_like_a_shop_with_refunds_discounts_and_a_season(world: World) -> None:
    orders = world.orders
    sold = orders[orders.amount > 0]
    assert 2.8 < len(sold) / len(world.customers) < 4
    assert sold.status.value_counts(normalize=True)["refunded"] == pytest.approx(0.02, abs=0.008)
    assert 0 < (orders.amount < 0).sum() < 0.006 * len(orders)
    assert (orders[orders.amount < 0].units < 0).all()
    assert 35 < sold.amount.mean() < 70
    assert 0.36 < sold.margin.sum() / sold.amount.sum() < 0.46
    assert {"WELCOME10", "NOVEMBER15"} == set(orders.discount_code.dropna())
    repeats = sold[
        sold.duplicated("customer_id") & (sold.ordered_at >= "2025-01-01") & (sold.ordered_at < "2026-01-01")
    ]
    by_month = repeats.groupby(repeats.ordered_at.dt.month).size()
    assert by_month[[11, 12]].mean() > 1.12 * by_month[[2, 7, 8]].mean()


def test_customers_differ_in_how_often_they_buy_as_the_gamma_says() -> None:
    _, buyers, purchases = make_history(40_000, 800.0, np.random.default_rng(3))
    # Gamma(1.5, scale 1/115): mean 1.5/115, coefficient of variation 1/sqrt(1.5); Beta(0.8, 3.1): mean 0.8/3.9
    assert buyers.rate.mean() == pytest.approx(1.5 / 115, rel=0.02)
    assert buyers.rate.std() / buyers.rate.mean() == pytest.approx(1.5**-0.5, rel=0.03)
    assert buyers.dropout.mean() == pytest.approx(0.8 / 3.9, rel=0.03)
    assert (np.diff(purchases.customer) >= 0).all()
    assert (purchases.serial[np.diff(purchases.customer, prepend=-1) > 0] == 1).all()


def test_the_chance_of_a_purchase_is_what_the_continued_process_shows() -> None:
    # assumptions (i) and (ii) of Fader, Hardie and Lee 2005: while alive a Poisson process, so P = 1 - exp(-rate t)
    rng = np.random.default_rng(11)
    buyers = Buyers(rate=np.full(60_000, 0.02), dropout=np.full(60_000, 0.4), alive=np.arange(60_000) % 3 > 0)
    found = go_on(buyers, 100.0, 130.0, rng)
    share = np.unique(found.customer).size / 60_000
    assert buyers.chance_of_purchase(30.0).mean() == pytest.approx(2 / 3 * (1 - np.exp(-0.6)))
    assert share == pytest.approx(2 / 3 * (1 - np.exp(-0.6)), abs=4 * np.sqrt(0.3 * 0.7 / 60_000))
    assert ((found.shop_time >= 100) & (found.shop_time < 130)).all()
    # dropout 0.4 after each purchase: of those who bought once, E[purchases] stays finite and below the immortal's 0.6
    assert found.customer.size / 40_000 < 0.6


def test_nobody_alive_means_nobody_buys() -> None:
    gone = Buyers(rate=np.ones(4), dropout=np.zeros(4), alive=np.zeros(4, dtype=bool))
    assert go_on(gone, 0.0, 100.0, np.random.default_rng(1)).customer.size == 0
    assert gone.chance_of_purchase(50.0).tolist() == [0, 0, 0, 0]


def test_shop_time_and_calendar_are_inverse_and_high_season_runs_faster() -> None:
    clock = ShopTime.until(AS_OF)
    instants = to_second(AS_OF) + np.arange(0, 60 * 86_400, 9_973).astype("timedelta64[s]")
    back = clock.calendar(clock.of(instants))
    assert np.abs((back - instants) / np.timedelta64(1, "s")).max() <= 1
    december = clock.of(np.datetime64("2025-12-31")) - clock.of(np.datetime64("2025-12-01"))
    february = clock.of(np.datetime64("2025-03-03")) - clock.of(np.datetime64("2025-02-01"))
    assert december > 1.2 * february


def test_events_hold_visits_scores_and_complaints_that_are_mostly_resolved(world: World) -> None:
    counts = world.events.event.value_counts()
    assert set(counts.index) == {"visit", "nps", "complaint_opened", "complaint_resolved"}
    assert 0.7 < counts["complaint_resolved"] / counts["complaint_opened"] < 1
    scores = world.events[world.events.event == "nps"].value
    assert scores.between(0, 10).all()
    assert 6.5 < scores.mean() < 8.5
    assert world.events[world.events.event == "visit"].value.isna().all()


def test_written_files_hold_every_row_and_then_the_bad_lines(world: World, tmp_path: Path) -> None:
    files = world.write(tmp_path)
    for table, path in files.items():
        rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
        assert len(rows) == 1 + len(getattr(world, table)) + len(BAD_LINES[table])
        assert {len(row) for row in rows} == {len(rows[0])}  # well-formed: bad in content, not in shape
    line = files["orders"].read_text(encoding="utf-8").splitlines()[1].split(",")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line[2])


def test_the_cohort_of_the_demonstration_is_large_and_quiet_enough() -> None:
    """Of 20,000 customers 7,000 to 9,000 are quiet and reachable; 8 to 15 % would come back by themselves in 30 days."""
    shop = make_world(customers=20_000, seed=7, as_of=AS_OF)
    kept = shop.orders[(shop.orders.amount > 0) & (shop.orders.status == "completed")]
    people = shop.customers
    recency = (pd.Timestamp(AS_OF) - people.customer_id.map(kept.groupby("customer_id").ordered_at.max())).dt.days
    quiet = (recency >= 60) & (recency < 400)
    reachable = np.zeros(len(people), dtype=bool)
    for channel, address in (("email", "email"), ("sms", "phone"), ("push", "push_token")):
        reachable |= ((people[f"consent_{channel}"] == "true") & people[address].notna()).to_numpy(dtype=bool)
    cohort = (quiet & reachable).to_numpy(dtype=bool)
    ahead = float(shop.shop_time.of(to_second(AS_OF + timedelta(days=30))) - shop.shop_time.of(to_second(AS_OF)))
    assert 7000 < cohort.sum() < 9000
    assert 0.08 < shop.latent.buyers.chance_of_purchase(ahead)[cohort].mean() < 0.15


def test_numbers_keep_their_digits() -> None:
    assert numbered("C", 12)[[0, 11]].tolist() == ["C0000001", "C0000012"]
