"""The purchases of a real shop (CDNOW) through the flows: loaded, selected, randomised, measured, decided.

Reference figures (computed without this product, see the data's own notes): 5,421 customers bought twice or more and
last on or before 1997-07-02; 2,063 of them bought again within 273 days of 1997-10-01. Nothing was really sent to
them, so this is an A/A test.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.decide_experiments import decide_experiments
from flows.load_files import load_files
from flows.measure_experiments import measure_experiments
from flows.run_campaign import run_campaign
from flows.settings import read_settings
from flows.steps.make_workspace import make_workspace
from flows.wiring import open_workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.waves import waves

ROOT = Path(__file__).resolve().parents[2]
ORDERS = ROOT.parent / "shared" / "data" / "cdnow" / "orders.csv"
AS_OF = datetime(1997, 10, 1, tzinfo=UTC)
NOW = datetime(1998, 7, 10, tzinfo=UTC)

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    pytest.mark.skipif(not ORDERS.is_file(), reason="the CDNOW purchases are not on this machine"),
]

CAMPAIGN = """\
campaign: cdnow
status: active
audience:
  segment: recency_days >= 91 and orders >= 2
experiment:
  control: 20%
  horizon: 273 days
  primary: repurchase
  metrics: [revenue, orders]
  minimum_effect: 2pp
arms:
  one: {weight: 40%, steps: [{channel: email, template: winback_hello}]}
  two: {weight: 40%, steps: [{channel: email, template: winback_hello}]}
feedback: {mode: off}
"""


@pytest.fixture(scope="module")
def workspace(prefect_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cdnow")
    book = root / "made" / "book"
    book.mkdir(parents=True)
    (book / "cdnow.yaml").write_text(CAMPAIGN, encoding="utf-8")
    make_workspace(root / "shop", book=book, templates=ROOT / "flows" / "demo" / "templates")
    return root / "shop"


def write_customers(path: Path) -> Path:
    """A customer of every id in the orders, reachable by e-mail at a domain that nobody has."""
    with ORDERS.open(encoding="utf-8", newline="") as file:
        ids = sorted({row["customer_id"] for row in csv.DictReader(file)})
    rows = [f"{i},1997-01-01,c{i}@example.com,true" for i in ids]
    path.write_text("\n".join(["customer_id,created_at,email,consent_email", *rows]) + "\n", encoding="utf-8")
    return path


def test_the_quiet_customers_are_all_assigned_and_no_arm_of_an_a_a_test_is_promoted(workspace: Path) -> None:
    where = {"workspace": str(workspace)}
    customers = load_files("customers", [str(write_customers(workspace / "customers.csv"))], now=AS_OF, **where)
    orders = load_files("orders", [str(ORDERS)], now=NOW, **where)
    assert (customers["added"], orders["added"], orders["quarantined"]) == (23_570, 69_659, 0)

    run = run_campaign("cdnow", as_of=AS_OF, **where)
    assert (run["audience"], run["eligible"], sum(run["assigned"].values())) == (5_421, 5_421, 5_421)
    assert run["assigned"].keys() == {"one", "two", "control"}
    with open_workspace(read_settings(workspace)) as ws, ws.ledger.read() as tx:
        assigned = assignments_frame(tx, waves(tx, "cdnow:1")[0].wave_id)
    assert assigned["customer_id"].nunique() == len(assigned) == 5_421

    (measured,) = measure_experiments("cdnow", now=NOW, **where)
    assert {arm: n["mature"] for arm, n in measured["arms"].items()} == run["assigned"]
    assert buyers(measured) == 2_063

    (decided,) = decide_experiments("cdnow", now=NOW, **where)
    assert decided["decision"]["verdict"] != "promote"
    assert decided["changed_files"] == []


def buyers(measured: dict[str, Any]) -> float:
    """How many bought again, over all arms."""
    one, two = (result for result in measured["results"] if result["metric"] == "repurchase")
    shares = [
        (one["n_arm"], one["arm_value"]),
        (two["n_arm"], two["arm_value"]),
        (one["n_control"], one["control_value"]),
    ]
    counts = [n * share for n, share in shares]
    assert all(count == pytest.approx(round(count), abs=1e-6) for count in counts)
    return sum(round(count) for count in counts)
