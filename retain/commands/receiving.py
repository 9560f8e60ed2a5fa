"""receive and resolve: receipts that come as a file, and messages in doubt that a person settles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retain.opening import opened
from retain.options import ByOption, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import print_json, print_table, say


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(receive)
    app.command()(resolve)


def receive(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Events as JSON: a list, or one object a line.", dir_okay=False)
    ],
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record provider events from a file.

    Such as those missed while `retain serve` was down: SendGrid's events as its webhook sends them; Twilio's callbacks
    as objects of their fields, with our message key as "m"; inbound SMS likewise. A file is taken as often as you like:
    what is known already changes nothing.
    """
    from flows.steps.replay_events import replay_events

    with opened(workspace) as ws:
        replayed = replay_events(ws, file, now=instant(now))
    if as_json:
        print_json(replayed.to_json())
    else:
        print_table(("events", "n"), list(replayed.to_json().items()))


def resolve(
    message_key: Annotated[
        str, typer.Argument(metavar="MESSAGE_KEY", help="EXPERIMENT/CUSTOMER/STEP, as `retain explain` tells it.")
    ],
    outcome: Annotated[str, typer.Argument(metavar="OUTCOME", help="sent or failed.")],
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settle a message in doubt by hand.

    For messages of which nobody knows whether the provider took them: ask there, then say what you found. Whatever you
    say, the message is not sent again.
    """
    from flows.steps.resolve_message import resolve_message

    with opened(workspace, by=by) as ws:
        resolve_message(ws, message_key, outcome, by=ws.settings.operator, at=instant(now))
    if as_json:
        print_json({"message_key": message_key, "state": outcome})
    else:
        say(f"{message_key}: {outcome}")
