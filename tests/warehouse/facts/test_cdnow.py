"""The purchases of a real shop (CDNOW) loaded, selected and measured; the reference figures stand in the data's own notes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from campaigns.features import known_kinds
from campaigns.segment import parse_segment
from warehouse.facts.load import LoadSummary, load_customers_from_orders, load_table
from warehouse.facts.outcomes import purchased_since, wave_moments
from warehouse.facts.segment_sql import select_segment
from warehouse.facts.store import Facts, open_facts

ORDERS = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "cdnow" / "orders.csv"
AS_OF = datetime(1997, 10, 1, tzinfo=UTC)
HORIZON = timedelta(days=273)

pytestmark = pytest.mark.skipif(not ORDERS.is_file(), reason="the CDNOW purchases are not on this machine")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Facts, LoadSummary]]:
    folder = tmp_path_factory.mktemp("cdnow")
    options = {
        "renames": {},
        "time_zone": "UTC",
        "quarantine_dir": folder / "quarantine",
        "now": datetime(1998, 7, 10, tzinfo=UTC),
    }
    with open_facts("duckdb", data_dir=folder / "data") as facts:
        summary = load_table(facts, "orders", [ORDERS], **options)
        load_customers_from_orders(facts, **options)
        yield facts, summary


@pytest.fixture(scope="module")
def selected(loaded: tuple[Facts, LoadSummary]) -> pd.DataFrame:
    facts, _ = loaded
    segment = parse_segment("recency_days >= 91 and orders >= 2", known=known_kinds(facts.attributes()))
    return select_segment(facts, segment, as_of=AS_OF)


def test_every_line_is_an_order_the_duplicated_and_the_free_ones_too(loaded: tuple[Facts, LoadSummary]) -> None:
    facts, summary = loaded
    assert (summary.read, summary.added, summary.quarantined) == (69_659, 69_659, 0)
    orders, customers = facts.tables.orders, facts.tables.customers
    row = facts.frame(
        sa.select(
            sa.func.count().label("n"),
            sa.func.count(sa.distinct(orders.c.customer_id)).label("buyers"),
            sa.func.count(sa.case((orders.c.amount == 0, 1))).label("free"),
        )
    ).iloc[0]
    assert (row["n"], row["buyers"], row["free"]) == (69_659, 23_570, 80)
    assert facts.frame(sa.select(sa.func.count().label("n")).select_from(customers))["n"].item() == 23_570


def test_the_segment_selects_the_customers_of_the_reference(selected: pd.DataFrame) -> None:
    assert len(selected) == 5_421
    assert selected["customer_id"].is_monotonic_increasing


def test_the_outcomes_of_the_selected_are_those_of_the_reference(
    loaded: tuple[Facts, LoadSummary], selected: pd.DataFrame
) -> None:
    facts, _ = loaded
    arms = ["one", "two", "control"]
    cohort = pd.DataFrame({"customer_id": selected["customer_id"], "arm": [arms[i % 3] for i in range(len(selected))]})
    moments = wave_moments(facts, cohort, start=AS_OF, horizon=HORIZON)
    total = moments["one"] + moments["two"] + moments["control"]
    assert total.n == 5_421
    assert total.sum("repurchase") == 2_063
    assert total.sum("orders") == 4_798
    assert total.sum("revenue") == pytest.approx(171_706.26, abs=1e-6)
    again = purchased_since(facts, (selected["customer_id"].tolist(), AS_OF), until=AS_OF + HORIZON)
    assert len(again) == 2_063


def test_loading_the_same_file_again_changes_nothing(loaded: tuple[Facts, LoadSummary], tmp_path: Path) -> None:
    facts, _ = loaded
    before = facts.fingerprint()
    summary = load_table(
        facts,
        "orders",
        [ORDERS],
        renames={},
        time_zone="UTC",
        quarantine_dir=tmp_path,
        now=datetime(1998, 7, 11, tzinfo=UTC),
    )
    assert (summary.added, summary.updated, summary.unchanged) == (0, 0, 69_659)
    assert facts.fingerprint() == before
