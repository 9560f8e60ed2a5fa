"""What people ask of a workspace: explain, preview, features, validate, doctor, analyze, init."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from campaigns.eligibility import REASONS
from campaigns.errors import CampaignError
from experiments.errors import ExperimentError
from flows.settings import SettingsError, read_settings
from flows.steps.analyze_file import analyze_file
from flows.steps.deliver_messages import deliver_messages
from flows.steps.examine_workspace import examine_workspace
from flows.steps.explain_customer import explain_customer
from flows.steps.load_facts import load_counts, load_customers_from_orders
from flows.steps.make_workspace import make_workspace
from flows.steps.preview_messages import preview_messages
from flows.steps.run_campaign import run_campaign
from flows.steps.show_features import list_features, values_of
from flows.steps.suppress_customer import suppress_customer
from flows.steps.validate_book import validate_book
from flows.wiring import Workspace, make_providers, read_key_file, worker_name
from warehouse.facts.errors import FactsError

Rewrite = Callable[[Workspace, str, str], Path]


def test_explain_tells_arm_messages_and_reasons(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=40)
    suppress_customer(ws, "C0007", channel="all", reason="stop", by="test", at=monday)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    stories = [explain_customer(ws, "back", f"C{n:04d}", now=monday) for n in range(40)]
    answers = [story["answer"] for story in stories]
    why = f"C0007 has no arm in back: suppressed: {REASONS['suppressed']} (as of 2026-03-02 09:00 UTC, planned again "
    assert answers[7].startswith(f"{why}with what is known now, files ")
    assert any("arm control" in a and "was planned no message" in a for a in answers)
    assert any("step 1 by email: sent, step 2 by sms: pending, may leave from 2026-03-05" in a for a in answers)
    assert [event["what"] for event in stories[7]["events"]] == ["suppressed on all"]
    sent = next(story for story in stories if "by email: sent" in story["answer"])
    key = f"back:1/{sent['customer_id']}"
    told = [event["what"].split()[0] for event in sent["events"]]
    assert told == ["assigned", "promised", f"{key}/1:", f"{key}/2:", f"{key}/1:"]  # two slots, then what was sent
    assert sent["events"][-1]["why"].startswith("files ")


def test_explain_tells_that_a_customer_is_not_in_the_segment_or_that_nothing_ran(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(customers=5)
    assert "it has not run yet" in explain_customer(ws, "back", "nobody", now=monday)["answer"]
    run_campaign(ws, "back", as_of=monday)
    assert "not in the segment as of" in explain_customer(ws, "back", "nobody", now=monday)["answer"]
    with pytest.raises(CampaignError, match='did you mean "back"'):
        explain_customer(ws, "bakc", "C0001", now=monday)


def test_a_preview_shows_every_step_and_sends_nothing(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=3)
    sample = preview_messages(ws, "back", customer_id=None, as_of=monday)
    assert [(m["arm"], m["step"], m["channel"]) for m in sample] == [
        ("mail", 1, "email"),
        ("mail", 2, "sms"),
        ("text", 1, "sms"),
    ]
    own = preview_messages(ws, "back", customer_id="C0002", as_of=monday)
    assert own[0]["content"]["subject"] == "Hello Ann2"
    assert own[1]["segments"] == 1
    assert not (ws.root / "outbox").exists()
    with pytest.raises(FactsError, match="no customer C9999"):
        preview_messages(ws, "back", customer_id="C9999", as_of=monday)


def test_a_previewed_code_is_the_one_the_customer_gets(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=30)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    from warehouse.ledger.deliveries import sent_messages

    with ws.ledger.read() as tx:
        row = sent_messages(tx, "back:1").query("arm == 'mail'").iloc[0]
    shown = preview_messages(ws, "back", customer_id=row["customer_id"], as_of=monday)
    assert row["code"] in shown[0]["content"]["html"]


def test_features_are_listed_with_the_companys_own_columns(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=3)
    listed = {entry["name"]: entry for entry in list_features(ws)}
    assert listed["recency_days"]["unit"] == "days"
    assert listed["first_name"]["kind"] == "text"
    values = values_of(ws, "C0001", as_of=monday)
    assert (values["recency_days"], values["orders"], values["first_name"]) == (70, 2, "Ann1")
    with pytest.raises(FactsError, match="no customer C9"):
        values_of(ws, "C9", as_of=monday)


def test_a_broken_file_does_not_hide_what_is_wrong_with_the_words_of_another_campaign(
    shop: Callable[..., Workspace],
) -> None:
    ws = shop()
    (ws.root / "campaigns/book/bad.yaml").write_text("campaign: bad\nstatus: onn\n", encoding="utf-8")
    (ws.root / "templates/sms/hello.txt.j2").write_text("Hello {{ customer.frist_name }}", encoding="utf-8")
    checked = validate_book(ws, None)
    assert checked.campaigns == ("back", "bad")
    files = {problem.file for problem in checked.problems if problem.severity == "error"}
    assert files == {"campaigns/book/bad.yaml", "templates/sms/hello.txt.j2"}


def test_validate_gives_problems_as_values(shop: Callable[..., Workspace], rewrite: Rewrite) -> None:
    ws = shop(customers=3)
    clean = validate_book(ws, "back")
    assert (clean.campaigns, clean.n_errors) == (("back",), 0)
    rewrite(ws, "template: hello, after", "tempalte: hello, after")
    broken = validate_book(ws, None)
    assert broken.n_errors >= 1
    assert 'did you mean "template"' in str(broken.problems[0])
    assert broken.to_json()["problems"][0]["line"] > 10


def test_doctor_finds_a_healthy_workspace_healthy_and_names_what_lacks(
    shop: Callable[..., Workspace], tmp_path: Path
) -> None:
    ws = shop(customers=3)
    assert all(finding.ok for finding in examine_workspace(ws))
    from dataclasses import replace

    from flows.wiring import open_workspace

    bare = tmp_path / "bare"
    make_workspace(bare)
    (bare / ".retain" / "key").unlink()
    with open_workspace(read_settings(bare)) as empty:
        findings = {finding.check: finding for finding in examine_workspace(empty)}
    assert not findings["facts"].ok
    assert "next: retain load customers FILE" in findings["facts"].finding
    assert not findings["key"].ok
    assert replace(findings["rooms"]).ok
    assert findings["book"].ok


def test_a_table_of_another_experiment_is_analysed(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    rows = [f"{'A' if n % 2 else 'B'},{int(n % 10 == 0 or (n % 2 and n % 3 == 0))}" for n in range(4000)]
    path.write_text("arm,visit\n" + "\n".join(rows) + "\n", encoding="utf-8")
    options = {"arm": "arm", "control": "B", "covariates": {}, "expect": None, "alpha": 0.05}
    found = analyze_file(path, metrics=["visit:proportion"], **options).to_json()  # type: ignore[arg-type]  # one dict for three calls
    assert found["arms"]["A"]["n"] == 2000
    assert found["results"][0]["p_value"] < 1e-9
    with pytest.raises(ExperimentError, match="no such file"):
        analyze_file(tmp_path / "none.csv", metrics=["visit:proportion"], **options)  # type: ignore[arg-type]  # as above
    path.write_text('a,b\n1,2,3\n4,5,6,7\n"', encoding="utf-8")
    with pytest.raises(ExperimentError, match="not a readable CSV file"):
        analyze_file(path, metrics=["visit:proportion"], **options)  # type: ignore[arg-type]  # as above


def test_an_arm_may_be_called_none(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("arm,visit\n" + "Mail,1\nNone,0\nMail,0\nNone,1\n" * 50, encoding="utf-8")
    found = analyze_file(
        path, arm="arm", control="None", metrics=["visit:proportion"], covariates={}, expect=None, alpha=0.05
    )
    assert found.to_json()["arms"] == {"Mail": {"n": 100}, "None": {"n": 100}}


def test_a_workspace_is_made_once_and_never_over_another(tmp_path: Path) -> None:
    files = make_workspace(tmp_path / "new")
    assert Path("campaigns/book/winback-90d.yaml") in files
    assert read_key_file(tmp_path / "new")
    assert (tmp_path / "new" / ".retain" / "key").stat().st_mode & 0o077 == 0
    before = {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match="holds campaigns/book"):
        make_workspace(tmp_path / "new")
    assert {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()} == before


def test_the_sample_workspace_has_no_errors(tmp_path: Path) -> None:
    from flows.wiring import open_workspace

    make_workspace(tmp_path / "new")
    with open_workspace(read_settings(tmp_path / "new")) as ws:
        checked = validate_book(ws, None)
    assert [str(p) for p in checked.problems if p.severity == "error" and "first_name" not in p.message] == []
    assert len(checked.campaigns) >= 4


def test_an_unknown_provider_is_named(tmp_path: Path) -> None:
    settings = read_settings(tmp_path, overrides={"providers": {"sms": "pigeon"}})
    with pytest.raises(SettingsError, match=r'providers\.sms: unknown provider "pigeon"'):
        make_providers(settings)


def test_two_workers_never_bear_the_same_name() -> None:
    assert worker_name() != worker_name()


def test_customers_can_be_derived_from_orders(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=2)
    path = ws.root / "more.csv"
    path.write_text(f"id,who,ordered_at,amount\n1,NEW,{(monday - timedelta(days=9)).date()},5\n", encoding="utf-8")
    names = {"order_id": "id", "customer_id": "who"}
    counts = load_counts(load_customers_from_orders(ws, [path], renames=names, now=monday))
    assert counts["added"] == 1
    assert values_of(ws, "NEW", as_of=monday)["tenure_days"] == 9
