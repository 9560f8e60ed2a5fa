"""What a report is made from, read from plain JSON with everything optional made explicit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from web import report_words

Plain = Mapping[str, Any]
NET_MARGIN: Final = "net_margin"
"""The name under which the margin less the cost of messages and offers stands beside the metric margin."""
UNDER_WAY: Final = frozenset({"claimed", "sending"})
"""States of messages that are pending for whoever reads a report."""


class ReportError(Exception):
    """The data of a report are not what a measurement gives: says which key, what was expected."""


@dataclass(frozen=True)
class ReportData:
    """The data of one report. Results are rows of `measure --json`; funnel: arm -> state -> messages.

    `truth`: arm -> true lift of the primary metric, where it is known. `raw` holds what is shown as it came.
    """

    arms: Mapping[str, Plain]
    results: Sequence[Plain]
    health: Mapping[str, float | None]
    design: Plain
    decision: Plain
    funnel: Mapping[str, Mapping[str, int]]
    skipped: Mapping[str, int]
    truth: Mapping[str, float]
    raw: Plain

    @property
    def primary(self) -> str:
        """The metric that decides: the design's, else the first one measured."""
        first = self.results[0]["metric"] if self.results else "repurchase"
        return str(self.design.get("primary") or self.raw.get("primary") or first)

    @property
    def control(self) -> str:
        """The name of the control arm."""
        return str(self.design.get("control") or next((row["control"] for row in self.results), "control"))

    @property
    def confidence(self) -> str:
        """The level of the intervals, as "95%"."""
        return f"{100 * (1 - float(self.design.get('alpha') or 0.05)):g}%"

    @property
    def currency(self) -> str:
        """The unit of money ("" where it is not known)."""
        return str(self.raw.get("currency") or "")

    def kind(self, metric: str) -> str:
        """The kind of a metric that was measured ("" for others)."""
        return next((str(row["kind"]) for row in self.results if row["metric"] == metric), "")

    def difference(self, metric: str, value: float | None) -> str:
        """A measured difference as people read it: all of a metric have the same decimals."""
        kind = self.kind(metric)
        return report_words.difference(metric, kind, value, self.currency, digits=self._decimals(metric, kind))

    def step(self, metric: str, value: float, *, kind: str = "") -> str:
        """A difference that stands alone, such as a threshold, with as many decimals as it needs itself."""
        kind = kind or self.kind(metric)
        digits = report_words.decimals(kind, abs(value))
        return report_words.difference(metric, kind, value, self.currency, digits=digits)

    def interval(self, row: Plain) -> str:
        """The interval of a result, in the unit and with the decimals of its difference."""
        kind = str(row["kind"])
        digits = self._decimals(str(row["metric"]), kind)
        return report_words.interval(kind, row.get("low"), row.get("high"), digits=digits)

    def _decimals(self, metric: str, kind: str) -> int:
        found = [abs(row["difference"]) for row in self.results if row["metric"] == metric and row.get("difference")]
        return report_words.decimals(kind, max(found, default=0.0))


def read_report_data(data: Plain) -> ReportData:
    """The data with every optional part in its place; what lies under "measurement" counts as if it lay outside.

    Raises ReportError where `arms` or `results` are missing or not of the kind that `measure --json` writes.
    """
    data = {**(data.get("measurement") or {}), **data}
    for key, kind, name in (("arms", Mapping, "a mapping of arms"), ("results", Sequence, "a list of results")):
        if not isinstance(data.get(key), kind):
            raise ReportError(f"report: {key}: {name} expected as `measure --json` gives it, got {data.get(key)!r:.60}")
    for i, row in enumerate(data["results"]):
        missing = {"metric", "kind", "arm", "control"} - set(row)
        if missing:
            raise ReportError(f"report: results[{i}]: {', '.join(sorted(missing))} missing; expected a result row")
    funnel = data.get("funnel") or ({"all arms": data["messages"]} if data.get("messages") else {})
    return ReportData(
        arms=data["arms"],
        results=[*data["results"], *({**row, "metric": NET_MARGIN} for row in data.get("margin") or ())],
        health=data.get("health") or {},
        design=data.get("design") or {},
        decision=data.get("decision") or {},
        funnel={str(arm): _states(funnel[arm]) for arm in sorted(funnel, key=_order(data["arms"]))},
        skipped=_skip_reasons(data, funnel),
        truth={str(arm): _lift(value) for arm, value in (data.get("truth") or {}).items()},
        raw=data,
    )


def _states(counts: Plain) -> dict[str, int]:
    """State -> messages of one arm, whether they came so, by channel, or with reasons below "skipped"."""
    found: dict[str, int] = {}
    for name, value in counts.items():
        if not isinstance(value, Mapping):
            state = "pending" if name in UNDER_WAY else name
            found[state] = found.get(state, 0) + int(value)
        elif name == "skipped":
            found[name] = found.get(name, 0) + sum(int(n) for n in value.values())
        else:
            for state, n in _states(value).items():
                found[state] = found.get(state, 0) + n
    if "planned" not in found:
        found["planned"] = sum(found.values())
    return found


def _order(arms: Plain) -> Callable[[str], int]:
    """The place of an arm in the file; what is not there comes last."""
    places = {arm: place for place, arm in enumerate(arms)}
    return lambda arm: places.get(arm, len(places))


def _skip_reasons(data: Plain, funnel: Plain) -> dict[str, int]:
    """Why messages were not sent: reason -> messages, most frequent first."""
    reasons: dict[str, int] = {}
    sources = [counts.get("skipped") for counts in funnel.values()] + [data.get("skipped")]
    for source in sources:
        for reason, n in source.items() if isinstance(source, Mapping) else ():
            reasons[str(reason)] = reasons.get(str(reason), 0) + int(n)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _lift(value: object) -> float:
    return float(value["lift"] if isinstance(value, Mapping) else value)  # type: ignore[arg-type]  # JSON number
