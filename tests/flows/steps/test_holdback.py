"""After a promotion: the winner goes on being measured against its holdback, and can lose its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.settings import read_settings
from flows.steps.decide_experiment import decide_experiment
from flows.steps.deliver_messages import deliver_messages
from flows.steps.holdback import find_promoted
from flows.steps.measure_experiment import measure_experiment
from flows.steps.run_campaign import run_campaign
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace, open_workspace
from warehouse.ledger.results import looks

Arms = dict[str, list[str]]
Rewrite = Callable[[Workspace, str, str], Path]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)
FIRST = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AGAIN = FIRST + 120 * DAY
CAMPAIGN = """\
campaign: back
status: active
audience: {segment: orders >= 2, reentry_after: 20 days}
experiment:
  control: 40%
  horizon: 30 days
  primary: repurchase
  guardrails: {unsubscribed: {max_increase: 2pp}}
  minimum_effect: 10pp
arms:
  mail: {weight: 60%, steps: [{channel: sms, template: hello}]}
feedback: {mode: apply, holdback: 40%}
"""


def opened(stack: ExitStack, root: Path) -> Workspace:
    settings = read_settings(root, overrides={"secret": "a key for tests only, never used"})
    return stack.enter_context(open_workspace(settings))


@pytest.fixture(scope="module")
def promoted_root(prepared: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose arm was promoted, and whose second epoch, with the holdback, has been sent."""
    root = tmp_path_factory.mktemp("promoted") / "shop"
    source = prepared(1500, CAMPAIGN, {"mail": 0.45, "control": 0.08})
    shutil.copytree(source, root, ignore=shutil.ignore_patterns("outbox"))
    with ExitStack() as stack:
        ws = opened(stack, root)
        assert decide_experiment(ws, "back", now=FIRST + RIPE).verdict.verdict == "promote"
        assert run_campaign(ws, "back", as_of=AGAIN).experiment == "back:2"
        deliver_messages(ws, now=AGAIN, worker="test")
    return root


@pytest.fixture
def promoted(promoted_root: Path, tmp_path: Path) -> Iterator[Workspace]:
    with ExitStack() as stack:
        root = tmp_path / "shop"
        shutil.copytree(promoted_root, root, ignore=shutil.ignore_patterns("outbox"))
        yield opened(stack, root)


def test_a_winner_that_still_lifts_keeps_its_place(
    promoted: Workspace, arms_of: Callable[..., Arms], answer: Callable[..., None]
) -> None:
    ws = promoted
    answer(ws, arms_of(ws, "back:2"), {"mail": 0.45, "control": 0.08}, at=AGAIN)
    before = (ws.root / "campaigns" / "book" / "back.yaml").read_bytes()
    early = decide_experiment(ws, "back", now=AGAIN + DAY)
    assert (early.verdict.verdict, early.verdict.arm) == ("keep_measuring", "mail")
    kept = decide_experiment(ws, "back", now=AGAIN + RIPE)
    assert (kept.verdict.verdict, kept.verdict.arm) == ("keep", "mail")
    assert kept.verdict.expected_lift_raw == pytest.approx(0.37, abs=0.01)
    assert {reason.code for reason in kept.verdict.reasons} >= {"srm_assigned", "lift_left", "lift_shown"}
    assert decide_experiment(ws, "back", now=AGAIN + RIPE + DAY).decided_before
    assert (ws.root / "campaigns" / "book" / "back.yaml").read_bytes() == before


def test_a_winner_whose_lift_is_gone_is_demoted_and_its_campaign_paused(
    promoted: Workspace, arms_of: Callable[..., Arms], answer: Callable[..., None], rewrite: Rewrite
) -> None:
    ws = promoted
    answer(ws, arms_of(ws, "back:2"), {"mail": 0.1, "control": 0.1}, at=AGAIN)
    demoted = decide_experiment(ws, "back", now=AGAIN + RIPE)
    assert (demoted.verdict.verdict, demoted.verdict.arm) == ("demote", "mail")
    left = next(reason for reason in demoted.verdict.reasons if reason.code == "lift_left")
    assert left.passed is False
    campaign = ws.campaign("back").campaign
    assert campaign.status == "paused"
    assert campaign.version == f"{(AGAIN + RIPE).date()} demoted mail back:2"
    again = decide_experiment(ws, "back", now=AGAIN + RIPE + DAY)
    assert again.decided_before
    assert again.feedback.changed_files == ()
    rewrite(ws, "status: paused", "status: active")  # somebody knows better
    assert decide_experiment(ws, "back", now=AGAIN + RIPE + DAY).feedback.changed_files == ()
    assert ws.campaign("back").campaign.status == "active"


def test_a_demotion_may_be_proposed(
    promoted: Workspace, arms_of: Callable[..., Arms], answer: Callable[..., None], rewrite: Rewrite
) -> None:
    ws = promoted
    path = rewrite(ws, "mode: apply", "mode: propose")
    before = path.read_bytes()
    answer(ws, arms_of(ws, "back:2"), {"mail": 0.1, "control": 0.1}, at=AGAIN)
    demoted = decide_experiment(ws, "back", now=AGAIN + RIPE)
    assert demoted.verdict.verdict == "demote"
    assert path.read_bytes() == before
    assert "+status: paused" in demoted.feedback.diff


def test_a_winner_that_harms_is_demoted_on_any_day(promoted: Workspace, arms_of: Callable[..., Arms]) -> None:
    ws = promoted
    for customer in arms_of(ws, "back:2")["mail"][:150]:
        suppress_customer(ws, customer, channel="sms", reason="stop", by="test", at=AGAIN + DAY)
    demoted = decide_experiment(ws, "back", now=AGAIN + 2 * DAY)
    assert demoted.verdict.verdict == "demote"
    with ws.ledger.read() as tx:
        assert looks(tx, "back:2") == []


def test_only_a_promoted_arm_alone_against_control_is_judged_so(promoted: Workspace) -> None:
    now = measure_experiment(promoted, "back", now=AGAIN).design
    assert now.epoch == 2
    assert find_promoted(promoted, now) == "mail"
    with promoted.ledger.read() as tx:
        from experiments.design import Design
        from warehouse.ledger.experiments import experiment

        first = Design.from_json(experiment(tx, "back:1").design)
    assert find_promoted(promoted, first) is None


def test_the_holdback_is_the_same_customers_from_epoch_to_epoch_and_measured_as_control(
    promoted: Workspace, arms_of: Callable[..., Arms], answer: Callable[..., None], rewrite: Rewrite
) -> None:
    ws = promoted
    tested, held = set(arms_of(ws, "back:1")["control"]), set(arms_of(ws, "back:2")["control"])
    assert held <= tested  # nobody of the holdback was ever written to
    answer(ws, arms_of(ws, "back:2"), {"mail": 0.45, "control": 0.08}, at=AGAIN)
    rewrite(ws, "horizon: 30 days", "horizon: 29 days")  # another experiment: everybody else is drawn anew
    later = AGAIN + 40 * DAY
    assert run_campaign(ws, "back", as_of=later).experiment == "back:3"
    assert held <= set(arms_of(ws, "back:3")["control"])
    measured = measure_experiment(ws, "back", now=later + RIPE)
    assert measured.collected.drawn != measured.collected.units  # they were not drawn: the split is tested on the rest
    assert measured.health["balance_p"] is None  # the year before holds what the first epoch did to the arm
    found = {result.metric: result for result in measured.results}["repurchase"]
    assert found.n_control == len(arms_of(ws, "back:3")["control"])
    assert "CUPED" not in found.method


def test_without_a_promotion_a_new_epoch_is_drawn_anew(
    shop: Callable[..., Workspace], arms_of: Callable[..., Arms], rewrite: Rewrite
) -> None:
    ws = shop(customers=200, campaign=CAMPAIGN)
    run_campaign(ws, "back", as_of=FIRST)
    rewrite(ws, "horizon: 30 days", "horizon: 29 days")
    run_campaign(ws, "back", as_of=FIRST + 40 * DAY)
    first, second = (set(arms_of(ws, f"back:{epoch}")["control"]) for epoch in (1, 2))
    assert first - second
    assert second - first
