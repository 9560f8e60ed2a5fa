"""What every flow shares: the workspace it works on, the instant it works at, its name and its failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from prefect.runtime import flow_run

from campaigns.errors import CampaignError
from channels.errors import ChannelError
from experiments.errors import ExperimentError
from flows.settings import SettingsError, read_settings
from flows.steps.find_workspace import find_workspace
from flows.wiring import Workspace, open_workspace
from warehouse.facts.errors import FactsError
from warehouse.ledger.errors import LedgerError, PlanConflictError, SchemaVersionError

REFUSALS: Final = (
    CampaignError,
    ChannelError,
    ExperimentError,
    FactsError,
    SettingsError,
    PlanConflictError,
    SchemaVersionError,
)
"""Errors that somebody must mend first: a file, a setting, a plan. The same call would be refused again."""

OURS: Final = (*REFUSALS, LedgerError)
"""Errors whose messages hold no address. What they were made from may quote a line of a file or a row of a table."""

R = TypeVar("R")


def named_by(*names: str) -> str:
    """The name of the current flow run: the values of these parameters and the instant the run works at."""
    parameters = flow_run.get_parameters()
    values = [str(parameters[name]) for name in names if parameters.get(name)]
    given = parameters.get("as_of") or parameters.get("now")
    moment = scheduled_at(given if isinstance(given, datetime) else None)
    return " ".join([*values, moment.strftime("%Y-%m-%d %H:%M")])


def scheduled_at(given: datetime | None) -> datetime:
    """The instant a run works as of: the one given, else the one it was scheduled for (aware UTC).

    A run that starts late, or is tried again, so works as of the same instant.
    """
    return _aware(given or flow_run.get_scheduled_start_time() or datetime.now(UTC))


def clock(given: datetime | None) -> datetime:
    """The instant at which something leaves: the one given, else that of the clock (aware UTC).

    A run that starts late must not send by the hour it was scheduled for.
    """
    return datetime.now(UTC) if given is None else _aware(given)


@contextmanager
def workspace_of(path: str | None) -> Iterator[Workspace]:
    """The workspace at `path`, else at RETAIN_WORKSPACE, else the working directory of the run.

    Our own errors leave it without what they were made from: Prefect keeps the whole chain of a failure in its logs.
    Raises SettingsError where there is no workspace: a run that lost its directory must not make one and find nothing
    to do there.
    """
    try:
        with open_workspace(read_settings(find_workspace(path))) as workspace:
            yield workspace
    except OURS as error:
        raise error from None


def may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task's failure may pass by itself (a busy database, a lost connection), so that trying again helps."""
    return not isinstance(state.result(raise_on_failure=False), REFUSALS)


def one_by_one(work: Callable[[str], R], campaigns: Sequence[str]) -> list[R]:
    """The outcome of `work` for each campaign; one that fails does not keep the others from their turn.

    Raises ExceptionGroup at the end, naming the campaigns that failed.
    """
    outcomes: list[R] = []
    failed: dict[str, Exception] = {}
    for campaign in campaigns:
        try:
            outcomes.append(work(campaign))
        except Exception as error:  # noqa: BLE001  (raised below, after the other campaigns had their turn)
            failed[campaign] = error
    if failed:
        raise ExceptionGroup(f"{len(failed)} of {len(campaigns)} failed: {', '.join(failed)}", list(failed.values()))
    return outcomes


def _aware(moment: datetime) -> datetime:
    """The instant as a plain aware datetime: Prefect gives instants of a class whose arithmetic loses the zone."""
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return datetime.combine(utc.date(), utc.time(), UTC)
