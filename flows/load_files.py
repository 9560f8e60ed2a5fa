"""Flow load-files: files of customers, orders or events become facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from prefect import flow, task

from flows.run_context import artifact_key, named_by, publish_table, scheduled_at, workspace_of
from flows.steps.load_facts import load_counts, load_customers_from_orders, load_facts


@task(retries=2, retry_delay_seconds=30)
def load(
    table: Literal["customers", "orders", "events"],
    files: list[str],
    renames: Mapping[str, str],
    workspace: str | None,
    now: datetime,
) -> dict[str, int]:
    """Load one table's files. Safe to retry: a load is atomic and idempotent on keys."""
    with workspace_of(workspace) as ws:
        paths = [Path(file) for file in files]
        return load_counts(load_facts(ws, table, paths, renames=renames, now=now))


@task(retries=2, retry_delay_seconds=30)
def derive_customers(
    files: list[str], renames: Mapping[str, str], workspace: str | None, now: datetime
) -> dict[str, int]:
    """Derive customers from files of orders. Safe to retry."""
    with workspace_of(workspace) as ws:
        paths = [Path(file) for file in files]
        return load_counts(load_customers_from_orders(ws, paths, renames=renames, now=now))


@flow(name="load-files", flow_run_name=lambda: f"load {named_by('table')}", log_prints=False)
def load_files(
    table: Literal["customers", "orders", "events"],
    files: list[str],
    renames: dict[str, str] | None = None,
    from_orders: bool = False,
    workspace: str | None = None,
    now: datetime | None = None,
) -> dict[str, int]:
    """Load `files` into `table` and publish the counts."""
    moment = scheduled_at(now)
    if from_orders:
        counts = derive_customers(files, renames or {}, workspace, moment)
    else:
        counts = load(table, files, renames or {}, workspace, moment)
    publish_table(
        artifact_key("load", table), title=f"Load of {table}", columns=("count", "rows"), rows=list(counts.items())
    )
    return counts
