"""Invariant 7: whatever moment a writer is killed at, the campaign file is the old one or the new one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from campaigns.write_back import Edit, apply, sha256_of, undo

KILLS = 50
NOTE = "#" + " a long note that makes a torn write likely" * 100

WRITER = """
import re, sys
from pathlib import Path
from campaigns.write_back import Edit, apply, sha256_of
path, history = Path(sys.argv[1]), Path(sys.argv[2])
data = path.read_bytes()
share = int(path.read_text().split("weight: ")[1].split("%")[0])
while True:
    share = share % 90 + 1
    edits = [Edit(("arms", "a", "weight"), f"{share}%")]
    WRITE
    print(flush=True)
"""
SAFELY = "apply(path, edits, expected_sha256=sha256_of(path.read_bytes()), history=history)"
IN_PLACE = "path.open('wb').write(re.sub(rb'weight: .*?,', b'weight: %d%%,' % share, data))"  # the seeded bug


def campaign(share: int) -> str:
    return f"campaign: x\n{NOTE}\narms:\n  a: {{weight: {share}%, offer: o}}  # 备注\n  b: {{weight: 10%}}\n"


VERSIONS = {sha256_of(campaign(share).encode()): share for share in range(1, 91)}


def kill_writers(folder: Path, write: str, *, seed: int) -> tuple[set[int], int]:
    """Kill a writer again and again: which whole versions were met afterwards, and how often the file was torn."""
    path, history = folder / "x.yaml", folder / "history"
    rng = random.Random(seed)
    whole: set[int] = set()
    torn = 0
    path.write_text(campaign(1))
    for _ in range(KILLS):
        if torn:
            break  # found what the trial looks for
        command = [sys.executable, "-c", WRITER.replace("WRITE", write), str(path), str(history)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randint(1, 4)):
                writer.stdout.readline()  # one line a write
            threading.Timer(rng.uniform(0.0, 0.02), os.kill, (writer.pid, signal.SIGKILL)).start()
            writer.wait()
        version = VERSIONS.get(sha256_of(path.read_bytes()))
        if version is None:
            torn += 1
            path.write_text(campaign(1))
        else:
            whole.add(version)
        for entry in history.glob("[0-9]*.json"):
            entry.unlink()
    return whole, torn


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    whole, torn = kill_writers(tmp_path, SAFELY, seed=20261122)

    assert torn == 0
    assert len(whole) > 3
    path, history = tmp_path / "x.yaml", tmp_path / "history"
    before = path.read_bytes()
    apply(path, [Edit(("arms", "b", "weight"), "5%")], expected_sha256=sha256_of(before), history=history)
    undo(history)
    assert path.read_bytes() == before


def test_the_harness_would_see_a_torn_file(tmp_path: Path) -> None:
    """The same trial against a writer that overwrites the file in place finds it torn."""
    _, torn = kill_writers(tmp_path, IN_PLACE, seed=7)

    assert torn > 0
