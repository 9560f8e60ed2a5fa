"""Feedback: what a decision changes in the campaign's file: proposed as a patch, or made in place; and taken back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from campaigns.errors import CampaignError
from campaigns.model import Campaign
from campaigns.problems import BookErrors
from campaigns.words import CONTROL
from campaigns.write_back import Edit, Patch, apply, propose, undo
from experiments.metrics import METRICS
from warehouse.ledger.audit import audit_log, record_audit

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from experiments.evidence import Verdict
    from flows.steps.measure_experiment import Measurement
    from flows.wiring import Workspace

ACTOR: Final = "retain decide"
_CHANGING: Final = ("promote", "stop_harm", "demote")
"""The verdicts that have something to say to the file."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became of a decision: the mode, the difference, the patch file (propose) or the changed files (apply)."""

    mode: str
    diff: str = ""
    patch_file: Path | None = None
    changed_files: tuple[Path, ...] = ()
    problem: str = ""
    """Why the file could not be changed, where it could not: the decision stands all the same."""


def give_feedback(
    ws: Workspace, measurement: Measurement, verdict: Verdict, *, decided_at: datetime, now: datetime
) -> Feedback:
    """Do what the campaign's feedback mode says about `verdict`; a second time changes nothing.

    A file that bears the decision's note was changed by it already, and one that was given its bytes back since is
    to stay so: what somebody made of a decision is not made again.

    Only promote, stop_harm and demote have something to say to the file. A file that no longer describes the measured
    experiment (its design changed since) is left alone, and so is one that is gone. Raises BookErrors for a broken one.
    """
    from flows.steps.ledger_standing import find_epoch

    try:
        file = ws.campaign(measurement.design.campaign)
    except BookErrors:
        raise
    except CampaignError as error:  # the file is gone; the decision stands
        return Feedback("off", problem=str(error) if verdict.verdict in _CHANGING else "")
    mode = file.campaign.feedback.mode
    edits = plan_edits(file.campaign, measurement, verdict, decided_at=decided_at)
    settled = Edit(("version",), file.campaign.version) in edits or _taken_back(ws, file.campaign.name, decided_at)
    if mode == "off" or not edits or settled or find_epoch(ws, file).experiment_id != measurement.design.experiment_id:
        return Feedback(mode)
    try:
        return _change(ws, file, edits, verdict, measurement.design.experiment_id, (decided_at, now))
    except CampaignError as error:
        return Feedback(mode, problem=str(error))


def _change(
    ws: Workspace,
    file: CampaignFile,
    edits: list[Edit],
    verdict: Verdict,
    experiment_id: str,
    times: tuple[datetime, datetime],
) -> Feedback:
    """Propose the edits, or make them, as the file's own feedback mode says."""
    mode = file.campaign.feedback.mode
    decided_at, now = times
    if mode == "propose":
        out = ws.root / ".retain" / "proposals" / f"{experiment_id.replace(':', '-')}.patch"
        label = file.path.relative_to(ws.root).as_posix()
        patch = propose(file.path, edits, expected_sha256=file.text_sha256, out=out, label=label)
        return Feedback(mode, patch.diff, patch.file)
    patch = apply(
        file.path,
        edits,
        expected_sha256=file.text_sha256,
        history=history_of(ws),
        reason=_note(verdict, decided_at, ""),
    )
    if patch.changed:
        _check_and_record(ws, file.campaign.name, patch, now)
    return Feedback(mode, patch.diff, None, (patch.path,) if patch.changed else ())


def plan_edits(campaign: Campaign, measurement: Measurement, verdict: Verdict, *, decided_at: datetime) -> list[Edit]:
    """The scalars that the verdict changes: weights, control, expected lift and a note; or the status."""
    if verdict.verdict not in _CHANGING:
        return []
    note = Edit(("version",), _note(verdict, decided_at, measurement.design.experiment_id))
    if verdict.verdict != "promote":
        return [Edit(("status",), "paused"), note]
    if verdict.arm is None:
        return []
    holdback = Decimal(str(campaign.feedback.holdback))
    edits = [
        Edit(("arms", name, "weight"), _percent(1 - holdback if name == verdict.arm else Decimal(0)))
        for name in campaign.arms
    ]
    edits.append(Edit(("experiment", CONTROL), _percent(holdback)))
    if verdict.expected_lift_shrunk is not None:
        lift = _difference(verdict.expected_lift_shrunk, measurement.design.primary)
        edits.append(Edit(("experiment", "expected_lift"), lift))
    return [*edits, note]


def undo_write_back(ws: Workspace, campaign: str, *, now: datetime) -> Path:
    """Give the campaign's file the bytes back that it had before the last change retain made to it.

    Raises WriteBackError where there is nothing to take back, or where the file was changed since.
    """
    path = ws.campaign(campaign).path
    patch = undo(history_of(ws), path=path)
    with ws.ledger.begin() as tx:
        record_audit(tx, at=now, actor="retain undo", action="undo", subject=campaign, detail={"diff": patch.diff})
    return patch.path


def history_of(ws: Workspace) -> Path:
    """Where the ways back are kept."""
    return ws.root / ".retain" / "history"


def _taken_back(ws: Workspace, campaign: str, decided_at: datetime) -> bool:
    """Whether somebody undid a change of the campaign's file after the decision."""
    with ws.ledger.read() as tx:
        return any(row.action == "undo" and row.at >= decided_at for row in audit_log(tx, subject=campaign))


def _check_and_record(ws: Workspace, campaign: str, patch: Patch, now: datetime) -> None:
    """The changed file must still be a campaign; otherwise it gets its former bytes back before anybody reads it."""
    try:
        ws.campaign(campaign)
    except Exception:
        undo(history_of(ws), path=patch.path)
        raise
    with ws.ledger.begin() as tx:
        record_audit(tx, at=now, actor=ACTOR, action="write back", subject=campaign, detail={"diff": patch.diff})


def _note(verdict: Verdict, decided_at: datetime, experiment: str) -> str:
    what = {"promote": "promoted", "stop_harm": "stopped for harm:", "demote": "demoted"}[verdict.verdict]
    return f"{decided_at.date().isoformat()} {what} {verdict.arm or ''} {experiment}".strip()


def _percent(share: Decimal) -> str:
    return f"{(share * 100).normalize():f}%"


def _difference(value: float, metric: str) -> str:
    if METRICS[metric].kind == "proportion":
        return f"{value * 100:.2f}pp"
    return f"{value:.4g}"
