"""The report in a real browser: it fetches nothing, fits every width, and needs no scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Page, chromium_page, find_chromium
from tests.conftest import skip_or_fail
from tests.web.sample import full_report
from web.report import render_report

pytestmark = pytest.mark.chromium

WIDTHS = (1280, 768, 360)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    binary = find_chromium()
    if binary is None:
        skip_or_fail("chromium", "no chromium on the PATH")
    with chromium_page(str(binary), tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = full_report()
    data["description"] = "Bring-back-customers-with-one-very-long-word-that-cannot-be-broken-anywhere-" * 2
    return render_report(data, out=tmp_path_factory.mktemp("report") / "report.html")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_asks_for_nothing_but_itself_and_complains_of_nothing(page: Page, report: Path, width: int) -> None:
    page.open(report.as_uri(), width=width)
    assert page.requests == [report.as_uri()]
    assert page.complaints == []


@pytest.mark.parametrize("width", [*WIDTHS, 320])
def test_nothing_sticks_out_of_the_page(page: Page, report: Path, width: int) -> None:
    page.open(report.as_uri(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.querySelectorAll('.table')].map(e => e.scrollWidth - e.clientWidth)") == [
        0
    ] * page.evaluate("document.querySelectorAll('.table').length")


@pytest.mark.parametrize(("width", "shown"), [(1280, "wide"), (768, "wide"), (360, "narrow")])
def test_the_chart_that_fits_is_shown_and_its_letters_can_be_read(
    page: Page, report: Path, width: int, shown: str
) -> None:
    page.open(report.as_uri(), width=width)
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().width > 0)"
        ".map(e => [e.parentElement.className, e.getBoundingClientRect().width / e.viewBox.baseVal.width])"
    )
    assert len(sizes) == 3
    for name, scale in sizes:
        assert name == shown
        assert scale >= 0.8  # letters of 12 px stay above 9


def test_the_style_sheet_is_applied_although_the_policy_forbids_all_others(page: Page, report: Path) -> None:
    page.open(report.as_uri(), width=1280)
    assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") == "900px"


def test_the_policy_stops_what_an_intruder_would_add(page: Page, report: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    evil = "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/pixel'></main>"
    broken.write_text(report.read_text(encoding="utf-8").replace("</main>", evil), encoding="utf-8")
    page.open(broken.as_uri(), width=1280)
    assert page.evaluate("document.title") == "winback-demo: Promote double-points"
    assert any("Content Security Policy" in words for words in page.complaints)


def test_the_report_reads_the_same_without_scripts_and_prints(page: Page, report: Path, tmp_path: Path) -> None:
    page.open(report.as_uri(), width=1280)
    with_scripts = page.screenshot(tmp_path / "a.png").read_bytes()
    page.open(report.as_uri(), width=1280, scripts=False)
    assert page.screenshot(tmp_path / "b.png").read_bytes() == with_scripts
    assert page.pdf(tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
