"""Write-back: files that are changed, patches, and the way back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from campaigns.write_back import Edit, Patch, WriteBackError, apply, propose, sha256_of, undo
from tests.campaigns.edits import CAMPAIGN, edit
from tests.conftest import skip_or_fail
from tests.together import together


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book" / "winback.yaml"
    path.parent.mkdir()
    path.write_bytes(CAMPAIGN.replace("\n", "\r\n").encode())
    return path


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history"


PROMOTE = [edit("arms/double-points/weight", "80%"), edit("arms/ten-percent-sms/weight", "10%")]


def applied(path: Path, history: Path, edits: Sequence[Edit] = PROMOTE) -> Patch:
    return apply(path, edits, expected_sha256=sha256_of(path.read_bytes()), history=history)


def test_applying_changes_the_file_and_keeps_the_way_back(book: Path, history: Path) -> None:
    before = book.read_bytes()

    patch = applied(book, history)

    assert patch.changed
    assert patch.file is not None
    assert patch.file.parent == history
    assert (
        book.read_bytes() == patch.after == before.replace(b'"40%"', b'"80%"').replace(b"weight: 40% ", b"weight: 10% ")
    )
    assert '-    weight: "40%"\r\n+    weight: "80%"\r\n' in patch.diff
    assert sorted(p.name for p in book.parent.iterdir()) == ["winback.yaml"]


def test_undo_gives_every_byte_back_one_change_at_a_time(book: Path, history: Path) -> None:
    versions = [book.read_bytes()]
    for weight in ("50%", "60%", "70%"):
        applied(book, history, [edit("arms/double-points/weight", weight)])
        versions.append(book.read_bytes())

    for version in reversed(versions[:-1]):
        patch = undo(history)
        assert patch.changed
        assert book.read_bytes() == version
    with pytest.raises(WriteBackError, match="nothing to undo"):
        undo(history)


def test_a_change_after_an_undo_can_be_undone_too(book: Path, history: Path) -> None:
    before = book.read_bytes()
    applied(book, history)
    undo(history)
    applied(book, history)
    undo(history)

    assert book.read_bytes() == before
    assert len(list(history.glob("*.json"))) == 4


def test_undo_can_be_told_the_file(book: Path, history: Path) -> None:
    other = book.with_name("other.yaml")
    other.write_bytes(book.read_bytes())
    applied(book, history)
    applied(other, history)

    assert undo(history, path=book).path == book.resolve()
    assert book.read_bytes() != other.read_bytes()


def test_undo_refuses_a_file_that_somebody_edited_since(book: Path, history: Path) -> None:
    applied(book, history)
    book.write_bytes(book.read_bytes() + b"# mine\r\n")

    with pytest.raises(WriteBackError, match="changed since"):
        undo(history)
    assert book.read_bytes().endswith(b"# mine\r\n")


def test_undo_passes_over_a_change_that_never_reached_the_file(book: Path, history: Path) -> None:
    first = book.read_bytes()
    applied(book, history)
    second = book.read_bytes()
    applied(book, history, [edit("status", "paused")])
    book.write_bytes(second)  # as if the process had died between the entry and the exchange

    undo(history)

    assert book.read_bytes() == first


def test_a_file_that_moved_is_refused_and_left_alone(book: Path, history: Path, tmp_path: Path) -> None:
    expected = sha256_of(book.read_bytes())
    book.write_bytes(book.read_bytes() + b"# mine\r\n")
    now = book.read_bytes()

    with pytest.raises(WriteBackError, match=r"winback\.yaml was changed since"):
        apply(book, PROMOTE, expected_sha256=expected, history=history)
    with pytest.raises(WriteBackError, match="changed since"):
        propose(book, PROMOTE, expected_sha256=expected, out=tmp_path / "p.patch")

    assert book.read_bytes() == now
    assert not list(history.glob("*.json"))
    assert not (tmp_path / "p.patch").exists()


def test_an_edit_that_cannot_be_made_leaves_file_and_history_alone(book: Path, history: Path) -> None:
    before = book.read_bytes()

    with pytest.raises(WriteBackError, match=r"winback\.yaml: arms: x: .*collection"):
        applied(book, history, [edit("status", "paused"), edit("arms", "x")])

    assert book.read_bytes() == before
    assert not list(history.glob("*.json"))


def test_an_edit_that_changes_nothing_writes_nothing(book: Path, history: Path, tmp_path: Path) -> None:
    stat = book.stat()

    patch = applied(book, history, [edit("status", "active")])
    proposal = propose(
        book, [edit("status", "active")], expected_sha256=sha256_of(book.read_bytes()), out=tmp_path / "p.patch"
    )

    assert not patch.changed
    assert patch.diff == proposal.diff == ""
    assert (book.stat().st_mtime_ns, book.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)
    assert not list(history.glob("*.json"))
    assert not (tmp_path / "p.patch").exists()


def test_the_files_mode_and_a_link_to_it_survive(book: Path, history: Path, tmp_path: Path) -> None:
    book.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(book)

    applied(link, history)

    assert link.is_symlink()
    assert b'"80%"' in book.read_bytes()
    assert book.stat().st_mode & 0o777 == 0o640


def test_a_proposal_is_a_patch_that_git_applies_and_reverses(book: Path, tmp_path: Path) -> None:
    git = shutil.which("git") or skip_or_fail("git", "not installed")
    before = book.read_bytes()
    out = tmp_path / "proposals" / "winback.patch"

    patch = propose(book, PROMOTE, expected_sha256=sha256_of(before), out=out, label="book/winback.yaml")

    assert book.read_bytes() == before
    assert patch.file == out
    run = {"cwd": tmp_path, "check": True, "env": {**os.environ, "GIT_DIR": str(tmp_path / "none")}}
    subprocess.run([git, "apply", str(out)], **run)  # type: ignore[call-overload]
    assert book.read_bytes() == patch.after
    subprocess.run([git, "apply", str(tmp_path / "proposals" / "winback.reverse.patch")], **run)  # type: ignore[call-overload]
    assert book.read_bytes() == before


def test_a_patch_of_a_file_without_a_last_line_break_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1")

    patch = propose(path, [edit("a", "2")], expected_sha256=sha256_of(b"a: 1"), out=tmp_path / "a.patch")

    assert patch.diff.splitlines()[-2:] == ["+a: 2", "\\ No newline at end of file"]
    assert patch.reverse_diff.count("No newline") == 2


def test_of_two_writers_with_the_same_expectation_one_wins(book: Path, history: Path) -> None:
    expected = sha256_of(book.read_bytes())

    def write(weight: str) -> str:
        try:
            apply(book, [edit("arms/double-points/weight", weight)], expected_sha256=expected, history=history)
        except WriteBackError:
            return "refused"
        return "won"

    outcomes = together(*(partial(write, f"{n}%") for n in range(50, 58)))
    assert sorted(outcomes) == ["refused"] * 7 + ["won"]


def test_files_that_cannot_be_read_or_written_are_said_so(book: Path, history: Path, tmp_path: Path) -> None:
    with pytest.raises(WriteBackError, match="cannot read"):
        apply(tmp_path / "none.yaml", PROMOTE, expected_sha256="", history=history)
    (history / "000001-broken.json").write_text("{")
    with pytest.raises(WriteBackError, match="not a history entry"):
        undo(history)


def test_a_folder_that_cannot_be_written_is_said_so(book: Path, history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("campaigns.write_back.patch.tempfile.mkstemp", refuse)

    with pytest.raises(WriteBackError, match="Permission denied"):
        applied(book, history)


def test_a_write_that_fails_half_way_leaves_nothing_behind(
    book: Path, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = book.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("campaigns.write_back.patch.os.fsync", full)

    with pytest.raises(OSError, match="No space"):
        applied(book, history)
    assert book.read_bytes() == before
    assert sorted(p.name for p in history.iterdir()) == [".lock"]
