"""What the report says of the decision: the health of the experiment and the gates, value against threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from web import numbers, report_words
from web.report_data import Plain, ReportData
from web.tables import Cell, Table

PASSED: Final = {True: Cell("✓ passed", "good"), False: Cell("✕ failed", "bad"), None: Cell("– not checked", "calm")}
SIGNS: Final = {True: ("✓", "good"), False: ("✕", "bad"), None: ("–", "calm")}
_ARM_GATES: Final = ("efficacy", "practical", "margin", "harm")
_LAST_GATES: Final = ("choice", "shrinkage", "feedback")
_P_VALUES: Final = frozenset({"adjusted_p", "significantly_worse", "srm_assigned", "srm_analysed", "balance"})
_SHARES: Final = frozenset(
    {"contamination", "crossover", "delivery_gap", "delivered", "nothing_delivered", "information"}
)
_COUNTS: Final = frozenset({"planned_look", "planned_size", "floor", "conversions"})


def health_table(data: ReportData) -> Table | None:
    """The checks of the experiment itself, each against its threshold: the decision's, else the measurement's."""
    rows: list[list[Cell | str]] = [
        [_sentence(str(reason.get("text") or reason.get("code"))), *_outcome(data, reason)]
        for reason in _reasons(data, "integrity")
    ]
    decided = bool(rows)
    for key, value in data.health.items():
        if decided and key in report_words.HEALTH:
            continue
        label, threshold, at_least = report_words.HEALTH.get(key, (key.replace("_", " ").capitalize(), None, True))
        text = numbers.p_value(value) if key.endswith("_p") else _plain(value)
        passed = None if threshold is None or value is None else value >= threshold if at_least else value <= threshold
        wanted = numbers.NOTHING if threshold is None else f"{'≥' if at_least else '≤'} {threshold:g}"
        rows.append([label, text, wanted, PASSED[passed]])
    return Table.of("Health of the experiment", ("Check", "Value", "Wanted", "Outcome"), rows) if rows else None


def gates_tables(data: ReportData) -> tuple[tuple[str, Table], ...]:
    """Every gate of the decision with value, threshold and outcome, in the order of the rule: (heading, table).

    The checks of the arms stand side by side, one column an arm.
    """
    reasons = list(data.decision.get("reasons") or ())
    per_arm = [reason for reason in reasons if reason.get("gate") in _ARM_GATES and reason.get("arm")]
    before = [r for r in reasons if r not in per_arm and r.get("gate") not in ("integrity", *_LAST_GATES)]
    last = [reason for reason in reasons if reason.get("gate") in _LAST_GATES]
    integrity = _integrity_row(data)
    first = [*([integrity] if integrity else []), *(_gate_row(data, reason) for reason in before)]
    columns = ("Gate", "Check", "Value", "Wanted", "Outcome")
    found = {
        "The experiment": Table.of("Gates of the experiment", columns, first) if first else None,
        "Each arm": _arm_matrix(data, per_arm) if per_arm else None,
        "The choice": Table.of("Gates of the choice", columns, [_gate_row(data, r) for r in last]) if last else None,
    }
    return tuple((heading, table) for heading, table in found.items() if table is not None)


def _arm_matrix(data: ReportData, reasons: Sequence[Plain]) -> Table:
    arms = list(dict.fromkeys(str(reason["arm"]) for reason in reasons))
    checks: dict[tuple[str, str, str], dict[str, Plain]] = {}
    for reason in reasons:
        key = (str(reason.get("gate")), str(reason.get("code")), str(reason.get("metric") or ""))
        checks.setdefault(key, {})[str(reason["arm"])] = reason
    rows: list[list[Cell | str]] = []
    for (gate, code, metric), by_arm in checks.items():
        first = next(iter(by_arm.values()))
        words = _sentence(report_words.check(code, metric, str(first.get("text") or code)))
        wanted = report_words.threshold(code, _gate_number(data, first, "threshold"))
        cells = [_signed_cell(data, by_arm[arm]) if arm in by_arm else Cell(numbers.NOTHING, "calm") for arm in arms]
        rows.append([report_words.GATES.get(gate, gate), Cell(words, "words"), wanted, *cells])
    return Table.of("Gates of each arm", ("Gate", "Check", "Wanted", *arms), rows)


def _signed_cell(data: ReportData, reason: Plain) -> Cell:
    sign, css = SIGNS.get(reason.get("passed"), SIGNS[None])
    return Cell(f"{_gate_number(data, reason, 'value')} {sign}", f"num {css}")


def _integrity_row(data: ReportData) -> list[Cell | str] | None:
    found = [reason.get("passed") for reason in _reasons(data, "integrity")]
    if not found:
        return None
    open_checks = found.count(None)
    rest = f", {open_checks} could not be made" if open_checks else ""
    words = Cell(f"The checks under health, above{rest}", "words")
    return [
        report_words.GATES["integrity"],
        words,
        f"{found.count(True)} of {len(found)}",
        "",
        PASSED[False not in found],
    ]


def _gate_row(data: ReportData, reason: Plain) -> list[Cell | str]:
    gate = str(reason.get("gate"))
    words = Cell(_sentence(str(reason.get("text") or reason.get("code") or "")), "words")
    return [report_words.GATES.get(gate, gate), words, *_outcome(data, reason)]


def _outcome(data: ReportData, reason: Plain) -> list[Cell | str]:
    wanted = report_words.threshold(str(reason.get("code")), _gate_number(data, reason, "threshold"))
    return [_gate_number(data, reason, "value"), wanted, PASSED.get(reason.get("passed"), PASSED[None])]


def _reasons(data: ReportData, gate: str) -> list[Plain]:
    return [reason for reason in data.decision.get("reasons") or () if reason.get("gate") == gate]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(value: float | None) -> str:
    return numbers.NOTHING if value is None else numbers.plain(float(value))


def _gate_number(data: ReportData, reason: Plain, key: str) -> str:
    value, code, metric = reason.get(key), str(reason.get("code")), str(reason.get("metric") or "")
    if value is None:
        return numbers.NOTHING
    if code in _P_VALUES:
        return numbers.p_value(value) if key == "value" else numbers.plain(value)
    if code in _SHARES:
        return numbers.share(value)
    if code in _COUNTS:
        return numbers.count(value)
    metric = metric or data.primary
    if code in ("shrunk_lift", "expected_loss") or data.kind(metric):
        return data.step(metric, value)
    return _plain(value)
