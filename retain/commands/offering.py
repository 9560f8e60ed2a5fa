"""codes and points: what offers give out, brought in, checked and handed on."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from retain.doubts import warn_of_stranger
from retain.opening import opened
from retain.options import ByOption, CustomerArgument, JsonOption, NowOption, ReasonOption, WorkspaceOption, instant
from retain.printing import print_json, print_table, say
from retain.stock import show_stock

PoolArgument = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name, as offers.yaml writes it.")]

codes = typer.Typer(
    name="codes", help="Pools of codes: bring them in, see the stock, check a code.", no_args_is_help=True
)

points = typer.Typer(
    name="points",
    help="Loyalty points: post what was earned, see a balance, hand on.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add these groups of commands to the command line."""
    codes.command("import")(import_)
    codes.command("list")(list_)
    codes.command("release")(release)
    codes.command("check")(check)
    points.command("post")(post)
    points.command("balance")(balance)
    points.command("freeze")(freeze)
    points.command("export")(export)
    app.add_typer(codes)
    app.add_typer(points)


def import_(
    pool: PoolArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV: one code a line, or code,expires_on.")],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DAY", help="The last day on which the shop takes them.")
    ] = None,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the shop's codes into a pool.

    Importing the same file again changes nothing; a code that stands twice in it counts once.
    """
    from flows.steps.import_codes import import_code_file

    with opened(workspace, by=by) as ws:
        actor = ws.settings.operator
        done = import_code_file(ws, pool, file, expires_on=_day(expires), now=instant(now), actor=actor)
    counts = {"added": done.added, "known": done.known, "repeated": done.repeated}
    if as_json:
        print_json({"pool": pool, **counts})
        return
    say(f"{pool}: {done.added:,} codes added, {done.known:,} known already, {done.repeated:,} twice in the file")


def list_(workspace: WorkspaceOption = None, now: NowOption = None, as_json: JsonOption = False) -> None:
    """Show what every pool has left.

    Low: another run as large as the last one would find too few.
    """
    from flows.steps.offer_codes import show_pools

    with opened(workspace) as ws:
        pools = show_pools(ws, at=instant(now))
    if as_json:
        print_json({"pools": pools})
        return
    show_stock(pools)
    if not pools:
        say("no pools yet; next: retain codes import POOL FILE")


def release(
    pool: PoolArgument,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back codes that nobody can have seen.

    Only those of ended experiments whose messages were all skipped before an attempt was made to send one. A code that
    was shown, or may have been, is never given to anybody else.
    """
    from flows.steps.import_codes import release_codes

    with opened(workspace, by=by) as ws:
        released = release_codes(ws, pool, now=instant(now), actor=ws.settings.operator)
    if as_json:
        print_json({"pool": pool, "released": released})
    else:
        say(f"{pool}: {released:,} codes are free again")


def check(
    code: Annotated[str, typer.Argument(metavar="CODE", help="The code as a customer typed it.")],
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether a code is one of ours, and still holds.

    Exit code 1 where it is not, or holds no more: a till can ask.
    """
    from flows.steps.import_codes import check_code

    with opened(workspace) as ws:
        found = check_code(ws, code, now=instant(now))
    good = found["known"] and found.get("holds", True)
    if as_json:
        print_json(found)
    elif not found["known"]:
        say("not one of ours")
    else:
        offers = ", ".join(found["offers"]) or "no offer of the book"
        ended = "" if good else f"; it ended {found['expires_at']}"
        say(f"a {found['kind']} code of {offers}{ended}")
    if not good:
        raise typer.Exit(1)


def post(workspace: WorkspaceOption = None, now: NowOption = None, as_json: JsonOption = False) -> None:
    """Post the points that customers have earned by now.

    By matched orders (multipliers, bonuses) or by the message itself; orders taken back take their points back, and
    points whose time is over run out. Run it as often as you like: nothing is posted twice.
    """
    from flows.steps.post_points import post_points

    with opened(workspace) as ws:
        done = post_points(ws, now=instant(now)).to_json()
    if as_json:
        print_json(done)
        return
    say(f"{done['points']:,} points posted")
    if done["new"]:
        print_table(("kind", "postings"), list(done["new"].items()))
    if done["frozen"]:
        say(f"{done['frozen']:,} customers wait: their points are frozen")


def balance(
    customer: CustomerArgument,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a customer's points and where they come from."""
    from flows.steps.post_points import balance_of

    with opened(workspace) as ws:
        found = balance_of(ws, customer, now=instant(now))
    if as_json:
        print_json(found)
        return
    frozen = ", frozen" if found["frozen"] else ""
    say(f"{customer}: {found['balance']:,} points{frozen}; {found['not_exported']:,} of them not exported yet")
    columns = ("at", "kind", "points", "offer", "order_id", "expires_at")
    if found["postings"]:
        print_table(columns, [[row[name] for name in columns] for row in found["postings"]])


def freeze(
    customer: CustomerArgument,
    release: Annotated[bool, typer.Option("--release", help="Let the points go on again.")] = False,
    by: ByOption = None,
    reason: ReasonOption = "by hand",
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze a customer's points until they go on again.

    Nothing is posted or exported; what was earned meanwhile is posted afterwards.
    """
    from flows.steps.post_points import freeze_points

    with opened(workspace, by=by) as ws:
        who = ws.settings.operator
        changed = freeze_points(ws, customer, frozen=not release, by=who, reason=reason, now=instant(now))
        warn_of_stranger(ws, customer)
    if as_json:
        print_json({"customer_id": customer, "frozen": not release, "changed": changed})
        return
    state = "go on" if release else "are frozen"
    say(f"{customer}: points {state}" + ("" if changed else ", as they were already"))


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new CSV file.")],
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the points not handed on yet to a file.

    For the company's loyalty system. Every posting is in exactly one file. After a crash the same command finishes the
    same file.
    """
    from flows.steps.export_points import export_points

    with opened(workspace, by=by) as ws:
        done = export_points(ws, file, now=instant(now), actor=ws.settings.operator)
    if as_json:
        print_json(done)
    else:
        again = ", begun before" if done["resumed"] else ""
        say(f"export {done['export']}{again}: {done['postings']:,} postings, {done['points']:,} points, {done['file']}")


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f'"{text}" is no day; expected one such as 2026-12-31', param_hint="--expires"
        ) from None
