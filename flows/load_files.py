"""Flow load-files: files of customers, orders or events become facts."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from prefect import flow, task

from flows.result_page import artifact_key, publish_table
from flows.run_context import may_pass, named_by, scheduled_at, workspace_of
from flows.steps.load_facts import load_counts, load_customers_from_orders, load_facts

Table = Literal["customers", "orders", "events"]


@task(
    task_run_name="load {table}",
    retries=2,  # safe: a load is atomic and idempotent on keys
    retry_delay_seconds=30,
    retry_condition_fn=may_pass,
    persist_result=False,
)
def load(
    table: Table, files: list[str], renames: dict[str, str], workspace: str | None, now: datetime
) -> dict[str, int]:
    """Load one table's files; a relative path starts at the workspace. Gives counts."""
    with workspace_of(workspace) as ws:
        return load_counts(load_facts(ws, table, [ws.root / file for file in files], renames=renames, now=now))


@task(
    retries=2,  # safe, as above
    retry_delay_seconds=30,
    retry_condition_fn=may_pass,
    persist_result=False,
)
def derive_customers(files: list[str], renames: dict[str, str], workspace: str | None, now: datetime) -> dict[str, int]:
    """Make a customer of every customer id in files of orders, or without files in the orders loaded. Gives counts."""
    with workspace_of(workspace) as ws:
        paths = [ws.root / file for file in files]
        return load_counts(load_customers_from_orders(ws, paths, renames=renames, now=now))


@flow(name="load-files", flow_run_name=lambda: f"load {named_by('table')}", persist_result=False)
def load_files(
    table: Table,
    files: list[str],
    renames: dict[str, str] | None = None,
    from_orders: bool = False,
    workspace: str | None = None,
    now: datetime | None = None,
) -> dict[str, int]:
    """Load `files` into `table` and publish the counts. `renames` maps our column names to the files'.

    With `from_orders` customers are derived: `files` are orders then. Raises FactsError where a file is missing or
    broken: nothing is loaded then. Raises ValueError where `from_orders` is asked of another table.
    """
    moment = scheduled_at(now)
    if from_orders and table != "customers":
        raise ValueError(f"from_orders: only customers are derived from orders, not {table}; set table to customers")
    if from_orders:
        counts = derive_customers(files, renames or {}, workspace, moment)
    else:
        counts = load(table, files, renames or {}, workspace, moment)
    publish_table(
        artifact_key("load", table), title=f"Load of {table}", columns=("count", "rows"), rows=list(counts.items())
    )
    return counts
