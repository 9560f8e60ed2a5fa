"""SMS through Twilio: one request a message, by the official client over our own wire.

Twilio has no idempotency key for messages (measured against its published description), but it can be asked what it
accepted: capability Q. The status callback carries the message key, so a callback proves an acceptance whose answer
was lost.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from channels.departure import carrying, running_clock
from channels.errors import ChannelError
from channels.message import Channel, Outgoing, Sms
from channels.provider import Capability, SendResult
from channels.wire import InDoubt, NotSent, Reply, Wire, WireLimits, asked_to_wait_s, each, form, retry_after_s

if TYPE_CHECKING:
    from twilio.rest import Client

LONGEST_VALIDITY_S: Final = 36_000
LONGEST_BODY: Final = 1_600

SUPPRESS: Final = frozenset({21211, 21610, 21614, 21635, 30005, 30006})
"""The number cannot or must not be used again: not a number, STOP, no mobile, a landline, an unknown handset."""
HALT: Final = frozenset(
    {
        *(20003, 20005, 20006, 20008, 20404),  # a refused password, a closed account, one that does not exist
        *(21601, 21603, 21606, 21608, 21659, 21660),  # a sender that is not ours, or sends no SMS; a trial account
        *(21609, 21701, 21703, 21704, 21705, 30124, 30127),  # the callback's address; the Messaging Service
        *(30007, 30034),  # a filtered campaign, an unregistered one
    }
)
"""Nothing will leave until a person has looked: every message would be refused for it."""
LATER: Final = frozenset({20429, 21611, 21702, 30001, 30003, 30008})
"""Not taken, and may be taken later: too many requests, a full queue, a service that is not there for the moment."""
UNREACHABLE: Final = frozenset({21408, 21612})
"""This number cannot be reached from ours (its country is not switched on, no route): others can."""

_LIST_LIMIT: Final = 50
_SID: Final = re.compile(r"(?:SM|MM)[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """Who sends: the account, and either a Messaging Service or a sender. Printing it shows no token."""

    account_sid: str
    auth_token: str = field(repr=False)
    messaging_service_sid: str | None = None
    sender: str | None = None
    status_callback: str | None = None
    """Our public address for status callbacks; the message key is added to it as the query parameter m."""
    base_url: str | None = None
    """In place of https://api.twilio.com."""

    def __post_init__(self) -> None:
        if (self.messaging_service_sid is None) == (self.sender is None):
            raise ChannelError("twilio: set either messaging_service_sid or sender, and not both")


class TwilioProvider:
    """Sends SMS through one Twilio account."""

    name: Final = "twilio"
    channel: Final[Channel] = "sms"
    capability: Final[Capability] = "Q"

    def __init__(self, account: TwilioAccount, *, wire: Wire | None = None) -> None:
        """`wire` bounds connections and time; one is made if none is given."""
        self.account = account
        self.wire = wire or Wire(WireLimits(connections=64, total_s=20.0))

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """One request for each message; a refusal of one says nothing about the others."""
        clock = running_clock(now)
        return await each(batch, lambda message: self._send(message, now, clock), at_once=self.wire.limits.connections)

    async def close(self) -> None:
        """Close the connections; the next send opens them again."""
        await self.wire.close()

    async def find(self, message: Outgoing, *, since: datetime, others: Collection[str] = ()) -> SendResult | None:
        """Ask whether a message in doubt was accepted after `since`: the newest to this number with this text.

        `others` are Twilio's ids of messages that are known to be other ones. None: Twilio does not know it. Unknown:
        there is another text to this number of which nobody knows whose it is (what we send now may read differently
        from what was sent then: a name has changed, a template was mended), or it lists no more than so many. Raises
        ChannelError where it cannot be asked now. Ask only after the longest delay with which one may still appear.
        """
        assert isinstance(message.content, Sms)  # the channel's messages
        try:
            found = await self._client.messages.list_async(
                to=message.address.value, limit=_LIST_LIMIT, page_size=_LIST_LIMIT
            )
        except Exception as error:  # noqa: BLE001 (the client raises a dozen kinds; none of them may carry the number out)
            raise ChannelError(f"twilio cannot be asked: {type(error).__name__}") from None
        begin, wanted = since - timedelta(seconds=5), _letters(message.content.body)
        recent = [item for item in found if item.date_created is not None and item.date_created >= begin]
        unclaimed = [item for item in recent if item.sid not in others and item.direction != "inbound"]
        for item in unclaimed:
            if _letters(item.body or "") == wanted:
                return SendResult(message.key, "accepted", provider_id=item.sid)
        if unclaimed:
            return SendResult(message.key, "unknown", code="other_text", reason="another text to this number")
        if len(recent) >= _LIST_LIMIT:
            return SendResult(message.key, "unknown", code="too_many", reason="too many messages to this number")
        return None

    async def _send(self, message: Outgoing, now: datetime, clock: Callable[[], datetime]) -> SendResult:
        problem = _malformed(message, now)
        if problem is not None:
            return problem
        url, headers = self._letterhead
        body = form(self._fields(message, clock()))  # the last message of a batch may leave long after the first
        try:
            with carrying((message.key,)):
                reply = await self.wire.request("POST", url, headers=headers, body=body)
        except NotSent as error:
            return SendResult(message.key, "transient", code=error.code, reason="the request did not leave")
        except InDoubt as error:
            return SendResult(message.key, "unknown", code=error.code, reason="the request left, no answer came")
        return classify(message.key, reply, now=now)

    def _fields(self, message: Outgoing, now: datetime) -> dict[str, str]:
        """The form of one create request, in the names of Twilio's description of it."""
        account = self.account
        assert isinstance(message.content, Sms)  # checked before
        fields = {"To": message.address.value, "Body": message.content.body}
        if account.messaging_service_sid is not None:
            fields["MessagingServiceSid"] = account.messaging_service_sid
        else:
            fields["From"] = account.sender or ""
        if account.status_callback is not None:
            joint = "&" if "?" in account.status_callback else "?"
            fields["StatusCallback"] = f"{account.status_callback}{joint}m={quote(message.key, safe='')}"
        if message.expires_at is not None:
            left = ceil((message.expires_at - now).total_seconds())
            fields["ValidityPeriod"] = str(max(1, min(left, LONGEST_VALIDITY_S)))
        return fields

    @cached_property
    def _letterhead(self) -> tuple[str, dict[str, str]]:
        """Address and headers of every create request as the official client makes them; it would do so each time.

        Measured: the client's own way from call to wire takes as long as writing the request.
        """
        client = self._client
        url = f"{client.api.base_url}/2010-04-01/Accounts/{self.account.account_sid}/Messages.json"
        headers = {**client.get_headers("POST", None), "Authorization": _basic(client.auth)}
        return client.get_hostname(url), headers

    @cached_property
    def _client(self) -> Client:
        """The official client over our wire; importing it takes a moment, so it is made when first used."""
        from twilio.rest import Client

        account = self.account
        client = Client(account.account_sid, account.auth_token, http_client=_bridge(self.wire))
        if account.base_url is not None:
            client.api.base_url = account.base_url
        return client


def classify(key: str, reply: Reply, *, now: datetime) -> SendResult:
    """What an answer says about its message: by status, then by Twilio's error code."""
    status = reply.status
    if status in (200, 201):
        sid = _document(reply).get("sid")
        if isinstance(sid, str) and _SID.fullmatch(sid):
            return SendResult(key, "accepted", provider_id=sid)
        return SendResult(key, "unknown", code="malformed_answer", reason="the answer has no message id")
    if status >= 500 or status < 400:
        wait, reason = asked_to_wait_s(reply, now=now), "the answer does not say whether it was taken"
        return SendResult(key, "unknown", code=f"http_{status}", reason=reason, retry_after_s=wait)
    code = _document(reply).get("code")
    number = code if isinstance(code, int) and not isinstance(code, bool) else None
    if status == 429 or number in LATER:
        wait = retry_after_s(reply.headers, now=now)
        return SendResult(key, "transient", code=str(number or 429), reason="too many for now", retry_after_s=wait)
    if number in SUPPRESS:
        return SendResult(key, "permanent", code=str(number), reason="the number is no use", action="suppress")
    if number in UNREACHABLE:
        return SendResult(key, "permanent", code=str(number), reason="no way from our sender to the number")
    if status in (401, 403) or number in HALT:
        return SendResult(key, "transient", code=str(number or status), reason="the account", action="halt")
    if number is None:
        return SendResult(key, "unknown", code=f"http_{status}", reason="an answer that is not Twilio's")
    return SendResult(key, "permanent", code=str(number), reason="refused by Twilio")


def _letters(text: str) -> str:
    """The letters and digits of a text, without accents: what Twilio's Smart Encoding leaves as it was."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text)))


def _malformed(message: Outgoing, now: datetime) -> SendResult | None:
    """What Twilio would refuse anyway, or must not be asked to do."""
    if not isinstance(message.content, Sms) or not 0 < len(message.content.body) <= LONGEST_BODY:
        return SendResult(
            message.key, "permanent", code="malformed", reason=f"no SMS of 1 to {LONGEST_BODY} characters"
        )
    if not re.fullmatch(r"\+[1-9]\d{6,14}", message.address.value):
        reason = "the number is not in international form (+ and 7 to 15 digits)"
        return SendResult(message.key, "permanent", code="bad_address", reason=reason)
    if message.expires_at is not None and (message.expires_at - now).total_seconds() < 1:
        return SendResult(message.key, "permanent", code="expired", reason="its time was over before it left")
    return None


def _document(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _basic(pair: tuple[str, str]) -> str:
    return f"Basic {base64.b64encode(':'.join(pair).encode()).decode()}"


def _bridge(wire: Wire) -> Any:
    """Twilio's client interface over our wire: no retries, no logs, and the answer's headers kept."""
    from twilio.http import AsyncHttpClient
    from twilio.http.response import Response

    class Bridge(AsyncHttpClient):  # type: ignore[misc]  # twilio ships no annotations
        def __init__(self) -> None:
            self.is_async, self.timeout = True, None

        async def request(self, method: str, uri: str, **options: Any) -> Any:
            headers = dict(options.get("headers") or {})
            if options.get("auth"):
                headers["Authorization"] = _basic(options["auth"])
            params = {name: value for name, value in (options.get("params") or {}).items() if value is not None}
            address = f"{uri}?{form(params).decode()}" if params else uri
            body = form(options["data"]) if options.get("data") else None
            reply = await wire.request(method.upper(), address, headers=headers, body=body)
            return Response(reply.status, reply.body.decode("utf-8", "replace"), reply.headers)

    return Bridge()
