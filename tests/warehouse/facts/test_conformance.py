"""The same statements on DuckDB over Parquet, PostgreSQL and SQLite, against an oracle in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from campaigns.features import known_kinds
from campaigns.segment import parse_segment
from warehouse.facts import cohorts
from warehouse.facts.contacts import look_up_contacts
from warehouse.facts.features import MODELLED, FeatureOptions
from warehouse.facts.outcomes import first_purchase_days, outcome_rows, purchased_since, wave_moments
from warehouse.facts.purchase_model import fit_purchase_model
from warehouse.facts.segment_sql import compute_features, select_segment
from warehouse.facts.store import Facts

AS_OF = datetime(2025, 4, 1, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
VOID = {"refunded", "returned", "cancelled", "canceled", "voided", "failed"}
CANCELLED = {"cancelled", "canceled", "voided", "failed"}
ATTRIBUTES = {"vip": "boolean", "points": "number", "city": "text", "renewed_at": "instant"}


# --- the oracle -----------------------------------------------------------------------------------------------------


def bought(order: dict[str, Any]) -> bool:
    return order["amount"] >= 0 and (order["status"] or "").lower() not in VOID


def counts(order: dict[str, Any]) -> bool:
    return bought(order) or (order["amount"] < 0 and (order["status"] or "").lower() not in CANCELLED)


def quintiles(ids: list[str]) -> dict[str, int]:
    """NTILE(5) of a list in order: the first buckets take what does not divide."""
    size, rest = divmod(len(ids), 5)
    found, start = {}, 0
    for bucket in range(1, 6):
        end = start + size + (1 if bucket <= rest else 0)
        found |= dict.fromkeys(ids[start:end], bucket)
        start = end
    return found


def next_birthday(birthday: date, today: date) -> int:
    for year in (today.year, today.year + 1):
        try:
            on = birthday.replace(year=year)
        except ValueError:
            on = date(year, 3, 1)
        if on >= today:
            return (on - today).days
    raise AssertionError


def us(gap: timedelta) -> int:
    return gap // timedelta(microseconds=1)


def byte_key(text: str) -> bytes:
    return text.encode()


def oracle(shop: Any, as_of: datetime) -> dict[str, dict[str, Any]]:
    """Every feature that the engine computes, by customer; None is missing."""
    rows = {c["customer_id"]: dict(c) for c in shop.customers if c["created_at"] is None or c["created_at"] < as_of}
    for customer_id, row in rows.items():
        orders = [o for o in shop.orders if o["customer_id"] == customer_id and o["ordered_at"] < as_of]
        events = [e for e in shop.events if e["customer_id"] == customer_id and e["occurred_at"] < as_of]
        row.update(order_features(row, orders, as_of))
        row.update(event_features(events, as_of))
        hours = Counter(o["ordered_at"].hour for o in orders if bought(o))
        hours += Counter(e["occurred_at"].hour for e in events if e["event"] == "visit")
        row["best_hour"] = min(hours, key=lambda hour: (-hours[hour], hour)) if hours else None
        row["days_to_birthday"] = next_birthday(row["birthday"], as_of.date()) if row["birthday"] else None
    buyers = sorted((c for c in rows if rows[c]["orders"]), key=byte_key)
    by_recency = quintiles(sorted(buyers, key=lambda c: (rows[c]["_last"], byte_key(c))))
    by_orders = quintiles(sorted(buyers, key=lambda c: (rows[c]["orders"], byte_key(c))))
    by_spend = quintiles(sorted(buyers, key=lambda c: (rows[c]["_spend"], byte_key(c))))
    year = sorted((c for c in rows if rows[c]["orders_365d"]), key=lambda c: (-rows[c]["_spend_365"], byte_key(c)))
    for customer_id, row in rows.items():
        r, f, m = (by.get(customer_id) for by in (by_recency, by_orders, by_spend))
        row.update(rfm_r=r, rfm_f=f, rfm_m=m, loyalty_index=None if r is None else (r + f + m - 3) * 100 / 12)
        place = year.index(customer_id) + 1 if customer_id in year else math.inf
        gold = place <= 0.2 * len(year) and row["orders_365d"] >= 2
        silver = place <= 0.5 * len(year) and row["_orders_180"] >= 2
        row["value_tier"] = "gold" if gold else "silver" if silver else "member"
    return rows


def order_features(row: dict[str, Any], orders: list[dict[str, Any]], as_of: datetime) -> dict[str, Any]:
    purchases = [o["ordered_at"] for o in orders if bought(o)]
    spend = sum((o["amount"] for o in orders if counts(o)), Decimal(0))
    spend_365 = sum((o["amount"] for o in orders if counts(o) and o["ordered_at"] >= as_of - 365 * DAY), Decimal(0))
    n = len(purchases)
    first, last = (min(purchases), max(purchases)) if n else (None, None)
    recency = (as_of - last) // DAY if last else None
    gap = us(last - first) / us(DAY) / (n - 1) if n >= 2 else None
    began = min((at for at in (row["created_at"], first) if at is not None), default=None)
    return {
        "recency_days": recency,
        "orders": n,
        "orders_365d": sum(at >= as_of - 365 * DAY for at in purchases),
        "spend": float(spend),
        "spend_365d": float(spend_365),
        "average_order": float(spend) / n if n else None,
        "tenure_days": (as_of - began) // DAY if began else None,
        "typical_gap_days": gap,
        "overdue_ratio": recency / gap if gap else None,
        "_last": last,
        "_spend": spend,
        "_spend_365": spend_365,
        "_orders_180": sum(at >= as_of - 180 * DAY for at in purchases),
    }


def event_features(events: list[dict[str, Any]], as_of: datetime) -> dict[str, Any]:
    opened = max((e["occurred_at"] for e in events if e["event"] == "complaint_opened"), default=None)
    resolved = max((e["occurred_at"] for e in events if e["event"] == "complaint_resolved"), default=None)
    scores = {}
    for name in ("nps", "csat"):
        known = [e for e in events if e["event"] == name and e["value"] is not None]
        scores[f"last_{name}"] = max(known, key=lambda e: (e["occurred_at"], e["event_id"]))["value"] if known else None
    return {
        "open_complaint": opened is not None and (resolved is None or opened > resolved),
        "days_since_complaint": (as_of - opened) // DAY if opened else None,
        **scores,
    }


FEATURE_NAMES = [
    "recency_days", "orders", "orders_365d", "spend", "spend_365d", "average_order", "tenure_days", "typical_gap_days",
    "overdue_ratio", "rfm_r", "rfm_f", "rfm_m", "value_tier", "loyalty_index", "best_hour", "open_complaint",
    "days_since_complaint", "last_nps", "last_csat", "days_to_birthday", "created_at", "country", "region", "locale",
    "time_zone", "tier", "preferred_channel", "vip", "points", "city", "renewed_at",
]  # fmt: skip


def plain(value: Any) -> Any:
    return None if pd.isna(value) else value


# --- features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_of", [AS_OF, datetime(2024, 2, 29, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)])
def test_every_feature_is_what_the_oracle_says(facts: Facts, shop: Any, as_of: datetime) -> None:
    expected = oracle(shop, as_of)
    found = compute_features(facts, as_of=as_of, names=FEATURE_NAMES)
    assert found["customer_id"].tolist() == sorted(expected, key=byte_key)
    for row in found.to_dict("records"):
        for name in FEATURE_NAMES:
            want, got = expected[row["customer_id"]][name], plain(row[name])
            assert got == (pytest.approx(want, rel=1e-13) if isinstance(want, float) else want), (
                row["customer_id"],
                name,
            )


def test_every_engine_gives_the_same_features_to_the_last_bit(everywhere: dict[str, Facts]) -> None:
    model = fit_purchase_model(everywhere["duckdb"], as_of=AS_OF)
    options = FeatureOptions(model=model)
    frames = {
        name: compute_features(facts, as_of=AS_OF, names=[*FEATURE_NAMES, *MODELLED], options=options)
        for name, facts in everywhere.items()
    }
    pd.testing.assert_frame_equal(frames["postgresql"], frames["duckdb"], check_exact=True)
    pd.testing.assert_frame_equal(frames["sqlite"], frames["duckdb"], check_exact=True)


def test_every_engine_fits_the_same_purchase_model(everywhere: dict[str, Facts]) -> None:
    models = [fit_purchase_model(facts, as_of=AS_OF) for facts in everywhere.values()]
    assert models[0] == models[1] == models[2]


def test_the_features_of_a_few_customers_are_those_among_all(facts: Facts) -> None:
    everybody = compute_features(facts, as_of=AS_OF, names=["rfm_m", "orders", "value_tier"])
    few = everybody["customer_id"].iloc[[3, 20, 40]].tolist()
    found = compute_features(facts, as_of=AS_OF, names=["rfm_m", "orders", "value_tier"], customer_ids=[*few, "nobody"])
    wanted = everybody[everybody["customer_id"].isin(few)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def test_attributes_have_the_same_kinds_everywhere(facts: Facts) -> None:
    assert facts.attributes() == ATTRIBUTES


# --- segments -------------------------------------------------------------------------------------------------------

Test = Callable[[dict[str, Any]], bool]


def missing_is_false(test: Test) -> Test:
    """A comparison in plain Python; comparing with None raises, which counts as false."""

    def run(row: dict[str, Any]) -> bool:
        try:
            return bool(test(row))
        except (TypeError, ZeroDivisionError):
            return False

    return run


SEGMENTS: dict[str, Test] = {
    "recency_days >= 90": lambda r: r["recency_days"] >= 90,
    "recency_days > 90.5": lambda r: r["recency_days"] > 90.5,
    "90 > recency_days": lambda r: r["recency_days"] < 90,
    "recency_days <= 89.5": lambda r: r["recency_days"] <= 89.5,
    "recency_days == 30": lambda r: r["recency_days"] == 30,
    "recency_days != 30": lambda r: r["recency_days"] is not None and r["recency_days"] != 30,
    "recency_days < 10000000": lambda r: r["recency_days"] < 10_000_000,
    "recency_days >= -5": lambda r: r["recency_days"] >= -5,
    "30 <= recency_days < 200": lambda r: 30 <= r["recency_days"] < 200,
    "200 > recency_days >= 30 and orders >= 2": lambda r: 200 > r["recency_days"] >= 30 and r["orders"] >= 2,
    "orders == 0": lambda r: r["orders"] == 0,
    "spend > 0 and spend / orders >= 100": lambda r: r["spend"] > 0 and r["spend"] / r["orders"] >= 100,
    "spend - 2 * average_order > points": lambda r: r["spend"] - 2 * r["average_order"] > r["points"],
    "country in ('GB', 'IE')": lambda r: r["country"] in ("GB", "IE"),
    "country not in ('GB', 'IE')": lambda r: r["country"] is not None and r["country"] not in ("GB", "IE"),
    "country != 'GB'": lambda r: r["country"] is not None and r["country"] != "GB",
    'country == "Côte d\'Ivoire"': lambda r: r["country"] == "Côte d'Ivoire",
    "country is None": lambda r: r["country"] is None,
    "recency_days is None and orders == 0": lambda r: r["recency_days"] is None and r["orders"] == 0,
    "renewed_at is not None": lambda r: r["renewed_at"] is not None,
    "vip": lambda r: r["vip"] is True,
    "vip == False": lambda r: r["vip"] is False,
    "vip != True": lambda r: r["vip"] is False,
    "open_complaint": lambda r: r["open_complaint"],
    "not open_complaint and orders >= 1": lambda r: not r["open_complaint"] and r["orders"] >= 1,
    "rfm_r <= 2 and rfm_f >= 3 and rfm_m >= 4": lambda r: r["rfm_r"] <= 2 and r["rfm_f"] >= 3 and r["rfm_m"] >= 4,
    "value_tier == 'gold' or value_tier in ('silver',)": lambda r: r["value_tier"] in ("gold", "silver"),
    "loyalty_index > 50": lambda r: r["loyalty_index"] > 50,
    "days_to_birthday <= 30": lambda r: r["days_to_birthday"] <= 30,
    "days_since_complaint < 60": lambda r: r["days_since_complaint"] < 60,
    "last_nps <= 6 and last_csat is not None": lambda r: r["last_nps"] <= 6 and r["last_csat"] is not None,
    "best_hour in (0, 6, 12)": lambda r: r["best_hour"] in (0, 6, 12),
    "overdue_ratio >= 2": lambda r: r["overdue_ratio"] >= 2,
    "renewed_at < created_at": lambda r: r["renewed_at"] < r["created_at"],
    "created_at >= '2024-06-01'": lambda r: r["created_at"] >= datetime(2024, 6, 1, tzinfo=UTC),
    "points in (10, 20.25, 30)": lambda r: r["points"] in (10, 20.25, 30),
    "orders in (1, 2.5, 4)": lambda r: r["orders"] in (1, 4),
    "True": lambda r: True,
    "False or orders >= 5": lambda r: r["orders"] >= 5,
}


@pytest.mark.parametrize("negated", [False, True])
def test_segments_select_whom_the_oracle_selects_and_not_selects_the_others(
    facts: Facts, shop: Any, negated: bool
) -> None:
    customers = oracle(shop, AS_OF)
    for text, test in SEGMENTS.items():
        expression = parse_segment(f"not ({text})" if negated else text, known=known_kinds(facts.attributes()))
        wanted = [c for c, row in customers.items() if missing_is_false(test)(row) != negated]
        found = select_segment(facts, expression, as_of=AS_OF)
        assert found["customer_id"].tolist() == sorted(wanted, key=byte_key), text


def test_a_nested_negation_stays_two_valued(facts: Facts, shop: Any) -> None:
    customers = oracle(shop, AS_OF)
    text = "not (country == 'GB' and not (points > 20 or vip)) and not (not (last_nps > 6))"
    found = select_segment(facts, parse_segment(text, known=known_kinds(ATTRIBUTES)), as_of=AS_OF)
    wanted = [
        c
        for c, r in customers.items()
        if not (r["country"] == "GB" and not ((r["points"] is not None and r["points"] > 20) or r["vip"] is True))
        and (r["last_nps"] is not None and r["last_nps"] > 6)
    ]
    assert found["customer_id"].tolist() == sorted(wanted, key=byte_key)


def test_what_a_plan_needs_stands_beside_the_selected(facts: Facts, shop: Any) -> None:
    customers = oracle(shop, AS_OF)
    found = select_segment(facts, parse_segment("True", known={}), as_of=AS_OF, extra=["rfm_m", "points", "country"])
    assert list(found.columns) == [
        "customer_id", "has_sms", "has_email", "has_push", "consent_sms", "consent_email", "consent_push",
        "time_zone", "country", "locale", "open_complaint", "household_id", "rfm_m", "points",
    ]  # fmt: skip
    for row in found.to_dict("records"):
        want = customers[row["customer_id"]]
        for has, address in (("has_sms", "phone"), ("has_email", "email"), ("has_push", "push_token")):
            assert row[has] is (want[address] is not None)
        for name in ("consent_sms", "consent_email", "consent_push"):
            assert row[name] is (want[name] is True)
        for name in ("time_zone", "country", "locale", "household_id", "points", "rfm_m"):
            assert plain(row[name]) == want[name]


def test_segments_by_the_purchase_model_are_the_same_everywhere(everywhere: dict[str, Facts]) -> None:
    names = ["p_alive", "clv_365d", "expected_orders_90d"]
    alive, value, orders = compute_features(everywhere["duckdb"], as_of=AS_OF, names=names)[names].median()
    text = (
        f"orders >= 2 and (p_alive <= {alive:.9f} or churn_risk == 'high') "
        f"and not (clv_365d > {value * 4:.3f}) and expected_orders_90d >= {orders / 9:.9f}"
    )
    expression = parse_segment(text, known=known_kinds(ATTRIBUTES))
    found = [select_segment(f, expression, as_of=AS_OF, extra=["p_alive", "clv_365d"]) for f in everywhere.values()]
    assert 0 < len(found[0]) < 100
    pd.testing.assert_frame_equal(found[1], found[0], check_exact=True)
    pd.testing.assert_frame_equal(found[2], found[0], check_exact=True)


# --- outcomes -------------------------------------------------------------------------------------------------------

START = datetime(2025, 3, 1, tzinfo=UTC)
HORIZON = 30 * DAY


def cohort_of(shop: Any) -> pd.DataFrame:
    ids = [c["customer_id"] for c in shop.customers][::-1]
    return pd.DataFrame({"customer_id": ids, "arm": [("one", "two", "control")[i % 3] for i in range(len(ids))]})


def window_totals(shop: Any, customer_id: str) -> dict[str, float]:
    mine = [o for o in shop.orders if o["customer_id"] == customer_id]
    during = [o for o in mine if START <= o["ordered_at"] < START + HORIZON]
    before = [o for o in mine if START - 90 * DAY <= o["ordered_at"] < START]
    return {
        "repurchase": float(any(bought(o) for o in during)),
        "retained": float(any(bought(o) for o in during if o["ordered_at"] >= START + HORIZON / 2)),
        "revenue": float(sum(o["amount"] for o in during if counts(o))),
        "orders": float(sum(bought(o) for o in during)),
        "margin": float(sum(o["margin"] or 0 for o in during if counts(o))),
        "pre_revenue": float(sum(o["amount"] for o in before if counts(o))),
        "pre_orders": float(sum(bought(o) for o in before)),
    }


def test_moments_are_those_of_the_zero_filled_rows(facts: Facts, shop: Any) -> None:
    cohort = cohort_of(shop)
    found = wave_moments(facts, cohort, start=START, horizon=HORIZON, pre_period=90 * DAY)
    assert set(found) == {"one", "two", "control"}
    for arm, moments in found.items():
        rows = pd.DataFrame([window_totals(shop, c) for c in cohort.loc[cohort["arm"] == arm, "customer_id"]])
        assert moments.n == len(rows)
        assert list(moments.columns) == list(rows.columns)
        for name in rows:
            assert moments.sum(name) == pytest.approx(rows[name].sum(), abs=1e-9)
            for other in rows:
                assert moments.cov(name, other) == pytest.approx(rows[name].cov(rows[other]), rel=1e-9, abs=1e-9)


def test_outcome_rows_are_those_of_each_customer(facts: Facts, shop: Any) -> None:
    ids = sorted(cohort_of(shop)["customer_id"], key=str.encode)
    found = outcome_rows(facts, ids[::-1], start=START, horizon=HORIZON, pre_period=90 * DAY)
    rows = pd.DataFrame([window_totals(shop, c) for c in ids])
    assert list(found) == list(rows.columns)
    for name in rows:
        assert found[name] == pytest.approx(rows[name].to_numpy(), abs=1e-9)


def test_moments_are_the_same_to_the_last_bit_everywhere(everywhere: dict[str, Facts], shop: Any) -> None:
    cohort = cohort_of(shop)
    found = [
        wave_moments(facts, cohort.sample(frac=1, random_state=i), start=START, horizon=HORIZON, pre_period=90 * DAY)
        for i, facts in enumerate(everywhere.values())
    ]
    assert found[0] == found[1] == found[2]


def test_who_bought_since(facts: Facts, shop: Any) -> None:
    since = {c["customer_id"]: START + (i % 5) * 7 * DAY for i, c in enumerate(shop.customers)}
    until = START + 25 * DAY
    wanted = {
        c
        for c, at in since.items()
        if any(o["customer_id"] == c and bought(o) and at <= o["ordered_at"] < until for o in shop.orders)
    }
    assert wanted
    assert purchased_since(facts, since, until=until) == wanted
    alike = purchased_since(facts, (list(since), START), until=until)
    assert alike == {
        c
        for c in since
        if any(o["customer_id"] == c and bought(o) and START <= o["ordered_at"] < until for o in shop.orders)
    }


def test_days_to_the_first_purchase(facts: Facts, shop: Any) -> None:
    cohort = cohort_of(shop)
    until = START + timedelta(days=20, hours=6)
    found = first_purchase_days(facts, cohort, start=START, until=until, horizon=HORIZON)
    assert found.keys() == {"one", "two", "control"}
    for arm, counts_ in found.items():
        wanted: Counter[tuple[float, bool]] = Counter()
        for customer_id in cohort.loc[cohort["arm"] == arm, "customer_id"]:
            days = [
                (o["ordered_at"] - START) // DAY
                for o in shop.orders
                if o["customer_id"] == customer_id and bought(o) and START <= o["ordered_at"] < until
            ]
            wanted[(float(min(days)), True) if days else (20.0, False)] += 1
        seen = {
            **{(t, True): e for t, e in zip(counts_.times, counts_.events, strict=True) if e},
            **{(t, False): c for t, c in zip(counts_.times, counts_.censored, strict=True) if c},
        }
        assert seen == dict(wanted)


# --- contacts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [cohorts.FEW, 0])
def test_contacts_are_the_profile_without_showing_addresses(
    facts: Facts, shop: Any, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(cohorts, "FEW", few)  # as a list, and as a table of the cohort
    ids = [c["customer_id"] for c in shop.customers[:40]]
    found = look_up_contacts(facts, [*ids, "nobody", ids[0]])
    assert list(found) == ids
    for row in shop.customers[:40]:
        contact = found[row["customer_id"]]
        assert (contact.email, contact.phone, contact.push_token) == (row["email"], row["phone"], row["push_token"])
        assert (contact.address("sms"), contact.address("email")) == (row["phone"], row["email"])
        assert contact.consents == {c: row[f"consent_{c}"] is True for c in ("sms", "email", "push")}
        assert (contact.time_zone, contact.locale, contact.country) == (row["time_zone"], row["locale"], row["country"])
        for name in ("vip", "points", "city", "renewed_at", "birthday", "created_at", "tier", "household_id"):
            assert contact.attributes[name] == row[name], name
        for address in (row["email"], row["phone"], row["push_token"]):
            assert address is None or address not in repr(contact)


def test_nobody_to_look_up_is_nobody_found(facts: Facts) -> None:
    assert look_up_contacts(facts, []) == {}
    assert purchased_since(facts, {}, until=AS_OF) == set()


def test_a_phone_tells_its_origin_where_the_profile_has_no_zone_and_stays_where_it_is(facts: Facts, shop: Any) -> None:
    everybody = parse_segment("tenure_days >= 0 or tenure_days is None", known=known_kinds())
    found = select_segment(facts, everybody, as_of=AS_OF, phone_origins=True)
    people = {row["customer_id"]: row for row in shop.customers}
    assert len(found) > 50
    for customer, origin in zip(found["customer_id"], found["phone_origin"], strict=True):
        row = people[customer]
        assert bool(origin) == (not row["time_zone"] and bool(row["phone"]))
        assert origin in ("", "GB|Europe/London,Europe/Guernsey,Europe/Isle_of_Man,Europe/Jersey")
    assert not {"phone", "phone_head", "phone_length"} & set(found.columns)
