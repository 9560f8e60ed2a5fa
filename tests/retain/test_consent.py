"""suppress, consent, erase and export on the command line: exit codes, JSON, and who did it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from .conftest import CAMPAIGN, Cli

pytestmark = pytest.mark.usefixtures("shop")


def a_customer(shop: Path) -> str:
    """The id of some customer of the demonstration."""
    import duckdb

    row = duckdb.sql(f"SELECT min(customer_id) FROM '{shop}/data/customers/*.parquet'").fetchone()
    assert row is not None
    return str(row[0])


def test_a_suppression_has_a_scope_and_is_taken_back_by_the_same(shop: Path, retain: Cli) -> None:
    who = a_customer(shop)
    first = retain("suppress", who, "--channel", "sms", "--topic", "offers", "--json", "--by", "ann")
    assert first.json | {"loaded": True} == {
        "customer_id": who, "channel": "sms", "topic": "offers", "reason": "manual", "changed": True, "loaded": True
    }  # fmt: skip
    assert retain("suppress", who, "--channel", "sms", "--topic", "offers").out.endswith("already\n")
    assert "nothing was suppressed" in retain("suppress", who, "--channel", "sms", "--release").out
    assert retain("suppress", who, "--channel", "sms", "--topic", "offers", "--release", "--json").json["changed"]
    assert retain("suppress", who, "--all").out == f"{who}: suppressed on all\n"


def test_a_topic_and_a_customer_that_nobody_knows_are_warned_of(shop: Path, retain: Cli) -> None:
    for words in (("suppress", "c1"), ("consent", "record", "c1", "--withdrawn")):
        outcome = retain(*words, "--topic", "marketin")
        assert outcome.code == 0
        assert "no customer c1 is loaded" in outcome.err
        assert 'no campaign is about the topic marketin (did you mean "marketing"?)' in outcome.err
    known = retain("suppress", a_customer(shop), "--topic", "marketing")
    assert (known.code, known.err) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("c1", "--topic", "No News!"), "topic"),
        (("c1", "--reason", "erased"), "reason"),
        (("c1", "--all", "--channel", "sms"), "--all"),
        (("import",), "at least one file"),
        ((" ",), "the id of a customer"),
        (("c1", "list.csv"), "suppress import FILE"),
        (("import", "missing.csv"), "file not found"),
        (("import", "list.csv", "--release"), "leave --channel, --topic, --all and --release out"),
        (("import", "list.csv", "--channel", "sms"), "say channel and topic in columns"),
    ],
)
def test_what_cannot_be_suppressed_is_told(retain: Cli, words: tuple[str, ...], said: str) -> None:
    outcome = retain("suppress", *words)
    assert outcome.code != 0
    assert said in outcome.err


def test_a_customer_called_import_is_suppressed_by_a_list_as_the_help_says(
    shop: Path, retain: Cli, tmp_path: Path
) -> None:
    assert "id is import is suppressed by a list" in " ".join(retain("suppress", "--help").out.split())
    (tmp_path / "out.csv").write_text("customer_id\nimport\n", encoding="utf-8")
    assert retain("suppress", "import", tmp_path / "out.csv", "--json").json["added"] == 1
    (suppression,) = retain("export", "import").json["ledger"]["suppressions"]
    assert (suppression["customer_id"], suppression["channel"]) == ("import", "all")


def test_lists_and_consents_are_imported_counted_and_may_be_repeated(shop: Path, retain: Cli, tmp_path: Path) -> None:
    suppressed = tmp_path / "out.csv"
    suppressed.write_text("mail,phone\nann@example.com,\n,+447700900123\n,\n", encoding="utf-8")
    words = ("suppress", "import", suppressed, "--map", "mail=email", "--json")
    assert retain(*words).json["added"] == 2
    again = retain(*words).json
    assert (again["added"], again["unchanged"], again["quarantined"]) == (0, 2, 1)
    assert again["reasons"] == {"missing_key": 1}
    consents = tmp_path / "consents.csv"
    consents.write_text("customer_id,given,at\nc1,no,2026-01-01\n", encoding="utf-8")
    assert "1 added" in retain("consent", "import", consents).out
    assert "1 known already" in retain("consent", "import", consents).out
    assert retain("consent", "import", suppressed).code == 1
    said = retain("consent", "record", "c1", "--given", "--channel", "sms", "--wording", "v2", "--json")
    assert said.json == {"customer_id": "c1", "channel": "sms", "topic": "all", "given": True, "changed": True}
    assert retain("consent", "record", "c1", "--withdrawn", "--channel", "fax").code == 1


def test_an_export_is_one_object_or_a_file_for_its_owner_only(shop: Path, retain: Cli, tmp_path: Path) -> None:
    who = a_customer(shop)
    told = retain("export", who, "--by", "ann").json
    assert told["exported_by"] == "ann"
    assert told["facts"]["customers"][0]["customer_id"] == who
    assert told["ledger"]["audit"][-1]["actor"] == "ann"
    path = tmp_path / "told.json"
    assert retain("export", who, "--out", path, "--json").json == {"customer_id": who, "file": str(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text(encoding="utf-8"))["exported_by"] == "operator"


def test_an_export_of_nobody_is_warned_of(retain: Cli) -> None:
    told = retain("export", "c1")
    assert told.json["facts"]["customers"] == []
    assert "no customer c1 is loaded: check that the id is the right one" in told.err


def test_an_erasure_asks_and_says_what_it_did(shop: Path, retain: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    who = a_customer(shop)
    refused = retain("erase", who)
    assert refused.code != 0
    assert "--yes" in refused.err
    assert retain("export", who).json["facts"]["customers"]
    monkeypatch.setenv("RETAIN_OPERATOR", "ben")
    done = retain("erase", who, "--yes")
    assert done.code == 0
    assert f"{who}: erased" in done.out
    assert "1 rows of customers removed" in done.out
    told = retain("export", who).json
    assert told["facts"] == {"customers": [], "orders": [], "events": []}
    assert told["ledger"]["outbox"] == []
    assert "was found" in retain("erase", who, "--yes", "--json").err
    assert retain("explain", CAMPAIGN, who).code == 0
