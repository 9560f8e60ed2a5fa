"""Experiments in the ledger: one frozen design per epoch, one running per campaign."""

from __future__ import annotations

import pytest

from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.experiments import (
    current_experiment,
    end_experiment,
    experiment,
    experiments,
    latest_epoch,
    start_experiment,
)

from .story import DAY, T0, design, start


def test_starting_twice_gives_the_same_experiment(ledger: Ledger) -> None:
    start(ledger)
    start(ledger)
    with ledger.read() as tx:
        found = experiments(tx)
        assert [row.experiment_id for row in found] == ["winback:1"]
        assert found[0].design == design()
        assert current_experiment(tx, "winback") == found[0] == experiment(tx, "winback:1")
        assert current_experiment(tx, "other") is None
        assert (latest_epoch(tx, "winback"), latest_epoch(tx, "other")) == (1, 0)


def test_a_running_epoch_takes_no_other_design(ledger: Ledger) -> None:
    start(ledger)
    with pytest.raises(LedgerError, match="another design"), ledger.begin() as tx:
        start_experiment(tx, design(), design_hash="e" * 64, started_at=T0)


def test_the_next_epoch_starts_once_the_running_one_has_ended(ledger: Ledger) -> None:
    start(ledger)
    with pytest.raises(LedgerError, match="while epoch 1 runs"):
        start(ledger, epoch=2)
    with ledger.begin() as tx:
        assert end_experiment(tx, "winback:1", reason="promoted", ended_at=T0 + DAY)
        assert not end_experiment(tx, "winback:1", reason="again", ended_at=T0 + 2 * DAY)
    start(ledger, epoch=2)
    with ledger.read() as tx:
        ended, running = experiments(tx, "winback")
    assert (ended.status, ended.end_reason, ended.ended_at) == ("ended", "promoted", T0 + DAY)
    assert (running.epoch, running.status) == (2, "running")
    with ledger.begin() as tx:
        end_experiment(tx, "winback:2", reason="stopped", ended_at=T0 + DAY)
    with pytest.raises(LedgerError, match="ended already"), ledger.begin() as tx:
        start_experiment(tx, design(epoch=2), design_hash="d" * 64, started_at=T0)


def test_an_unknown_experiment_is_named(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no experiment nothing:1"), ledger.read() as tx:
        experiment(tx, "nothing:1")
