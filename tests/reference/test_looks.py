"""Boundaries of looks and confidence sequences: published values, and the error they spend."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.design import Design
from experiments.errors import ExperimentError
from experiments.sequential import (
    boundaries,
    due_look,
    look_boundary,
    obrien_fleming_spent,
    pocock_spent,
    sequence_half_width,
    sequence_one_sided,
)

DESIGN = Design(
    experiment_id="e", campaign="c", salt="s", weights=(("a", 0.5), ("control", 0.5)), primary="repurchase",
    horizon_days=30, looks=4,
)  # fmt: skip


def test_published_boundaries_are_reproduced() -> None:
    # Lan and DeMets' O'Brien-Fleming spending, five equal looks, two-sided 0.05 (Reboussin et al. 2000, table 2)
    assert boundaries([0.2, 0.4, 0.6, 0.8, 1.0]) == pytest.approx((4.877, 3.357, 2.680, 2.290, 2.031), abs=6e-4)
    # Pocock-type spending, five equal looks (the same programme): 2.438, 2.427, 2.410, 2.397, 2.386
    assert boundaries([0.2, 0.4, 0.6, 0.8, 1.0], spending="pocock") == pytest.approx(
        (2.438, 2.427, 2.410, 2.397, 2.386), abs=6e-4
    )
    assert boundaries([1.0]) == pytest.approx((1.959964,), abs=1e-6)
    assert boundaries([0.25, 0.5, 0.75, 1.0]) == pytest.approx((4.333, 2.963, 2.359, 2.014), abs=6e-4)


def test_spending_ends_at_alpha() -> None:
    for spent in (obrien_fleming_spent, pocock_spent):
        assert spent(1.0, alpha=0.025) == pytest.approx(0.025)
        assert spent(0.3, alpha=0.025) < spent(0.6, alpha=0.025)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_unequal_looks_spend_exactly_alpha(spending: str) -> None:
    fractions = np.array([0.15, 0.4, 0.45, 0.9, 1.0])
    limits = np.array(boundaries(fractions.tolist(), spending=spending))
    rng = np.random.default_rng(4)
    steps = rng.normal(size=(200_000, 5)) * np.sqrt(np.diff(fractions, prepend=0.0))
    z = np.cumsum(steps, axis=1) / np.sqrt(fractions)
    # 200,000 paths: the rate's standard error is 0.0005
    assert (np.abs(z) > limits).any(axis=1).mean() == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("bad", [[], [0.0, 1.0], [0.5, 0.4], [0.5, 1.2]])
def test_impossible_fractions_are_refused(bad: list) -> None:
    with pytest.raises(ExperimentError, match="fractions"):
        boundaries(bad)
    with pytest.raises(ExperimentError, match="not known"):
        boundaries([1.0], spending="free")  # type: ignore[arg-type] # a wrong name on purpose


def test_a_look_is_due_at_its_share_of_information() -> None:
    assert due_look(DESIGN, information=0.2, looks_done=0) == (1, False, False, 0.2)
    assert due_look(DESIGN, information=0.3, looks_done=0).due
    assert not due_look(DESIGN, information=0.3, looks_done=1).due
    skipped = due_look(DESIGN, information=0.8, looks_done=1)
    assert (skipped.look, skipped.due) == (3, True)
    assert due_look(DESIGN, information=0.96, looks_done=3) == (4, True, True, 0.96)
    assert not due_look(DESIGN, information=1.0, looks_done=4).due


def test_the_last_look_spends_what_is_left() -> None:
    assert look_boundary(DESIGN, look=4, information=0.96) == pytest.approx(2.014, abs=6e-4)
    # nothing was looked at before: the whole 5 % is there
    assert look_boundary(DESIGN, look=4, information=1.0, past=(0.999999999,)) == pytest.approx(1.96, abs=1e-3)
    assert look_boundary(DESIGN, look=2, information=0.5, past=(0.25,)) == pytest.approx(2.963, abs=6e-4)


def test_before_anything_has_matured_no_boundary_can_be_crossed() -> None:
    assert look_boundary(DESIGN, look=1, information=0.0) == math.inf


def test_confidence_sequences_hold_at_every_look() -> None:
    rng = np.random.default_rng(2)
    days = np.arange(1, 61) * 200
    totals = np.cumsum(rng.normal(size=(4000, days.size)) * np.sqrt(200), axis=1)
    two = np.array([sequence_half_width(1 / np.sqrt(n), int(n), alpha=0.05, tuning=5000) for n in days])
    one = np.array([sequence_one_sided(1 / np.sqrt(n), int(n), alpha=0.05, tuning=5000) for n in days])
    assert (np.abs(totals / days) > two).any(axis=1).mean() <= 0.05
    assert (totals / days > one).any(axis=1).mean() <= 0.05
    assert (one < two).all()
