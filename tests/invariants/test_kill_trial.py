"""Every message leaves once, or we say so: whatever is killed, wherever, and whatever the provider's answers are.

Real worker processes deliver over HTTP to the provider simulator, which is a process of its own and judges. 1,500
messages by default; `make trial` (RETAIN_TEST_TRIAL=full) sends 6,000 and kills at least 80 workers on each database.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.invariants.trial_processes import POINTS
from tests.invariants.trials import Outcome, Trial, kill_trial, make_shop

IS_FULL = os.environ.get("RETAIN_TEST_TRIAL") == "full"
CUSTOMERS, KILLS, BATCH = (6_720, 100, 40) if IS_FULL else (1_680, 40, 20)
LEAST_KILLS = 80 if IS_FULL else 30
MESSAGES = 6_000 if IS_FULL else 1_500
WORKERS = {"sqlite": 2, "postgres": 4}

Shop = Callable[[int], Path]


@pytest.fixture(scope="session")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Gives the directory of a workspace to copy, made once for each number of customers."""
    made: dict[int, Path] = {}

    def find(customers: int) -> Path:
        if customers not in made:
            made[customers] = tmp_path_factory.mktemp("trial")
            make_shop(made[customers], customers)
        return made[customers]

    return find


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def on(request: pytest.FixtureRequest, shops: Shop, tmp_path: Path) -> Callable[[str, Trial], Outcome]:
    """Holds a trial on a database of each kind."""

    def hold(database: str, trial: Trial) -> Outcome:
        shutil.copytree(shops(trial.customers), tmp_path / "trial")
        url = "" if database == "sqlite" else request.getfixturevalue("postgres_url")
        with ExitStack() as stack:
            return kill_trial(stack, tmp_path / "trial", url, trial)

    return hold


@pytest.mark.slow
@pytest.mark.no_cover
def test_no_message_is_lost_or_doubled_whatever_is_killed(
    on: Callable[[str, Trial], Outcome], database: str, record_property: Callable[[str, object], None]
) -> None:
    trial = Trial(customers=CUSTOMERS, workers=WORKERS[database], kills=KILLS, batch=BATCH)
    outcome = on(database, trial)
    record_property("trial", outcome.told())
    sys.stdout.write(f"{database}: {outcome.told()}\n{dict(outcome.kills)}\n{dict(outcome.faults)}\n")  # with -rP
    assert outcome.violations == [], "\n".join(outcome.evidence)
    assert outcome.errors == []
    assert outcome.planned >= MESSAGES
    assert outcome.kills.total() >= LEAST_KILLS
    assert set(outcome.kills) == {*POINTS, "at random"}  # a point that is never reached proves nothing
    assert outcome.states["sms"]["in_doubt"] == 0
    doubts = outcome.states["email"]["in_doubt"] + outcome.states["push"]["in_doubt"]
    assert 0 < doubts < outcome.planned / 4
    assert outcome.faults.total() > 0.1 * outcome.planned / 3
    assert outcome.receipts > 0


@pytest.mark.parametrize(
    ("bug", "points", "found"),
    [
        ("sends before the intent", ("all answers", "one answer"), "accepted more than once"),
        ("settles before sending", ("about to send",), "lost: called sent, and never accepted"),
        ("retries what is unknown", (), "accepted more than once"),
        ("gives intents back", ("all answers", "settle: before the commit"), "accepted more than once"),
        ("asks too little", ("all answers",), "accepted more than once"),
    ],
)
def test_the_trial_finds_every_seeded_bug(
    on: Callable[[str, Trial], Outcome], bug: str, points: tuple[str, ...], found: str
) -> None:
    """A short trial on SQLite, whose workers have the bug and are killed where it matters."""
    kills = 4 if points else 0
    trial = Trial(customers=160, workers=2, kills=kills, points=points, receipts=False, bugs=frozenset({bug}))
    outcome = on("sqlite", trial)
    assert any(found in violation for violation in outcome.violations), outcome.told()


def test_a_short_trial_without_a_bug_finds_nothing(on: Callable[[str, Trial], Outcome]) -> None:
    """Of the same length as those that find something."""
    outcome = on("sqlite", Trial(customers=160, workers=2, kills=4, points=("all answers",), receipts=False))
    assert outcome.violations == []
