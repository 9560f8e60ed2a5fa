"""Numbered manifests: which Parquet files make up the facts at one moment, and how a load appears all at once.

A manifest names every file of the three tables. It is written aside, flushed to disk and then linked to its number,
which fails when that number exists: of two concurrent loads one wins and the other starts over from the new state.
Nothing is ever overwritten, so a reader needs no lock: the files of the manifest it opened stay as they are (until
KEPT newer loads have followed).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from warehouse.facts.errors import FactsError
from warehouse.facts.schema import TABLES, AttributeKind, TableName

FOLDER: Final = "manifests"
FORMAT: Final = 1
KEPT: Final = 20
"""Manifests that stay, with their files, after newer ones: a reader may go on with one of these."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file: its path below the data folder, rows, bytes and the order-free digest of its rows."""

    path: str
    rows: int
    size_bytes: int
    digest: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of the facts after load number `version` (0: nothing loaded yet)."""

    version: int = 0
    files: Mapping[TableName, tuple[DataFile, ...]] = field(default_factory=dict)
    attributes: Mapping[str, AttributeKind] = field(default_factory=dict)
    delays: Mapping[int, int] = field(default_factory=dict)
    """Orders by the whole days between the order and the load that brought it; those of the first load are history."""

    def of(self, table: TableName) -> tuple[DataFile, ...]:
        """The files of a table, oldest first."""
        return self.files.get(table, ())

    def rows(self, table: TableName) -> int:
        """How many rows a table has."""
        return sum(file.rows for file in self.of(table))

    def fingerprint(self) -> str:
        """SHA-256 over the rows of the three tables, however they are spread over files."""
        state = {table: [self.rows(table), str(sum(f.digest for f in self.of(table)))] for table in TABLES}
        text = json.dumps([FORMAT, state, dict(self.attributes)], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


class VersionTaken(Exception):  # noqa: N818 - not an error: the loader starts over
    """Another load published this version first."""


def latest_manifest(data_dir: Path) -> Manifest:
    """The newest published state of a data folder; an empty one where nothing was ever loaded.

    Raises:
        FactsError: the newest manifest cannot be read.
    """
    numbers = [int(path.stem) for path in (data_dir / FOLDER).glob("*.json") if path.stem.isdigit()]
    if not numbers:
        return Manifest()
    path = manifest_path(data_dir, max(numbers))
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FactsError(
            f"{path}: the manifest of the facts cannot be read ({type(error).__name__}); expected format {FORMAT}. "
            "Restore the file, or remove it to go back to the load before"
        ) from error


def publish(data_dir: Path, manifest: Manifest) -> None:
    """Make a manifest the newest state, atomically and durably.

    Raises:
        VersionTaken: its number exists already.
        FactsError: the folder cannot be written.
    """
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{manifest.version:08d}-{uuid.uuid4().hex}.tmp"
    try:
        _write_durably(aside, _to_json(manifest))
        os.link(aside, manifest_path(data_dir, manifest.version))
        flush_to_disk(folder)
        _drop_old(data_dir, manifest)
    except FileExistsError as error:
        raise VersionTaken(str(manifest.version)) from error
    except OSError as error:
        raise FactsError(
            f"{folder}: the load cannot be published ({error.strerror}); expected a writable local folder whose file "
            "system has hard links. Nothing was changed"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def is_published(data_dir: Path, token: str) -> bool:
    """Whether some manifest names a file with that token in its name."""
    return any(token in path.read_text(encoding="utf-8") for path in (data_dir / FOLDER).glob("*.json"))


def drop_older(data_dir: Path, newest: Manifest) -> None:
    """Remove every state before this one, and the files that only those name: after an erasure."""
    _drop_up_to(data_dir, newest.version - 1)


def _drop_old(data_dir: Path, newest: Manifest) -> None:
    """Remove manifests that KEPT newer ones follow, and the files that only those name."""
    _drop_up_to(data_dir, newest.version - KEPT)


def _drop_up_to(data_dir: Path, version: int) -> None:
    paths = sorted((data_dir / FOLDER).glob("*.json"))
    dropped = [path for path in paths if int(path.stem) <= version]
    if not dropped:
        return
    named = {file for path in paths if path not in dropped for file in _paths(path)}
    for path in dropped:
        for file in _paths(path) - named:
            (data_dir / file).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _paths(path: Path) -> set[str]:
    manifest = _from_json(json.loads(path.read_text(encoding="utf-8")))
    return {file.path for table in TABLES for file in manifest.of(table)}


def manifest_path(data_dir: Path, version: int) -> Path:
    """Where the manifest of a version stands."""
    return data_dir / FOLDER / f"{version:08d}.json"


def flush_to_disk(path: Path) -> None:
    """Wait until a file's or a folder's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_durably(path: Path, content: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, sort_keys=True, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _to_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": manifest.version,
        "attributes": dict(manifest.attributes),
        "delays": {str(days): n for days, n in sorted(manifest.delays.items())},
        "tables": {
            table: [
                {"path": file.path, "rows": file.rows, "bytes": file.size_bytes, "digest": str(file.digest)}
                for file in manifest.of(table)
            ]
            for table in TABLES
        },
    }


def _from_json(content: Any) -> Manifest:
    if content["format"] != FORMAT:
        raise ValueError("unknown format")
    files = {
        cast("TableName", table): tuple(
            DataFile(str(f["path"]), int(f["rows"]), int(f["bytes"]), int(f["digest"])) for f in listed
        )
        for table, listed in content["tables"].items()
    }
    delays = {int(days): int(n) for days, n in content.get("delays", {}).items()}
    return Manifest(int(content["version"]), files, dict(content["attributes"]), delays)
