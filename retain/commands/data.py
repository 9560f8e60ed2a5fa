"""load and features: files become facts; what can be said about a customer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retain.opening import opened
from retain.options import JsonOption, MapOption, NowOption, WorkspaceOption, instant, renamed
from retain.printing import print_json, print_table, progress_bar, say, warn

if TYPE_CHECKING:
    from warehouse.facts.load import LoadSummary

TABLES = ("customers", "orders", "events")


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(load)
    app.command()(features)


def load(
    table: Annotated[str, typer.Argument(metavar="customers|orders|events", help="What the files hold.")],
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="CSV or Parquet files.")] = None,
    renames: MapOption = None,
    from_orders: Annotated[
        bool,
        typer.Option(
            "--from-orders", help="customers only: derive them from order files (else from the orders loaded)."
        ),
    ] = False,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load customers, orders or events from CSV or Parquet.

    Rows that cannot be used go to a quarantine file, each with its reason. Loading the same file again changes nothing.
    """
    from flows.steps.load_facts import load_customers_from_orders, load_facts

    if table not in TABLES:
        raise typer.BadParameter(f'"{table}" is no table; expected one of {", ".join(TABLES)}')
    if from_orders and table != "customers":
        raise typer.BadParameter("only customers can be derived: retain load customers --from-orders FILE...")
    if not files and not from_orders:
        raise typer.BadParameter(f"name at least one file: retain load {table} FILE...")
    columns = renamed(renames)
    with opened(workspace) as ws, progress_bar(f"load {table}", quiet=as_json) as progress:
        if from_orders:
            summary = load_customers_from_orders(ws, files or [], renames=columns, now=instant(now))
        else:
            summary = load_facts(ws, table, files or [], renames=columns, now=instant(now), progress=progress)
    for text in summary.warnings:
        warn(text)
    if as_json:
        print_json(summary.to_json())
    else:
        _show(summary)


def features(
    customer: Annotated[
        str | None,
        typer.Argument(
            metavar="CUSTOMER", help="Show the values of this customer.", show_default="the list of features"
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what segments may ask, or its values for one customer."""
    from flows.steps.show_features import list_features, values_of

    if customer is None:
        with opened(workspace) as ws:
            listed = list_features(ws)
        if as_json:
            print_json({"features": listed})
        else:
            rows = [[str(entry[key]) for key in ("name", "kind", "unit", "definition")] for entry in listed]
            print_table(("feature", "kind", "unit", "definition"), rows)
        return
    with opened(workspace) as ws:
        values = values_of(ws, customer, as_of=instant(now))
    if as_json:
        print_json({"customer_id": customer, "features": values})
    else:
        print_table(("feature", "value"), list(values.items()), title=customer)


def _show(summary: LoadSummary) -> None:
    say(
        f"{summary.table}: {summary.read:,} rows read: {summary.added:,} added, {summary.updated:,} updated, "
        f"{summary.unchanged:,} unchanged, {summary.quarantined:,} quarantined"
    )
    for reason, count in summary.reasons.items():
        say(f"  quarantined: {reason}: {count:,}")
    if summary.quarantine_file is not None:
        say(f"  see {summary.quarantine_file}")
