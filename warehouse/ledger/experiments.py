"""Experiments: one frozen design per campaign epoch, at most one running per campaign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from campaigns.words import DEFAULT_TOPIC
from warehouse.ledger import schema
from warehouse.ledger.errors import LedgerError

_T = schema.experiments


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """One experiment as recorded. `design` is what `experiments.design.Design.to_json` wrote."""

    experiment_id: str
    campaign: str
    epoch: int
    salt: str
    design: Mapping[str, Any]
    design_hash: str
    topic: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    end_reason: str | None


def experiment_id_of(campaign: str, epoch: int) -> str:
    """Give the id of a campaign's epoch: "campaign:epoch"."""
    return f"{campaign}:{epoch}"


def start_experiment(
    tx: sa.Connection, design: Mapping[str, Any], *, design_hash: str, started_at: datetime, topic: str = DEFAULT_TOPIC
) -> ExperimentRow:
    """Record a design (its JSON names campaign, epoch and salt) as the campaign's running experiment.

    Calling it again with the same design gives the same row. `topic`: what its messages are about, which customers may
    opt out of.

    Raises LedgerError when the epoch exists with another design, or when another epoch of the campaign still runs.
    """
    campaign, epoch = str(design["campaign"]), int(design["epoch"])
    experiment_id = experiment_id_of(campaign, epoch)
    running = current_experiment(tx, campaign)
    if running is not None and running.epoch != epoch:
        raise LedgerError(
            f"campaign {campaign}: cannot start epoch {epoch} while epoch {running.epoch} runs; end that one first"
        )
    found = _find(tx, experiment_id)
    if found is not None:
        if (found.design_hash, found.salt, found.status) != (design_hash, str(design["salt"]), "running"):
            raise LedgerError(
                f"experiment {experiment_id}: recorded with another design or ended already "
                f"(status {found.status}); start epoch {latest_epoch(tx, campaign) + 1}"
            )
        return found
    tx.execute(
        sa.insert(_T).values(
            experiment_id=experiment_id,
            campaign=campaign,
            epoch=epoch,
            salt=str(design["salt"]),
            design=dict(design),
            design_hash=design_hash,
            topic=topic,
            started_at=started_at,
        )
    )
    has_budget = sa.select(schema.budgets.c.campaign).where(schema.budgets.c.campaign == campaign)
    if tx.execute(has_budget).first() is None:
        tx.execute(sa.insert(schema.budgets).values(campaign=campaign, messages=0, cost_micros=0))
    return experiment(tx, experiment_id)


def end_experiment(tx: sa.Connection, experiment_id: str, *, reason: str, ended_at: datetime) -> bool:
    """End a running experiment, for good; False when it had ended before.

    Its pending messages stay: they were promised. Skip them with `skip` where they should not go out.
    """
    experiment(tx, experiment_id)
    done = tx.execute(
        sa.update(_T)
        .where(_T.c.experiment_id == experiment_id, _T.c.status == "running")
        .values(status="ended", ended_at=ended_at, end_reason=reason)
    )
    return done.rowcount == 1


def experiment(tx: sa.Connection, experiment_id: str) -> ExperimentRow:
    """Give one experiment. Raises LedgerError when there is none of that id."""
    found = _find(tx, experiment_id)
    if found is None:
        raise LedgerError(f"no experiment {experiment_id} in the ledger; expected an id such as winback-90d:1")
    return found


def experiments(tx: sa.Connection, campaign: str | None = None) -> list[ExperimentRow]:
    """List experiments by campaign and epoch."""
    query = sa.select(_T).order_by(_T.c.campaign, _T.c.epoch)
    if campaign is not None:
        query = query.where(_T.c.campaign == campaign)
    return [ExperimentRow(**row) for row in tx.execute(query).mappings()]


def current_experiment(tx: sa.Connection, campaign: str) -> ExperimentRow | None:
    """Give the campaign's running experiment."""
    query = sa.select(_T).where(_T.c.campaign == campaign, _T.c.status == "running")
    row = tx.execute(query).mappings().first()
    return None if row is None else ExperimentRow(**row)


def latest_epoch(tx: sa.Connection, campaign: str) -> int:
    """Give the number of the campaign's last epoch, 0 before the first."""
    return int(tx.execute(sa.select(sa.func.max(_T.c.epoch)).where(_T.c.campaign == campaign)).scalar() or 0)


def _find(tx: sa.Connection, experiment_id: str) -> ExperimentRow | None:
    row = tx.execute(sa.select(_T).where(_T.c.experiment_id == experiment_id)).mappings().first()
    return None if row is None else ExperimentRow(**row)
