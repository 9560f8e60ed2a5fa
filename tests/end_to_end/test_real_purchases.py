"""The loop on real purchases: CDNOW, 1997 to 1998 (skips where the shared data are absent)."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retain import cli

ORDERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "cdnow" / "orders.csv"
pytestmark = pytest.mark.skipif(not ORDERS.is_file(), reason="the CDNOW purchases are not beside the repository")

CAMPAIGN = """\
campaign: cdnow
status: active
audience: {segment: recency_days >= 91 and orders >= 2}
experiment:
  hypothesis: Nothing was sent, so nothing can differ
  control: 20%
  horizon: 273 days
  primary: repurchase
  metrics: [revenue, orders, retained]
  guardrails: {unsubscribed: {max_increase: 0.5pp}}
  minimum_effect: 1.5pp
arms:
  one:
    weight: 40%
    steps: [{channel: email, template: hello}]
  two:
    weight: 40%
    steps: [{channel: email, template: hello}]
feedback: {mode: apply}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with every CDNOW customer and order loaded through the command line."""
    root = tmp_path_factory.mktemp("cdnow") / "workspace"
    assert cli.run(["init", str(root)]) == 0
    for path in (root / "campaigns" / "book").glob("*.yaml"):
        path.unlink()
    (root / "campaigns" / "book" / "cdnow.yaml").write_text(CAMPAIGN, encoding="utf-8")
    (root / "templates" / "email" / "hello.subject.j2").write_text("Hello", encoding="utf-8")
    (root / "templates" / "email" / "hello.html.j2").write_text(
        "<a href='{{ unsubscribe_url }}'>stop</a> {{ company.postal_address }}", encoding="utf-8"
    )
    with ORDERS.open(encoding="utf-8", newline="") as file:
        ids = sorted({row["customer_id"] for row in csv.DictReader(file)})
    people = ["customer_id,created_at,email,consent_email"]
    people += [f"{customer},1997-01-01,c{customer}@example.com,true" for customer in ids]
    (root / "customers.csv").write_text("\n".join(people) + "\n", encoding="utf-8")
    assert cli.run(["load", "customers", str(root / "customers.csv"), "-w", str(root)]) == 0
    return root


def ask(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command with --json and give its one object."""
    capsys.readouterr()
    assert cli.run([*words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_loop_on_real_purchases_gives_the_known_figures(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures: README of the data set, computed independently of the product."""
    at = ["-w", str(workspace)]
    loaded = ask(capsys, "load", "orders", str(ORDERS), *at)
    assert (loaded["read"], loaded["added"], loaded["quarantined"]) == (69_659, 69_659, 0)  # duplicates and zeros kept
    assert ask(capsys, "load", "orders", str(ORDERS), *at)["unchanged"] == 69_659

    planned = ask(capsys, "plan", "cdnow", "--as-of", "1997-10-01", *at, code=2)
    assert (planned["audience"], planned["eligible"], planned["skipped"]) == (5_421, 5_421, {})
    assert sum(arm["planned"] for arm in planned["arms"].values()) == 5_421

    applied = ask(capsys, "run", "cdnow", "--as-of", "1997-10-01", *at)
    assert sum(applied["assigned"].values()) == 5_421
    again = ask(capsys, "run", "cdnow", "--as-of", "1997-10-01", *at)
    assert again["already_applied"]
    assert again["assigned"] == applied["assigned"]

    measured = ask(capsys, "measure", "cdnow", "--now", "1998-07-10", *at)
    assert {arm["mature"] for arm in measured["arms"].values()} == set(applied["assigned"].values())
    assert _total(measured, "repurchase") == pytest.approx(2_063)
    assert _total(measured, "orders") == pytest.approx(4_798, abs=1e-6)
    assert _total(measured, "revenue") == pytest.approx(171_706.26, abs=1e-4)

    before = (workspace / "campaigns" / "book" / "cdnow.yaml").read_bytes()
    decided = ask(capsys, "decide", "cdnow", "--now", "1998-07-10", *at)
    assert decided["decision"]["verdict"] != "promote"
    assert (workspace / "campaigns" / "book" / "cdnow.yaml").read_bytes() == before


def _total(measured: dict[str, Any], metric: str) -> float:
    """A metric summed over all customers: the arms' and control's plain means, times their sizes."""
    totals = measured["totals"][metric]
    return float(sum(totals.values()))


def test_the_as_of_instant_is_what_counts(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = datetime(1997, 7, 1, tzinfo=UTC).isoformat()
    planned = ask(capsys, "plan", "cdnow", "--as-of", earlier, "-w", str(workspace), code=2)
    assert 0 < planned["audience"] < 5_421
