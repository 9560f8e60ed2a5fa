"""receive and resolve on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]


def test_a_file_of_events_is_counted_and_a_second_time_changes_nothing(shop: Path, retain: Cli, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    events = [
        {"event": "delivered", "sg_event_id": "E1", "message_key": "gone:1/C1/1"},
        {"event": "group_resubscribe", "sg_event_id": "E2"},
    ]
    file.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    outcome = retain("receive", file, "--json")
    assert (outcome.code, outcome.json["events"], outcome.json["unknown"], outcome.json["silent"]) == (0, 2, 1, 1)
    shown = retain("receive", file)
    assert shown.code == 0
    assert "unknown" in shown.out


def test_a_file_that_is_not_there_or_broken_is_named(shop: Path, retain: Cli, tmp_path: Path) -> None:
    missing = retain("receive", tmp_path / "none.jsonl")
    assert missing.code == 1
    assert "none.jsonl" in missing.err
    (tmp_path / "broken.jsonl").write_text("{", encoding="utf-8")
    broken = retain("receive", tmp_path / "broken.jsonl")
    assert broken.code == 1
    assert "broken.jsonl:1: not JSON" in broken.err


def test_a_file_that_is_no_text_or_nests_without_end_is_told_plainly(shop: Path, retain: Cli, tmp_path: Path) -> None:
    for name, data in (("binary", b"\xff\xfe\x00"), ("deep", b"[" * 200_000), ("deep line", b'{"a":' * 100_000)):
        (tmp_path / name).write_bytes(data)
        told = retain("receive", tmp_path / name)
        assert told.code == 1
        assert "expected a list of events, or one object a line" in told.err


def test_a_line_ends_where_the_file_ends_it(shop: Path, retain: Cli, tmp_path: Path) -> None:
    event = {
        "event": "click",
        "url": "https://x.example/\u2028a\x85b",
        "sg_event_id": "E1",
        "message_key": "gone:1/C1/1",
    }
    file = tmp_path / "events.jsonl"
    file.write_text(f"{json.dumps(event, ensure_ascii=False)}\r\n{json.dumps(event)}\n", encoding="utf-8", newline="")
    outcome = retain("receive", file, "--json")
    assert (outcome.code, outcome.json["events"], outcome.json["unknown"]) == (0, 2, 2)


def test_only_messages_in_doubt_are_settled_by_hand(shop: Path, retain: Cli) -> None:
    unknown = retain("resolve", "x:1/C1/1", "sent")
    assert unknown.code == 1
    assert "no message x:1/C1/1" in unknown.err
    wrong = retain("resolve", "x:1/C1/1", "lost")
    assert wrong.code == 1
    assert "expected one of sent, failed" in wrong.err
