"""The local provider: what it says it took is on the disk."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from channels.errors import ChannelError
from channels.message import Address, Outgoing, Sms
from channels.providers.local import LocalProvider

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def texts(n: int) -> list[Outgoing]:
    return [
        Outgoing(f"x:1/c{i}/1", "sms", f"c{i}", Address("sms", "+15005550006"), Sms(f"Hello {i}")) for i in range(n)
    ]


def test_what_is_accepted_has_reached_the_disk_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    seen_at_folder: list[int] = []
    wait = os.fsync

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        if os.fstat(handle).st_ino == tmp_path.stat().st_ino:
            seen_at_folder.append(len(list(tmp_path.glob("*.txt"))))
        wait(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    provider = LocalProvider("sms", tmp_path)
    results = asyncio.run(provider.send(texts(5), now=NOW))
    assert {result.outcome for result in results} == {"accepted"}
    files = [path.stat().st_ino for path in tmp_path.iterdir()]
    assert len(files) == 5
    assert set(files) < set(synced)
    assert synced[-1] == tmp_path.stat().st_ino  # the names last, once all are there
    assert seen_at_folder == [5]


def test_a_full_disk_is_told_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ChannelError, match="No space left"):
        asyncio.run(LocalProvider("sms", tmp_path).send(texts(3), now=NOW))
    assert list(tmp_path.iterdir()) == []


def test_a_message_given_twice_is_written_once_and_accepted_twice(tmp_path: Path) -> None:
    provider = LocalProvider("sms", tmp_path)
    first = asyncio.run(provider.send(texts(2), now=NOW))
    (path, other) = sorted(tmp_path.iterdir())
    path.write_text("as it was")
    assert asyncio.run(provider.send(texts(2), now=NOW)) == first
    assert path.read_text() == "as it was"
    assert sorted(tmp_path.iterdir()) == [path, other]
