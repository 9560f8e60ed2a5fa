"""Hands points on to the company's loyalty system: a CSV file, every posting in exactly one."""

from __future__ import annotations

import csv
import io
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.errors import CampaignError
from warehouse.ledger.audit import record_audit
from warehouse.ledger.points import Export, begin_export, finish_export

if TYPE_CHECKING:
    from flows.wiring import Workspace

COLUMNS: Final = (
    "posting_key", "customer_id", "points", "kind", "offer", "experiment_id", "order_id", "at", "expires_at",
)  # fmt: skip
"""What the file has; `posting_key` is the same for ever, so that a loyalty system can tell a line it has seen."""


def export_points(ws: Workspace, path: Path, *, now: datetime, actor: str) -> dict[str, Any]:
    """Write every posting that no file has yet into `path`; give the number of the export and its postings.

    Killed at any point it leaves either no file or the whole file; calling it again with the same path finishes it with
    the same bytes. Frozen customers wait. Raises CampaignError where the file exists with other content, LedgerError
    where another file was begun and not finished.
    """
    path = path.absolute()
    with ws.ledger.begin() as tx:
        export = begin_export(tx, str(path), at=now)
        _refuse_other_content(path, export)
    text = _text_of(export)
    _write_whole(path, text)
    with ws.ledger.begin() as tx:
        finish_export(tx, export.export_id, at=now)
        detail = {"export": export.export_id, "postings": len(export.postings)}
        record_audit(tx, at=now, actor=actor, action="points exported", subject="points", detail=detail)
    points = sum(posting.points for posting in export.postings)
    return {
        "export": export.export_id,
        "file": str(path),
        "postings": len(export.postings),
        "points": points,
        "resumed": export.resumed,
    }


def _refuse_other_content(path: Path, export: Export) -> None:
    """Raise where the file is somebody else's; in the transaction, so that nothing was begun then."""
    if path.exists() and not (export.resumed and path.read_text(encoding="utf-8") == _text_of(export)):
        raise CampaignError(f"{path}: exists already; name a new file, nothing was exported")
    if not path.parent.is_dir():
        raise CampaignError(f"{path.parent}: no such folder; nothing was exported")


def _text_of(export: Export) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for posting in export.postings:
        values = [getattr(posting, name) for name in COLUMNS]
        writer.writerow(["" if v is None else v.isoformat() if isinstance(v, datetime) else v for v in values])
    return out.getvalue()


def _write_whole(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
