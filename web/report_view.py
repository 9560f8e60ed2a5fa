"""The report as a page needs it: every text formatted, every table and chart made, nothing left to compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.metrics import METRICS
from web import numbers, report_gates, report_readings, report_results, report_sections, report_words
from web.charts import Charts
from web.report_data import ReportData, read_report_data
from web.tables import Table

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class View:
    """The whole report. What there is nothing to say about is None or empty."""

    title: str
    description: str
    verdict: report_words.Verdict
    headline: str
    summary: str
    paused: Pairs
    figures: Pairs
    hypothesis: str
    plan: Pairs
    arms: Table
    funnel: Table | None
    funnel_charts: Charts
    skipped: Table | None
    primary: Table | None
    primary_name: str
    primary_charts: Charts
    with_truth: bool
    others: Table | None
    other_charts: Charts
    readings: tuple[report_readings.Reading, ...]
    health: Table | None
    gates: tuple[tuple[str, Table], ...]
    diff: Pairs
    changed_files: tuple[str, ...]
    methods: tuple[str, ...]
    provenance: Pairs


def make_view(raw: Mapping[str, Any]) -> View:
    """The view of a report's data (see render_report). Missing parts are left out; nothing is made up."""
    data = read_report_data(raw)
    raw = data.raw
    rows = [row for row in data.results if row["metric"] == data.primary]
    others = [row for row in data.results if row["metric"] != data.primary]
    verdict = report_words.VERDICTS.get(str(data.decision.get("verdict")), report_words.NO_VERDICT)
    return View(
        title=str(raw.get("campaign") or data.design.get("campaign") or "Campaign"),
        description=str(raw.get("description") or ""),
        verdict=verdict,
        headline=verdict.headline.format(arm=data.decision.get("arm") or "an arm"),
        summary=_summary(data, verdict),
        paused=tuple((str(scope), str(why)) for scope, why in sorted((raw.get("paused") or {}).items())),
        figures=_figures(data, rows),
        hypothesis=str(raw.get("hypothesis") or data.design.get("hypothesis") or ""),
        plan=_plan(data),
        arms=report_sections.arms_table(data),
        funnel=report_sections.funnel_table(data),
        funnel_charts=report_sections.funnel_charts(data),
        skipped=report_sections.skipped_table(data),
        primary=report_results.results_table(data, rows, primary=True),
        primary_name=report_words.metric(data.primary),
        primary_charts=report_results.primary_charts(data, rows),
        with_truth=bool(data.truth),
        others=report_results.results_table(data, others, primary=False),
        other_charts=report_results.other_charts(data, others),
        readings=report_readings.readings(data),
        health=report_gates.health_table(data),
        gates=report_gates.gates_tables(data),
        diff=tuple((_line_class(line), line) for line in str(raw.get("diff") or "").splitlines()),
        changed_files=tuple(str(path) for path in raw.get("changed_files") or ()),
        methods=_methods(data),
        provenance=_provenance(data),
    )


def _summary(data: ReportData, verdict: report_words.Verdict) -> str:
    """What the verdict rests on: the winner's numbers, else the first check that failed."""
    arm = data.decision.get("arm")
    row = next((row for row in data.results if (row["metric"], row["arm"]) == (data.primary, arm)), None)
    if data.decision.get("verdict") == "promote" and row is not None:
        kind, currency = str(row["kind"]), data.currency
        before = report_words.level(data.primary, kind, row.get("control_value"), currency)
        after = report_words.level(data.primary, kind, row.get("arm_value"), currency)
        gain = data.difference(data.primary, row.get("difference"))
        interval = data.interval(row)
        name = report_words.metric(data.primary)
        return f"{name} {after} against {before} in {data.control}: {gain}, {data.confidence} interval {interval}."
    failed = [reason for reason in data.decision.get("reasons") or () if reason.get("passed") is False]
    first = next((str(reason.get("text") or reason.get("code")) for reason in failed), "")
    return f"{verdict.meaning} First check that failed: {first}." if first else verdict.meaning


def _figures(data: ReportData, rows: Sequence[Mapping[str, Any]]) -> Pairs:
    figures = [("customers assigned", numbers.count(sum(arm.get("assigned") or 0 for arm in data.arms.values())))]
    if data.funnel:
        sent = sum(counts.get("sent", 0) + counts.get("delivered", 0) for counts in data.funnel.values())
        figures.append(("messages sent", numbers.count(sent)))
    if rows:
        base = report_words.level(data.primary, str(rows[0]["kind"]), rows[0].get("control_value"), data.currency)
        figures.append((f"{report_words.metric(data.primary).lower()} in {data.control}", base))
    shrunk = data.decision.get("expected_lift_shrunk")
    if shrunk is not None:
        figures.append(("lift to expect (cautious)", data.step(data.primary, shrunk)))
    return tuple(figures)


def _plan(data: ReportData) -> Pairs:
    """What was agreed before the first outcome was seen."""
    design = data.design
    known = METRICS.get(data.primary)
    definition = f": {known.definition}" if known else ""
    pairs = [("Primary metric", f"{report_words.metric(data.primary)}{definition}")]
    if design.get("horizon_days"):
        pairs.append(("Outcome window", f"{numbers.plain(float(design['horizon_days']))} days from assignment"))
    effect = design.get("minimum_effect") or {}
    if effect.get("value"):
        pairs.append(("Worth acting on from", _effect(data, effect)))
    guards = [_guardrail(data, guard) for guard in design.get("guardrails") or ()]
    if guards:
        pairs.append(("Guardrails", "; ".join(guards)))
    if design.get("looks"):
        looks = int(design["looks"])
        pairs.append(("Planned looks", "1 (fixed horizon)" if looks == 1 else f"{looks} (O'Brien-Fleming spending)"))
    if design.get("alpha") and design.get("power"):
        pairs.append(
            ("Error rates", f"alpha {float(design['alpha']):g}, power {numbers.share(design['power'], digits=0)}")
        )
    if data.raw.get("owner"):
        pairs.append(("Owner", str(data.raw["owner"])))
    return tuple(pairs)


def _effect(data: ReportData, effect: Mapping[str, Any]) -> str:
    if effect.get("kind") == "relative":
        return f"{numbers.relative(effect['value'])} of {data.control}"
    return data.step(data.primary, effect["value"])


def _guardrail(data: ReportData, guard: Mapping[str, Any]) -> str:
    name = str(guard["metric"])
    known = METRICS.get(name)
    kind = known.kind if known else data.kind(name)
    rise, fall = guard.get("max_increase_abs"), guard.get("max_decrease_abs")
    way, limit = ("fall", fall) if rise is None else ("rise", rise)
    if guard.get("kind") == "relative":
        margin = f"{numbers.relative(float(limit or 0.0))} of {data.control}".lstrip("+")
    else:
        margin = data.step(name, float(limit or 0.0), kind=kind).lstrip("+")
    return f"{report_words.metric(name)} may {way} by at most {margin}"


def _methods(data: ReportData) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(row["method"]) for row in data.results if row.get("method")))


def _provenance(data: ReportData) -> Pairs:
    named = {
        "Experiment": data.raw.get("experiment") or data.design.get("experiment_id"),
        "As of": numbers.instant(str(data.raw.get("as_of") or "")),
        "Decision": data.decision.get("decision_id") or data.decision.get("id"),
        "Rule version": data.decision.get("rule_version"),
    }
    return tuple((name, str(value)) for name, value in named.items() if value not in (None, ""))


def _line_class(line: str) -> str:
    if line.startswith(("+++", "---")):
        return "file"
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")
