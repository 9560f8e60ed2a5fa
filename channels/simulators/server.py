"""The simulator's process: three providers behind one address, their ledger, and the controls of a trial."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from channels.simulators.faults import FaultPlan
from channels.simulators.fcm import FcmSimulator
from channels.simulators.http import HttpServer, Request, Response, json_response
from channels.simulators.receipts import (
    Receipt,
    ReceiptPlan,
    loopback_address,
    sendgrid_receipts,
    twilio_receipts,
)
from channels.simulators.record import Accepted, Book, Clock
from channels.simulators.sendgrid import SendGridSimulator
from channels.simulators.tls import Certificate, make_certificate
from channels.simulators.twilio import TwilioSimulator
from channels.wire import InDoubt, NotSent, Wire, WireLimits

_KEEP_REQUESTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Receivers:
    """Where receipts go: public addresses and what stands for them on this machine; the events of e-mails."""

    rewrite: Mapping[str, str] = field(default_factory=dict)
    sendgrid_url: str | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Receivers:
        """As the controls take it: {"rewrite": {...}, "sendgrid_url": ...}."""
        url = document.get("sendgrid_url")
        return cls(dict(document.get("rewrite", {})), None if url is None else str(url))


class Simulator:
    """Looks like Twilio, SendGrid and FCM; `book` is what they accepted, `requests` what they were asked."""

    def __init__(self, *, clock: Clock | None = None, plan: FaultPlan | None = None, with_tls: bool = False) -> None:
        """`clock` dates what is accepted (the real time if none is given); `plan` says what fails.

        `with_tls` serves https with a certificate of its own, `certificate`, that callers must be told to trust.
        """
        now = clock or (lambda: datetime.now(UTC))
        self.book = Book()
        self.plan = plan or FaultPlan()
        self.twilio = TwilioSimulator(self.book, now)
        self.sendgrid = SendGridSimulator(self.book, now)
        self.fcm = FcmSimulator(self.book, now)
        self.receivers = Receivers()
        self.requests: list[Request] = []
        self.certificate: Certificate | None = make_certificate(now()) if with_tls else None
        self._server = HttpServer(self._handle)

    async def start(self, port: int = 0) -> str:
        """Listen on the loopback and give the base address."""
        if self.certificate is None:
            return f"http://127.0.0.1:{await self._server.start(port)}"
        return f"https://127.0.0.1:{await self._server.start(port, tls=self.certificate.server_context())}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop()

    async def _handle(self, request: Request) -> Response:
        if request.path.startswith("/__sim/"):
            return await self._control(request)
        if len(self.requests) < _KEEP_REQUESTS:
            self.requests.append(request)
        for provider in (self.twilio, self.sendgrid, self.fcm):
            if provider.handles(request):
                fault = self.plan.choose(provider.recipient(request)) if provider.sends(request) else None
                if fault is not None and not fault.accepts:
                    return fault.shape(Response())
                before = len(self.book.accepted)
                answer = provider.refuse(request) or provider.accept(request)
                if fault is not None and fault.callback_first:
                    with suppress(NotSent, InDoubt):  # nobody listens there: a receipt that is lost
                        await self._post(self._receipts(self.book.accepted[before:]))
                return answer if fault is None else fault.shape(answer)
        return json_response(404, {"message": "no such provider here"})

    async def _control(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/__sim/ledger":
                accepted = [taken.to_json() for taken in self.book.accepted]
                withdrawn = [taken.to_json() for taken in self.book.withdrawn]
                told = {"accepted": accepted, "duplicates": self.book.duplicates(), "withdrawn": withdrawn}
                told["faults"] = dict(self.plan.met)
                return json_response(200, told)
            case "GET", "/__sim/requests":
                return json_response(200, {"requests": [_told(asked) for asked in self.requests]})
            case "POST", "/__sim/plan":
                try:
                    asked = request.json()
                    self.plan = FaultPlan.from_json(asked)
                    if "rewrite" in asked or "sendgrid_url" in asked:
                        self.receivers = Receivers.from_json(asked)
                except (ValueError, TypeError, AttributeError) as error:
                    return json_response(400, {"message": str(error)})
                return json_response(200, {"planned": True})
            case "POST", "/__sim/emit":
                return await self._emit(request)
            case "GET", "/__sim/keys":
                keys = {"sendgrid_public_key": self.sendgrid.public_key()}
                shown = {} if self.certificate is None else {"certificate": self.certificate.certificate_pem}
                return json_response(200, keys | shown)
            case "POST", "/__sim/reset":
                self.book.accepted.clear()
                self.book.withdrawn.clear()
                self.requests.clear()
                self.plan = FaultPlan()
                return json_response(200, {"reset": True})
        return json_response(404, {"message": "controls: GET ledger, requests, keys; POST plan, emit, reset"})

    async def _emit(self, request: Request) -> Response:
        """Send the receipts of everything accepted so far, disturbed as asked; tells how many were sent and taken.

        "from": only of what was accepted from this number on, "most": of so many; "next" is the number to go on with.
        """
        try:
            asked = request.json()
            plan = ReceiptPlan(**asked.get("plan", {}))
            self.receivers = Receivers.from_json(asked)
            first, after = int(asked.get("from", 0)), len(self.book.accepted)
            after = min(after, first + int(asked.get("most", after)))
            receipts = plan.disturb(self._receipts(self.book.accepted[first:after]))
            taken = await self._post(receipts)
        except (ValueError, TypeError, AttributeError) as error:
            return json_response(400, {"message": str(error)})
        except (NotSent, InDoubt) as error:
            return json_response(502, {"message": str(error)})
        return json_response(200, {"sent": len(receipts), "taken": taken, "next": after})

    async def _post(self, receipts: Sequence[Receipt]) -> int:
        """Deliver receipts to this machine and give the number of those taken."""
        addressed = [(receipt, loopback_address(receipt.url, self.receivers.rewrite)) for receipt in receipts]
        wire = Wire(WireLimits(connections=16, total_s=10.0))
        try:
            replies = [
                await wire.request("POST", address, headers=receipt.headers, body=receipt.body)
                for receipt, address in addressed
            ]
            return sum(reply.status < 300 for reply in replies)
        finally:
            await wire.close()

    def _receipts(self, accepted: Sequence[Accepted]) -> list[Receipt]:
        receipts: list[Receipt] = []
        for taken in accepted:
            if taken.provider == "twilio":
                receipts += twilio_receipts(taken, self.twilio.auth_token)
        mails, url = [taken for taken in accepted if taken.provider == "sendgrid"], self.receivers.sendgrid_url
        if url and mails:
            receipts += sendgrid_receipts(mails, url=url, key=self.sendgrid.signing_key, at=self.sendgrid.clock())
        return receipts


def _told(request: Request) -> dict[str, Any]:
    return {"method": request.method, "target": request.target, "body": request.body.decode("utf-8", "replace")}


@contextmanager
def running(simulator: Simulator, port: int = 0) -> Iterator[str]:
    """Run a simulator in a thread of its own; gives its base address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(simulator.start(port), loop).result(10)
        asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
