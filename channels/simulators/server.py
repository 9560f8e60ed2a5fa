"""The simulator's process: three providers behind one address, their ledger, and the controls of a trial."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from channels.simulators.record import Book, Clock
from channels.simulators.sendgrid import SendGridSimulator
from channels.simulators.twilio import TwilioSimulator
from channels.wire import InDoubt, NotSent, Wire, WireLimits

_KEEP_REQUESTS: Final = 100_000


class Simulator:
    """Looks like Twilio, SendGrid and FCM; `book` is what they accepted, `requests` what they were asked."""

    def __init__(self, *, clock: Clock | None = None, plan: FaultPlan | None = None) -> None:
        """`clock` dates what is accepted (the real time if none is given); `plan` says what fails."""
        now = clock or (lambda: datetime.now(UTC))
        self.book = Book()
        self.plan = plan or FaultPlan()
        self.twilio = TwilioSimulator(self.book, now)
        self.sendgrid = SendGridSimulator(self.book, now)
        self.fcm = FcmSimulator(self.book, now)
        self.requests: list[Request] = []
        self._server = HttpServer(self._handle)

    async def start(self, port: int = 0) -> str:
        """Listen on the loopback and give the base address."""
        return f"http://127.0.0.1:{await self._server.start(port)}"

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
                sends = request.method == "POST" and request.path != "/token"
                fault = self.plan.choose(provider.recipient(request)) if sends else None
                if fault is not None and not fault.accepts:
                    return fault.shape(Response())
                answer = provider.refuse(request) or provider.accept(request)
                return answer if fault is None else fault.shape(answer)
        return json_response(404, {"message": "no such provider here"})

    async def _control(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/__sim/ledger":
                accepted = [taken.to_json() for taken in self.book.accepted]
                return json_response(200, {"accepted": accepted, "duplicates": self.book.duplicates()})
            case "GET", "/__sim/requests":
                return json_response(200, {"requests": [_told(asked) for asked in self.requests]})
            case "POST", "/__sim/plan":
                try:
                    self.plan = FaultPlan.from_json(request.json())
                except (ValueError, TypeError, AttributeError) as error:
                    return json_response(400, {"message": str(error)})
                return json_response(200, {"planned": True})
            case "POST", "/__sim/emit":
                return await self._emit(request)
            case "GET", "/__sim/keys":
                return json_response(200, {"sendgrid_public_key": self.sendgrid.public_key()})
            case "POST", "/__sim/reset":
                self.book.accepted.clear()
                self.requests.clear()
                self.plan = FaultPlan()
                return json_response(200, {"reset": True})
        return json_response(404, {"message": "controls: GET ledger, requests, keys; POST plan, emit, reset"})

    async def _emit(self, request: Request) -> Response:
        """Send the receipts of everything accepted so far, disturbed as asked; tells how many were sent and taken."""
        try:
            asked = request.json()
            plan = ReceiptPlan(**asked.get("plan", {}))
            rewrite = dict(asked.get("rewrite", {}))
            receipts = [(r, loopback_address(r.url, rewrite)) for r in plan.disturb(self._receipts(asked))]
        except (ValueError, TypeError, AttributeError) as error:
            return json_response(400, {"message": str(error)})
        wire = Wire(WireLimits(connections=16, total_s=10.0))
        taken = 0
        try:
            for receipt, address in receipts:
                reply = await wire.request("POST", address, headers=receipt.headers, body=receipt.body)
                taken += reply.status < 300
        except (NotSent, InDoubt) as error:
            return json_response(502, {"message": str(error), "taken": taken})
        finally:
            await wire.close()
        return json_response(200, {"sent": len(receipts), "taken": taken})

    def _receipts(self, asked: Mapping[str, Any]) -> list[Receipt]:
        receipts: list[Receipt] = []
        for taken in self.book.accepted:
            if taken.provider == "twilio":
                receipts += twilio_receipts(taken, self.twilio.auth_token)
        url = asked.get("sendgrid_url")
        mails = [taken for taken in self.book.accepted if taken.provider == "sendgrid"]
        return receipts + (sendgrid_receipts(mails, url=str(url), key=self.sendgrid.signing_key) if url else [])


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
