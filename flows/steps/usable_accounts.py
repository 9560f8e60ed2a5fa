"""The provider accounts of one delivery run: each opened when a message first needs it, a wrong one left alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from channels.provider import Provider
from flows.settings import SettingsError
from warehouse.ledger.messages import due_lanes

if TYPE_CHECKING:
    from flows.wiring import Workspace

_log = logging.getLogger(__name__)


class UsableAccounts:
    """Opens accounts one by one, so that a channel that is set up wrongly keeps only its own messages waiting."""

    def __init__(self, ws: Workspace) -> None:
        """Nothing is opened yet."""
        self._ws = ws
        self._opened: dict[str, Provider] = {}
        self.unusable: dict[str, str] = {}
        """Channel -> what is wrong with its account, of those that were needed."""

    def open(self, channel: str) -> Provider | None:
        """The channel's provider; None, and an entry in `unusable`, where its account is set up wrongly."""
        if channel not in self._opened and channel not in self.unusable:
            try:
                self._opened[channel] = self._ws.providers[channel]
            except SettingsError as error:
                self.unusable[channel] = str(error)
                _log.error("the account for %s cannot be used: %s", channel, error)
        return self._opened.get(channel)

    def usable(self, channels: Iterable[str], *, now: datetime) -> tuple[str, ...]:
        """Those of the channels whose messages may be claimed. Before its first claim a channel's account is opened."""
        wanted = [channel for channel in channels if channel not in self.unusable]
        untried = [channel for channel in wanted if channel not in self._opened]
        if untried:
            with self._ws.ledger.read() as tx:
                due = {channel for _, channel in due_lanes(tx, now, untried)}
            for channel in sorted(due):
                self.open(channel)
        return tuple(channel for channel in wanted if channel in self._opened)

    async def close(self) -> None:
        """Give back what was opened."""
        for provider in self._opened.values():
            await provider.close()
