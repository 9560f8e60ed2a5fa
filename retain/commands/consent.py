"""suppress, consent, erase and export: what customers said about being written to, and about their data."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retain.doubts import warn_of_stranger, warn_of_topic
from retain.opening import opened
from retain.options import (
    ByOption,
    CustomerArgument,
    JsonOption,
    MapOption,
    NowOption,
    WorkspaceOption,
    customer_id,
    instant,
    renamed,
)
from retain.printing import print_json, say, warn

if TYPE_CHECKING:
    from flows.steps.erase_customer import Erased
    from flows.steps.listed_import import ListImport
    from flows.wiring import Workspace

TopicOption = Annotated[str, typer.Option("--topic", metavar="TOPIC", help="One topic of your campaigns, or all.")]
ChannelOption = Annotated[str, typer.Option("--channel", metavar="CHANNEL", help="sms, email, push or all.")]
CustomerOrListsArgument = Annotated[
    str,
    typer.Argument(
        metavar="CUSTOMER|import",
        help="The customer's id, or import. A customer whose id is import is suppressed by a list that has it.",
        callback=customer_id,
    ),
]
ListsArgument = Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="With import: CSV or Parquet files.")]
EverythingOption = Annotated[bool, typer.Option("--all", help="On every channel and about everything (the default).")]
ReleaseOption = Annotated[bool, typer.Option("--release", help="Take back what was suppressed in this scope.")]
WhyOption = Annotated[
    str, typer.Option("--reason", metavar="REASON", help="stop, unsubscribe, complaint, bounce or manual.")
]
consents = typer.Typer(
    name="consent", help="Record what customers agreed to, or import it from files.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(suppress)
    app.add_typer(consents)
    app.command()(erase)
    app.command()(export)


def suppress(  # noqa: PLR0913 - each is an option of the command line
    customer: CustomerOrListsArgument,
    files: ListsArgument = None,
    channel: ChannelOption = "all",
    topic: TopicOption = "all",
    everything: EverythingOption = False,
    release: ReleaseOption = False,
    reason: WhyOption = "manual",
    renames: MapOption = None,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Never write to a customer again.

    On a channel, about a topic, or at all: from this moment, for messages already queued too, and for whoever has the
    customer's addresses. With `import FILE` everybody on lists is suppressed (customer_id, email, phone, push_token,
    channel, topic, reason); of addresses only keyed hashes are kept.
    """
    from flows.steps.suppress_customer import import_suppressions

    narrowed = (channel, topic) != ("all", "all")
    if everything and narrowed:
        raise typer.BadParameter("--all says every channel and every topic; leave --channel and --topic out")
    if _is_of_lists(customer, files, scoped=narrowed or everything or release):
        names = renamed(renames)
        with opened(workspace, by=by) as ws:
            who = ws.settings.operator
            done = import_suppressions(ws, files or [], renames=names, reason=reason, by=who, now=instant(now))
        _show("suppressions", done, as_json=as_json)
        return
    scope = {"customer_id": customer, "channel": channel, "topic": topic}
    with opened(workspace, by=by) as ws:
        told = _release(ws, scope, instant(now)) if release else _suppress(ws, scope, reason, instant(now))
        known = warn_of_stranger(ws, customer)
        warn_of_topic(ws, topic)
    if as_json:
        print_json({**scope, **told, "loaded": known})
    else:
        _say_suppressed(scope, told)


def _is_of_lists(word: str, files: list[Path] | None, *, scoped: bool) -> bool:
    """Whether lists are imported. Raises typer.BadParameter where the words fit neither a customer nor lists."""
    if files and word != "import":
        raise typer.BadParameter(
            f'"{word}" and files: expected retain suppress CUSTOMER, or retain suppress import FILE'
        )
    if word == "import" and not files:
        raise typer.BadParameter("name at least one file: retain suppress import FILE")
    if files and scoped:
        raise typer.BadParameter(
            "lists are suppressed, and say channel and topic in columns of theirs; leave --channel, --topic, --all and "
            "--release out"
        )
    return bool(files)


def _suppress(ws: Workspace, scope: dict[str, str], reason: str, at: datetime) -> dict[str, Any]:
    from flows.steps.suppress_customer import suppress_customer

    return {"changed": suppress_customer(ws, **scope, reason=reason, by=ws.settings.operator, at=at), "reason": reason}


def _release(ws: Workspace, scope: dict[str, str], at: datetime) -> dict[str, Any]:
    from flows.steps.suppress_customer import release_customer

    n = release_customer(ws, **scope, by=ws.settings.operator, at=at)
    return {"changed": n > 0, "released": n}


def _say_suppressed(scope: dict[str, str], told: dict[str, Any]) -> None:
    where = scope["channel"] if scope["topic"] == "all" else f"{scope['channel']} about {scope['topic']}"
    if "released" in told:
        done = f"released on {where}" if told["changed"] else f"nothing was suppressed on {where}"
    else:
        done = f"suppressed on {where}" if told["changed"] else f"was suppressed on {where} already"
    say(f"{scope['customer_id']}: {done}")


@consents.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV or Parquet files.")],
    renames: MapOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="TEXT", help="Where it was said, for rows without one.", show_default="the file's name"
        ),
    ] = None,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import statements of consent from CSV or Parquet.

    Columns: customer_id, given (yes or no), at; and where you have them channel, topic, source, wording. Rows that
    cannot be used go to a quarantine file, each with its reason. Importing the same file again changes nothing.
    """
    from flows.steps.import_consents import import_consents

    names = renamed(renames)
    with opened(workspace, by=by) as ws:
        who = ws.settings.operator
        done = import_consents(ws, files, renames=names, source=source, by=who, now=instant(now))
    _show("consents", done, as_json=as_json)


@consents.command("record")
def record(  # noqa: PLR0913 - each is an option of the command line
    customer: CustomerArgument,
    given: Annotated[bool, typer.Option("--given/--withdrawn", help="What was said.")],
    channel: ChannelOption = "all",
    topic: TopicOption = "all",
    source: Annotated[str, typer.Option("--source", metavar="TEXT", help="Where it was said.")] = "by hand",
    wording: Annotated[str, typer.Option("--wording", metavar="VERSION", help="The version of the words.")] = "",
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what one customer agreed to, or withdrew."""
    from flows.steps.import_consents import record_consent
    from warehouse.ledger.consents import Statement

    with opened(workspace, by=by) as ws:
        said = Statement(customer, channel, given, instant(now), source, wording, topic)
        new = record_consent(ws, said, by=ws.settings.operator)
        warn_of_stranger(ws, customer)
        warn_of_topic(ws, topic)
    if as_json:
        print_json({"customer_id": customer, "channel": channel, "topic": topic, "given": given, "changed": new})
    else:
        what = "given" if given else "withdrawn"
        say(f"{customer}: consent {what} on {channel} about {topic}" if new else f"{customer}: that was known already")


def erase(
    customer: CustomerArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: it cannot be undone.")] = False,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a customer for good: no address, row or id is left.

    Kept are counts, purchases without a name, and keyed hashes by which the addresses stay out for ever. In a
    warehouse that retain only reads you delete the rows yourself: it prints how, and keeps the customer out at once.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("an erasure cannot be undone; say --yes")
        typer.confirm(f"Erase {customer} for good?", abort=True)
    from flows.steps.erase_customer import erase_customer

    with opened(workspace, by=by) as ws:
        done = erase_customer(ws, customer, by=ws.settings.operator, at=instant(now))
    if not done.known:
        warn(f"no customer {customer} was found; the id is kept out from now on: check that it is the right one")
    if as_json:
        print_json(done.to_json())
    else:
        _say_erased(customer, done)


def export(
    customer: CustomerArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write here, readable by you only.", show_default="standard output"),
    ] = None,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give everything that is known about a customer, as JSON.

    It holds the customer's addresses: handle it accordingly. That it was given, and to whom, is recorded.
    """
    from flows.steps.export_customer import export_customer

    with opened(workspace, by=by) as ws:
        told = export_customer(ws, customer, by=ws.settings.operator, at=instant(now))
    if not told["facts"]["customers"]:
        warn(f"no customer {customer} is loaded: check that the id is the right one")
    if out is None:
        print_json(told)
        return
    text = json.dumps(told, ensure_ascii=False, sort_keys=True, allow_nan=False, indent=2) + "\n"
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    if as_json:
        print_json({"customer_id": customer, "file": str(out)})
    else:
        say(f"{customer}: written to {out}")


def _show(kind: str, done: ListImport, *, as_json: bool) -> None:
    if as_json:
        print_json({"kind": kind, **done.to_json()})
        return
    say(
        f"{kind}: {done.read:,} rows read: {done.added:,} added, {done.unchanged:,} known already, "
        f"{done.quarantined:,} quarantined"
    )
    for reason, count in sorted(done.reasons.items()):
        say(f"  quarantined: {reason}: {count:,}")
    if done.quarantine_file is not None:
        say(f"  see {done.quarantine_file}")


def _say_erased(customer: str, done: Erased) -> None:
    say(
        f"{customer}: erased; {done.ledger.skipped:,} waiting messages skipped, {done.ledger.addresses:,} addresses "
        "kept out as keyed hashes"
    )
    if done.facts is not None:
        say(
            f"  facts: {done.facts.customers:,} rows of customers removed, {done.facts.orders + done.facts.events:,} "
            "rows of orders and events under a pseudonym"
        )
    for statement in done.by_hand:
        say(f"  to be run in your warehouse: {statement}")
    say("  delete the customer at the source, too: what is loaded again is known, and kept out, but it is there")
