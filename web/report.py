"""The report of an experiment: one HTML file that needs nothing else, neither scripts nor network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from web.report_view import make_view

FOLDER: Final = Path(__file__).parent / "templates"


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
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (FOLDER / "report.css").read_text(encoding="utf-8").replace("\r\n", "\n")
    return environment.get_template("report.html.j2").render(
        view=make_view(data),
        style=Markup(style),  # noqa: S704 (our own file, nothing of the data in it)
        policy=_policy(style),
    )


def _policy(style: str) -> str:
    """Nothing may be loaded or run; of styles only the page's own sheet, by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
