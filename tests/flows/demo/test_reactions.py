"""How customers react: everybody buys by themselves, a message does exactly what its arm's truth says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.demo.exposure import Exposure, look_at
from flows.demo.reactions import WINBACK_EFFECTS, ArmEffect, Reactions, react
from flows.demo.world import World, make_world

AS_OF = datetime(2026, 3, 2, 9, tzinfo=UTC)
HORIZON = timedelta(days=30)
UNTIL = AS_OF + timedelta(days=33)
ARMS = ("double-points", "we-miss-you", "deep-discount", "control")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(customers=24_000, seed=3, as_of=AS_OF)


def expose(world: World, arms: tuple[str, ...] = ARMS, *, delay: timedelta = timedelta(hours=5)) -> Exposure:
    """Every second customer assigned, arms in turn, everybody but control reached after `delay`."""
    ids = world.customers.customer_id[::2].reset_index(drop=True)
    assigned = pd.DataFrame({"customer_id": ids, "arm": [arms[i % len(arms)] for i in range(len(ids))]})
    sent = assigned[assigned.arm != "control"].assign(channel="email", sent_at=AS_OF + delay)
    return Exposure(assigned, sent[["customer_id", "channel", "sent_at"]], AS_OF, HORIZON)


def repurchased(exposure: Exposure, reactions: Reactions) -> pd.Series:
    """Whether each assigned customer bought within the horizon, by customer."""
    orders = reactions.orders
    window = (orders.ordered_at >= exposure.assigned_at) & (orders.ordered_at < exposure.assigned_at + exposure.horizon)
    buyers = set(orders[window].customer_id)
    return exposure.assigned.set_index("customer_id").index.to_series().isin(buyers)


def without_extra(world: World, exposure: Exposure) -> Reactions:
    return react(world, exposure, until=UNTIL, seed=5, effects={})


def test_the_same_exposure_and_seed_give_the_same_reactions(world: World, tmp_path: Path) -> None:
    files = [react(world, expose(world), until=UNTIL, seed=5).write(tmp_path / name) for name in "ab"]
    other = react(world, expose(world), until=UNTIL, seed=6).write(tmp_path / "c")
    for table in ("orders", "events"):
        assert files[0][table].read_bytes() == files[1][table].read_bytes() != other[table].read_bytes()


def test_control_and_the_unassigned_do_what_they_would_have_done_anyway(world: World) -> None:
    exposure = expose(world)
    quiet, loud = without_extra(world, exposure), react(world, exposure, until=UNTIL, seed=5)
    reached = set(exposure.sent.customer_id)
    untouched = [frame.orders[~frame.orders.customer_id.isin(reached)] for frame in (quiet, loud)]
    columns = [name for name in quiet.orders if name != "order_id"]
    pd.testing.assert_frame_equal(*(frame[columns].reset_index(drop=True) for frame in untouched))
    assert len(untouched[0]) > 1000
    assert not set(loud.unsubscribes.customer_id) - reached
    assert not set(loud.events.customer_id) - reached


def test_natural_repurchase_is_the_latent_chance(world: World) -> None:
    exposure = expose(world)
    shares = repurchased(exposure, without_extra(world, exposure))
    seen = look_at(world, exposure)
    ahead = float(world.shop_time.of(seen.end) - world.shop_time.of(seen.start))
    expected = world.latent.buyers.chance_of_purchase(ahead)[::2]
    error = np.sqrt((expected * (1 - expected)).sum()) / expected.size
    assert shares.mean() == pytest.approx(expected.mean(), abs=4 * error)


@pytest.mark.parametrize("arm", ["double-points", "deep-discount", "we-miss-you"])
def test_the_realised_rise_agrees_with_the_truth(world: World, arm: str) -> None:
    """One arm for everybody: the rise over the very same customers unasked; its error is that of the persuaded alone."""
    exposure = expose(world, (arm,))
    before = repurchased(exposure, without_extra(world, exposure))
    reactions = react(world, exposure, until=UNTIL, seed=5)
    after = repurchased(exposure, reactions)
    lift = reactions.truth[arm].lift
    assert lift == pytest.approx(WINBACK_EFFECTS[arm].lift)  # everyone reached: exactly the arm's lift
    assert (after >= before).all()
    assert after.mean() - before.mean() == pytest.approx(lift, abs=4 * np.sqrt(lift / len(after)))


def test_a_message_that_did_not_leave_has_no_effect_and_lowers_the_truth(world: World) -> None:
    exposure = expose(world, ("double-points", "control"))
    half = replace(exposure, sent=exposure.sent[::2])
    whole, part = (react(world, case, until=UNTIL, seed=5).truth["double-points"].lift for case in (exposure, half))
    assert part == pytest.approx(whole / 2, rel=0.02)
    assert "control" not in react(world, exposure, until=UNTIL, seed=5).truth


def test_one_arm_earns_one_does_nothing_and_one_loses_margin(world: World) -> None:
    truth = react(world, expose(world), until=UNTIL, seed=5).truth
    assert truth["double-points"].lift == pytest.approx(0.045, abs=0.004)
    assert truth["double-points"].margin > 0.3
    assert truth["we-miss-you"].lift == 0
    assert truth["we-miss-you"].margin == 0
    assert truth["deep-discount"].lift > truth["double-points"].lift
    assert truth["deep-discount"].margin < -0.5


def test_the_deep_discount_stands_on_its_orders_with_the_code(world: World) -> None:
    exposure = expose(world, ("deep-discount",))
    quiet, loud = without_extra(world, exposure), react(world, exposure, until=UNTIL, seed=5)
    redeemed = loud.orders[loud.orders.discount_code == "COMEBACK35"]
    assert set(redeemed.customer_id) <= set(exposure.sent.customer_id)
    assert (redeemed.ordered_at >= AS_OF + timedelta(hours=5)).all()
    assert (redeemed.ordered_at < AS_OF + HORIZON).all()
    assert redeemed.margin.sum() / redeemed.amount.sum() < 0.5 * quiet.orders.margin.sum() / quiet.orders.amount.sum()
    own = exposure.sent.assign(code=[f"OWN-{i}" for i in range(len(exposure.sent))])
    codes = react(world, replace(exposure, sent=own), until=UNTIL, seed=5).orders.discount_code.dropna()
    assert len(codes) == len(redeemed)
    assert codes.str.startswith("OWN-").all()


def test_orders_are_canonical_complete_and_inside_the_simulated_time(world: World) -> None:
    reactions = react(world, expose(world), until=UNTIL, seed=5)
    orders = reactions.orders
    assert list(orders) == list(world.orders)
    assert orders.order_id.is_unique
    assert not set(orders.order_id) & set(world.orders.order_id)
    assert ((orders.ordered_at >= AS_OF) & (orders.ordered_at < UNTIL)).all()
    assert orders.ordered_at.is_monotonic_increasing
    assert (orders.amount > 0).all()
    assert list(reactions.events) == list(world.events)
    assert reactions.unsubscribes["at"].between(AS_OF, UNTIL).all()
    assert set(reactions.unsubscribes.channel) == {"email"}
    share = len(reactions.unsubscribes) / len(expose(world).sent)
    assert share == pytest.approx((0.003 + 0.003 + 0.004) / 3, abs=0.002)


def test_nothing_is_seen_of_what_happens_after_the_end(world: World) -> None:
    early = AS_OF + timedelta(days=2)
    reactions = react(world, expose(world), until=early, seed=5)
    assert (reactions.orders.ordered_at < early).all()
    assert (reactions.unsubscribes["at"] < early).all()


def test_a_message_after_the_horizon_or_before_the_assignment_does_nothing(world: World) -> None:
    for delay in (HORIZON, timedelta(hours=-1)):
        late = react(world, expose(world, ("double-points", "control"), delay=delay), until=UNTIL, seed=5)
        assert late.truth["double-points"].lift == 0
        assert late.unsubscribes.empty


def test_the_first_of_several_messages_counts(world: World) -> None:
    exposure = expose(world, ("double-points",))
    again = exposure.sent.assign(sent_at=AS_OF + timedelta(days=6), channel="sms")
    for sent in (pd.concat([exposure.sent, again]), pd.concat([again, exposure.sent])):
        assert set(look_at(world, replace(exposure, sent=sent)).channel[::2]) == {"email"}


def test_a_later_assignment_knows_that_some_customers_left_meanwhile(world: World) -> None:
    later = replace(expose(world, ("double-points",), delay=timedelta(days=41)), assigned_at=AS_OF + timedelta(days=40))
    reactions = react(world, later, until=AS_OF + timedelta(days=75), seed=5)
    before = repurchased(later, react(world, later, until=AS_OF + timedelta(days=75), seed=5, effects={}))
    assert reactions.truth["double-points"].lift == pytest.approx(0.045)
    assert repurchased(later, reactions).mean() - before.mean() == pytest.approx(0.045, abs=0.008)


def test_an_experiment_without_customers_leaves_only_natural_orders(world: World) -> None:
    full = expose(world)
    empty = replace(full, assigned=full.assigned[:0], sent=full.sent[:0])
    reactions = react(world, empty, until=UNTIL, seed=5)
    assert reactions.truth == {}
    assert reactions.unsubscribes.empty
    assert len(reactions.orders) == len(without_extra(world, full).orders)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"assigned_at": AS_OF - timedelta(seconds=1)}, "before the world's instant"),
        (
            {"assigned": pd.DataFrame({"customer_id": ["C9", "C0000001"], "arm": ["a", "a"]})},
            "assigned: 1 customers .* 'C9'",
        ),
        ({"assigned": pd.DataFrame({"customer_id": ["C0000001"] * 2, "arm": ["a", "b"]})}, "stands there twice"),
    ],
)
def test_an_exposure_that_does_not_fit_the_world_is_refused(
    world: World, change: Mapping[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        react(world, replace(expose(world), **change), until=UNTIL, seed=5)  # type: ignore[arg-type]  # parametrised


def test_a_lift_out_of_reach_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="out of reach"):
        react(world, expose(world), until=UNTIL, seed=5, effects={"double-points": ArmEffect(lift=0.99)})
