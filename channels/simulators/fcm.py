"""FCM's messages:send (HTTP v1) and the exchange of assertions for access tokens."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from channels.simulators.http import Request, Response, json_response
from channels.simulators.record import Accepted, Book, Clock

_SEND: Final = re.compile(r"/v1/projects/([^/]+)/messages:send")


@dataclass
class FcmSimulator:
    """One project and the tokens of apps that were removed."""

    book: Book
    clock: Clock
    access_token: str = "access"  # noqa: S105 (the simulator's own)
    gone: set[str] = field(default_factory=set)

    def handles(self, request: Request) -> bool:
        """Whether the request is for this provider."""
        return request.path == "/token" or bool(_SEND.fullmatch(request.path))

    def sends(self, request: Request) -> bool:
        """Whether the request would send something, so that faults may happen to it."""
        return request.method == "POST" and request.path != "/token"

    def recipient(self, request: Request) -> str:
        """The app the request wants to reach."""
        try:
            return str(request.json()["message"]["token"])
        except (ValueError, LookupError, TypeError):
            return ""

    def refuse(self, request: Request) -> Response | None:
        """The refusal a request deserves, or None."""
        if request.path == "/token":
            return None if request.form.get("assertion") else _error(400, "INVALID_ARGUMENT")
        if request.headers.get("authorization") != f"Bearer {self.access_token}":
            return _error(401, "UNAUTHENTICATED")
        token = self.recipient(request)
        if not token or len(request.body) > 8_192:
            return _error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        return _error(404, "NOT_FOUND", "UNREGISTERED") if token in self.gone else None

    def accept(self, request: Request) -> Response:
        """Take the message, or hand out a token."""
        if request.path == "/token":
            return json_response(200, {"access_token": self.access_token, "expires_in": 3600, "token_type": "Bearer"})
        message = request.json()["message"]
        project = _SEND.fullmatch(request.path)
        assert project is not None  # handles() saw to it
        name = f"projects/{project[1]}/messages/{len(self.book.accepted):016x}"
        key = message.get("data", {}).get("message_key", "")
        body = json.dumps(message.get("notification", {}), ensure_ascii=False, sort_keys=True)
        self.book.add(Accepted("fcm", key, message["token"], name, body, self.clock(), {"message": message}))
        return json_response(200, {"name": name})


def _error(status: int, name: str, code: str | None = None) -> Response:
    error: dict[str, Any] = {"code": status, "message": name.lower(), "status": name}
    if code is not None:
        error["details"] = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]
    return json_response(status, {"error": error})
