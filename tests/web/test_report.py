"""The report: one file that says what was measured and decided, whatever the data hold, and nothing besides."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.web.sample import ARMS, decision, full_report, measurement, reason, result
from web.report import render_report, report_html
from web.report_data import ReportError
from web.report_words import VERDICTS

VOID = {"meta", "link", "br", "img", "hr", "input", "source", "area", "base", "col", "embed", "track", "wbr"}
FETCHING = {"src", "href", "srcset", "poster", "data", "action", "formaction", "background", "style", "xlink:href"}


class Page(HTMLParser):
    """The elements of a page, whether they nest, its ids, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def page(data: dict[str, Any]) -> Page:
    return Page(report_html(data))


def test_a_report_is_one_small_file_without_scripts_or_anything_to_fetch(tmp_path: Path) -> None:
    path = render_report(full_report(), out=tmp_path / "deep" / "report.html")
    assert path == tmp_path / "deep" / "report.html"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_size < 300_000
    found = Page(path.read_text(encoding="utf-8"))
    assert found.open == []
    assert not {tag for tag, _ in found.tags} & {"script", "iframe", "img", "link", "object", "embed", "form", "base"}
    for _, attributes in found.tags:
        assert not set(attributes) & FETCHING
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in path.read_text(encoding="utf-8")
    assert "@import" not in path.read_text(encoding="utf-8")


def test_the_policy_forbids_everything_but_the_style_sheet_of_the_page() -> None:
    html = report_html(full_report())
    policy = next(
        a["content"] for t, a in Page(html).tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_the_same_data_give_the_same_bytes_and_are_left_as_they_were(tmp_path: Path) -> None:
    data = full_report()
    before = copy.deepcopy(data)
    first = render_report(data, out=tmp_path / "a.html").read_bytes()
    assert first == render_report(json.loads(json.dumps(data)), out=tmp_path / "b.html").read_bytes()
    assert data == before
    assert render_report(data, out=tmp_path / "a.html").read_bytes() == first


def test_the_report_tells_the_whole_story() -> None:
    text = page(full_report()).text
    for words in (
        "winback-demo",
        "Bring back customers who went quiet",
        "Promote double-points",
        "Repurchase 14.9% against 10.9% in control: +4.0 pp, 95% interval [+1.9, +6.1].",
        "Double points bring quiet customers back",
        "30 days from assignment",
        "Unsubscribed may rise by at most 1.5 pp; Margin per customer may fall by at most 0.50 EUR",
        "1 (fixed horizon)",
        "8,000 customers assigned",
        "5,940 messages sent",
        "+2.1 pp lift to expect",
        "< 0.0001",
        "+0.77 EUR",
        "nothing varies",
        "Margin less messages and offers, per customer",
        "no zone",
        "Changed: campaigns/book/winback-demo.yaml",
        "winback-demo:1",
        "Methods: score; Welch t.",
    ):
        assert words in text, words


def test_truth_stands_beside_the_estimate_and_says_whether_the_interval_holds_it() -> None:
    data = full_report()
    text = page(data).text
    assert "+4.5 pp, inside" in text
    assert "+20.0 pp, outside" in text
    assert "invented" in text
    del data["truth"]
    without = page(data)
    assert "invented" not in without.text
    assert not [1 for _, attributes in without.tags if attributes.get("class") == "truth"]
    data["truth"] = {"double-points": 0.045}
    assert "+4.5 pp, inside" in page(data).text


def test_every_gate_stands_with_value_threshold_and_outcome() -> None:
    text = page(full_report()).text
    assert "Integrity The checks under health, above, 1 could not be made 2 of 3 ✓ passed" in text
    assert "Size About floor 2,000 ≥ 350 ✓ passed" in text
    assert "Effect Repurchase: p, adjusted for the number of arms ≤ 0.05 0.0004 ✓ < 0.0001 ✓" in text
    assert "Margin gained per customer, with 80% confidence at least > 0.00 EUR +0.53 EUR ✓ −1.74 EUR ✕" in text
    assert "Worth it Repurchase: lift against the smallest one worth acting on ≥ +1.5 pp +4.0 pp ✓ –" in text
    assert "Harm Unsubscribed: worst case with 95% confidence < +1.5 pp +0.43 pp ✓" in text
    assert "Choice About expected_loss 0.0 pp ≤ +0.15 pp ✓ passed" in text
    assert "Feedback About fixed_split – – ✓ passed" in text


def test_health_is_shown_with_and_without_a_decision() -> None:
    data = full_report()
    assert "About srm_assigned 0.370 ≥ 0.001 ✓ passed" in page(data).text
    assert "Odd thing 1,234 – – not checked" in page(data).text
    del data["decision"]
    data["health"] |= {"srm_p": 0.00001}
    text = page(data).text
    assert "Split of the assigned customers is as planned (p) < 0.0001 ≥ 0.001 ✕ failed" in text
    assert "Share of control that was reached by messages 0 ≤ 0.01 ✓ passed" in text
    assert "Arms were alike before the start (p) – ≥ 0.001 – not checked" in text
    assert "Not decided yet" in text


def test_a_check_of_something_that_was_not_measured_keeps_its_plain_numbers() -> None:
    checks = [reason("maturity", "new_kind_of_check", 12.5, 20.0, False)]
    text = page({"arms": {}, "results": [], "decision": {"verdict": "keep_testing", "reasons": checks}}).text
    assert "Maturity About new_kind_of_check 12.5 20 ✕ failed" in text
    assert "Health of the experiment" not in text


def test_charts_have_a_table_beside_them_and_every_id_is_used_once() -> None:
    found = page(full_report())
    charts = [attributes for tag, attributes in found.tags if tag == "svg"]
    assert len(charts) == 6  # primary, others and funnel, each for wide and narrow pages
    assert all(attributes["role"] == "img" for attributes in charts)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {name for _, a in found.tags for name in (a.get("aria-labelledby") or "").split()}
    assert named <= set(ids)
    assert len([1 for tag, _ in found.tags if tag == "caption"]) == len([1 for tag, _ in found.tags if tag == "table"])


def test_the_diff_is_shown_line_by_line_and_not_by_colour_alone() -> None:
    spans = [
        a["class"]
        for t, a in page(full_report()).tags
        if t == "span" and a.get("class") in ("added", "removed", "file", "place")
    ]
    assert spans == ["file", "file", "place", "removed", "added"]
    assert "- weight: 25%" in page(full_report()).text


def test_no_text_of_the_data_can_become_markup() -> None:
    evil = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>"
    data = full_report()
    for key in ("campaign", "description", "owner", "hypothesis", "diff", "as_of", "currency", "experiment"):
        data[key] = evil
    data["changed_files"] = [evil]
    data["arms"] = {evil: {"assigned": 1, "mature": 1, "offer": evil, "steps": evil}}
    data["funnel"] = {evil: {"sent": 1, "skipped": {evil: 2}}}
    data["health"] = {evil: 1.0}
    data["results"] = [result(evil, "mean", evil, (1.0, 2.0, 0.0, 1.0), method=evil, status=evil)]
    data["decision"] = {
        "verdict": evil,
        "arm": evil,
        "reasons": [{"gate": evil, "code": evil, "text": evil, "passed": True}],
    }
    found = page(data)
    assert not {tag for tag, _ in found.tags} & {"script", "img"}
    assert found.text.count("<script>alert(1)</script>") > 10


@pytest.mark.parametrize("verdict", [*VERDICTS, "something new"])
def test_every_verdict_has_a_headline_and_says_what_failed(verdict: str) -> None:
    data = full_report()
    data["decision"] = decision() | {"verdict": verdict, "arm": "deep-discount" if verdict == "stop_harm" else None}
    text = page(data).text
    expected = VERDICTS.get(verdict)
    assert (
        expected.headline.format(arm=data["decision"]["arm"] or "an arm") if expected else "Not decided yet"
    ) in text
    assert "First check that failed: about incremental_margin." in text
    data["decision"]["reasons"] = []
    assert "First check that failed" not in page(data).text


def test_a_bare_measurement_makes_a_report_too() -> None:
    found = page(measurement())
    assert "Not decided yet" in found.text
    assert "repurchase in control" in found.text
    assert "How the decision was made" not in found.text
    assert "What changed" not in found.text


def test_an_experiment_without_results_yet_says_so() -> None:
    text = page({"arms": {"a": {"assigned": 5, "mature": 0}}, "results": []}).text
    assert "Nothing has been measured yet." in text
    assert "Campaign report" in text


def test_rows_without_numbers_say_why() -> None:
    row = result("repurchase", "proportion", "a", (0.1, 0.1, 0.0, 0.0)) | dict.fromkeys(
        ("arm_value", "control_value", "difference", "low", "high", "p_value", "p_adjusted", "relative_lift")
    )
    text = page({"arms": {"a": {}}, "results": [row | {"status": "insufficient_data"}], "truth": {"b": 0.1}}).text
    assert "too few data" in text
    both = [row | {"status": "insufficient_data"}, result("repurchase", "proportion", "b", (0.2, 0.1, 0.05, 0.15))]
    assert page({"arms": {"a": {}}, "results": both, "truth": {"b": 0.1}}).text.count("too few data") >= 2


def test_the_output_of_decide_is_understood_as_it_comes() -> None:
    decided = {"campaign": "winback-demo", "measurement": measurement(), "decision": decision(), "diff": ""}
    text = page(decided).text
    assert "Promote double-points" in text
    assert "d-1" in text


def test_money_ratio_and_relative_effects_are_written_in_their_units() -> None:
    data = full_report()
    data["design"] |= {"primary": "margin", "minimum_effect": {"value": 0.1, "kind": "relative"}, "looks": 4}
    data["design"]["guardrails"] = []
    text = page(data).text
    assert "Margin per customer, against control" in text
    assert "+10.0% of control" in text
    assert "4 (O'Brien-Fleming spending)" in text
    assert "Difference from control, EUR" in text
    data["design"] |= {"primary": "orders", "minimum_effect": {"value": 0.0}}
    assert "Worth acting on from" not in page(data).text


@pytest.mark.parametrize(
    "funnel",
    [
        {"funnel": {"a": {"email": {"sent": 3, "claimed": 1}, "sms": {"sent": 2, "skipped": {"late": 4}}}}},
        {"funnel": {"a": {"planned": 10, "sent": 5, "pending": 1, "skipped": 4}}},
        {"messages": {"planned": 10, "sent": 5, "sending": 1, "skipped": {"late": 4}}},
        {"messages": {"planned": 10, "sent": 5, "pending": 1, "skipped": 4}, "skipped": {"late": 4}},
    ],
)
def test_messages_are_counted_by_arm_by_channel_or_all_together(funnel: dict[str, Any]) -> None:
    text = page(measurement() | funnel).text
    assert re.search(r"(a|all arms) 10 5 1 4 ", text)


def test_a_campaign_without_messages_has_no_funnel_chart() -> None:
    data = full_report() | {"funnel": {arm: {"planned": 0} for arm in ARMS}}
    assert len([1 for tag, _ in page(data).tags if tag == "svg"]) == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "arms: a mapping of arms expected"),
        ({"arms": {}, "results": None}, "results: a list of results expected"),
        ({"arms": {}, "results": [{"metric": "m", "arm": "a"}]}, r"results\[0\]: control, kind missing"),
    ],
)
def test_data_that_are_no_measurement_are_refused_and_nothing_is_written(
    data: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ReportError, match=message):
        render_report(data, out=tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
