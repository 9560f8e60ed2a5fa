"""Patches of campaign files: proposed as a file, applied in place as a whole, and undone to the byte."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

from campaigns.write_back.errors import WriteBackError
from campaigns.write_back.splice import Edit, splice


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of one file: its bytes before and after, and how a person reads the difference.

    `file` is where the patch or its history entry was written; None where nothing changed.
    """

    path: Path
    before: bytes
    after: bytes
    edits: tuple[Edit, ...] = ()
    file: Path | None = None
    label: str = ""

    @property
    def changed(self) -> bool:
        """Whether there is any difference."""
        return self.before != self.after

    @property
    def diff(self) -> str:
        """The change as a unified diff that `git apply` and `patch` understand; "" where nothing changes."""
        return _diff(self.before, self.after, self.label or self.path.name)

    @property
    def reverse_diff(self) -> str:
        """The way back, as a unified diff."""
        return _diff(self.after, self.before, self.label or self.path.name)


def sha256_of(data: bytes) -> str:
    """The fingerprint of a file's bytes: what `expected_sha256` is compared with."""
    return hashlib.sha256(data).hexdigest()


def propose(path: Path, edits: Sequence[Edit], *, expected_sha256: str, out: Path, label: str | None = None) -> Patch:
    """Write what `apply` would do as a patch file `out`, and the way back beside it (.reverse.patch); nothing else.

    `label` is the file's name inside the patch, relative to where it will be applied (the bare name if not given). An
    edit that changes nothing writes nothing. Raises WriteBackError as `splice`, and where `path` is no longer the file
    with `expected_sha256` (of the bytes the decision was taken on).
    """
    patch = replace(_plan(path, edits, expected_sha256), label=label or path.name)
    if not patch.changed:
        return patch
    out.parent.mkdir(parents=True, exist_ok=True)
    _replace(out, patch.diff.encode())
    _replace(_reverse_name(out), patch.reverse_diff.encode())
    return replace(patch, file=out)


def apply(path: Path, edits: Sequence[Edit], *, expected_sha256: str, history: Path, reason: str = "") -> Patch:
    """Make the edits in place: the file is the old one or the new one at every moment, power failures included.

    The folder `history` keeps an entry with the way back for `undo`, written before the file is exchanged; `reason` is
    kept with it. Writers that share a history take turns: of two with the same expectation the second is refused. An
    edit that changes nothing writes nothing. Raises WriteBackError as `propose`.
    """
    with _turn(history):
        patch = _plan(path, edits, expected_sha256)
        return _commit(history, patch, {"kind": "apply", "reason": reason}) if patch.changed else patch


def undo(history: Path, *, path: Path | None = None) -> Patch:
    """Take back the last change that `apply` made and that was not taken back yet: of `path`, or of any file.

    The file gets its former bytes back, all of them. Raises WriteBackError where there is nothing to take back, or
    where the file was changed since by somebody else.
    """
    with _turn(history):
        entries = _entries(history)
        undone = {entry["undoes"] for _, entry in entries if entry["kind"] == "undo"}
        for name, entry in reversed(entries):
            target = Path(entry["path"])
            if entry["kind"] != "apply" or name in undone or (path is not None and target != path.resolve()):
                continue
            before, after = entry["before"].encode(), entry["after"].encode()
            current = _read(target)
            if current == before:
                continue  # the entry was written, the exchange never happened
            if current != after:
                raise WriteBackError(f"{target.name} was changed since; take the change back by hand: {history / name}")
            return _commit(history, Patch(target, after, before), {"kind": "undo", "undoes": name})
    raise WriteBackError(f"nothing to undo in {history}")


def _plan(path: Path, edits: Sequence[Edit], expected_sha256: str) -> Patch:
    before = _read(path)
    if sha256_of(before) != expected_sha256:
        raise WriteBackError(f"{path.name} was changed since the decision was taken on it; measure and decide again")
    try:
        return Patch(path, before, splice(before, edits), tuple(edits))
    except WriteBackError as error:
        raise WriteBackError(f"{path.name}: {error}") from None


def _commit(history: Path, patch: Patch, entry: dict[str, Any]) -> Patch:
    target = patch.path.resolve()  # a link stays a link
    number = len(_entries(history)) + 1
    name = f"{number:06d}-{target.stem}.json"
    document = {
        **entry,
        "path": str(target),
        "before": patch.before.decode(),
        "after": patch.after.decode(),
        "edits": [{"path": list(edit.path), "value": edit.value} for edit in patch.edits],
        "reverse_patch": patch.reverse_diff,
    }
    _replace(history / name, (json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode())
    _replace(target, patch.after)
    return replace(patch, file=history / name)


def _entries(history: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for file in sorted(history.glob("[0-9]*.json")):
        try:
            found.append((file.name, json.loads(file.read_bytes())))
        except ValueError:
            raise WriteBackError(f"{file} is not a history entry; restore or remove it") from None
    return found


@contextmanager
def _turn(history: Path) -> Iterator[None]:
    """Hold the history folder's lock; it falls with the process, however that ends."""
    history.mkdir(parents=True, exist_ok=True)
    with (history / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WriteBackError(f"cannot read {path}: {error.strerror or type(error).__name__}") from error


def _replace(path: Path, data: bytes) -> None:
    """Exchange a file as a whole: write aside, to disk, rename, and the folder to disk too."""
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise WriteBackError(f"cannot write to {path.parent}: {error.strerror or type(error).__name__}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), path.stat().st_mode & 0o7777 if path.exists() else 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _reverse_name(out: Path) -> Path:
    return out.with_name(f"{out.name.removesuffix('.patch')}.reverse.patch")


def _diff(before: bytes, after: bytes, name: str) -> str:
    lines = unified_diff(_lines(before), _lines(after), f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(data: bytes) -> list[str]:
    """Lines as diff sees them: a carriage return belongs to its line."""
    *whole, rest = data.decode().split("\n")
    return [f"{line}\n" for line in whole] + ([rest] if rest else [])
