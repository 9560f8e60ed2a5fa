"""The command line: parses, prints and exits; the work is done by flows/steps."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from retain.commands import (
    analysis,
    approving,
    campaign,
    consent,
    data,
    experiment,
    offering,
    operation,
    power,
    receiving,
    workspace,
)
from retain.printing import say

ROOMS: Final = frozenset({"retain", "web", "flows", "warehouse", "campaigns", "experiments", "channels"})

INTERRUPTED: Final = 130
"""What typer gives for Ctrl-C."""

app = typer.Typer(
    name="retain",
    help="Retention campaigns as code, measured honestly.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# as `retain --help` lists them: from the workspace to the result
for commands in (
    workspace,
    data,
    campaign,
    approving,
    operation,
    consent,
    receiving,
    offering,
    experiment,
    power,
    analysis,
):
    commands.register(app)


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"retain {version('retain')}")
        raise typer.Exit


@app.callback()
def _begin(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code: 0 fine, 1 error, 2 work to do."""
    command = typer.main.get_command(app)
    try:
        outcome = command.main(args=list(arguments), prog_name="retain", standalone_mode=False)
    except Exception as error:  # noqa: BLE001  (the last line of defence: every error becomes one message and exit code 1)
        return _report(error)
    if outcome == INTERRUPTED:
        return _report(typer.Abort())
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """Entry point `retain`."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(run(sys.argv[1:]))


def _report(error: Exception) -> int:
    show = getattr(error, "show", None)
    if callable(show):  # a usage error of the command line itself
        show()
    else:
        print(_told(error), file=sys.stderr)  # noqa: T201  (the front door prints)
    return 1


def _told(error: Exception) -> str:
    """The one message that an error becomes."""
    if isinstance(error, typer.Abort):
        return "stopped; nothing further was done"
    if type(error).__module__.split(".")[0] in ROOMS:
        return f"error: {error}"
    if isinstance(error, OSError) and error.filename:
        return (
            f"error: {error.filename}: {error.strerror}; check the path and who may use it, then run the command again"
        )
    logging.getLogger("retain").debug("unexpected", exc_info=error)
    kind = type(error).__name__
    return f"error: unexpected {kind} at {_place(error)}; this is a defect of retain, please report it"


def _place(error: Exception) -> str:
    """File and line inside our own tree where an unexpected error arose; its text may hold data, so it is not shown."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.split(".")[0] in ROOMS:
            frames.append(f"{name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames[-1] if frames else "an unknown place"
