"""A worker's memory does not grow with what it delivers; `python -m benchmarks queue` does it with a million messages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.bench_queue import LIMIT_MB, deliver_in_a_process, fill_queue


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_stays_below_300_mb_and_does_not_grow_with_what_it_delivers(tmp_path: Path) -> None:
    fill_queue(tmp_path / "shop", 12_040)
    found = deliver_in_a_process(tmp_path / "shop", 8_000)
    assert found["sent"] == 8_000
    assert found["peak_mb"] < LIMIT_MB
    (_, early), (_, late) = found["resident_mb"][3], found["resident_mb"][-1]
    assert late - early < 16  # 4,000 messages kept as rows would be some 8 MB, with their bodies 40
