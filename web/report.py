"""The report of an experiment: one HTML file that needs nothing else, neither scripts nor network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from web.pages import render_page
from web.report_view import make_view


def render_report(data: Mapping[str, Any], *, out: Path) -> Path:
    """Write the report of one experiment to `out` (its folder is made where missing) and give its path back.

    `data` is the JSON of `measure --json` (experiment, as_of, arms, health, results) or of `decide --json`, which holds
    it under measurement. Further keys, all optional: campaign, description, owner, hypothesis, currency; design
    (Design.to_json); decision (Verdict.to_json and decision_id); funnel {arm: {planned, sent, failed, in_doubt,
    pending, skipped: n or {reason: n}}}, channels in between are fine, or messages with the same keys for all arms
    together; arms may also hold offer and steps (texts); diff (a unified diff); changed_files; truth {arm: lift or
    {lift}}.

    The file has no scripts, fetches nothing and forbids both by its content security policy. The same data give the
    same bytes. Raises ReportError where `arms` or `results` are not what a measurement gives.
    """
    page = report_html(data)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.part")
    aside.write_text(page, encoding="utf-8", newline="\n")
    os.replace(aside, out)
    return out


def report_html(data: Mapping[str, Any]) -> str:
    """The same report as text."""
    return render_page("report.html.j2", view=make_view(data))
