"""The local provider: writes what would have been sent, one file a message, for anybody without an account."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
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

        A file appears complete or not at all. Raises ChannelError when the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return [self._write(message, now) for message in batch]
        except OSError as error:
            raise ChannelError(
                f"cannot write to the outbox {self.folder}: {error.strerror or type(error).__name__}"
            ) from error

    async def close(self) -> None:
        """Nothing is held open."""

    def path(self, key: str) -> Path:
        """Where the message of this key is, or would be, written."""
        return self.folder / (key_name(key) + _SUFFIX[self.channel])

    def _write(self, message: Outgoing, now: datetime) -> SendResult:
        path = self.path(message.key)
        provider_id = f"local-{path.stem}"
        if not path.exists():
            try:
                data = _encode(message, now)
            except ValueError:
                return SendResult(
                    message.key, "permanent", code="malformed", reason="a header or an address has a line break"
                )
            _write_whole(path, data)
        return SendResult(message.key, "accepted", provider_id=provider_id)


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


def _write_whole(path: Path, data: bytes) -> None:
    """Write aside, then link under the final name: the first writer of a key wins, nobody sees half a file."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
