"""E-mails as bytes: what stands in a header stays in it, whatever a customer calls himself."""

from __future__ import annotations

import email
import email.policy

import pytest

from channels.message import Email
from channels.providers.mime import to_mime

CONTENT = Email("s", "<p>x</p>", "x")
HEADERS = {"From": "a@b.example", "To": "c@d.example", "Subject": "Hello"}
NAMES = [
    "=?utf-8?q?a=0d=0aBcc:_x@evil.example?=",
    "=?utf-8?b?DQpCY2M6IHhAZXZpbC5leGFtcGxlDQoNCjxoMT5vd25lZDwvaDE+?=",  # a header and a body of its own
    "=?utf-8?q?x=00y?=",
    "=?utf-8?q?Ann?=",
    "=?nosuch?q?=0d=0a?=",
    "50% =?",
    "名 =?utf-8?q?=0d=0aBcc:_x?= " + "long " * 60,
]


@pytest.mark.parametrize("in_ascii", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_subject_that_looks_encoded_is_sent_as_it_stands(name: str, in_ascii: bool) -> None:
    subject = f"Hello {name}".strip()
    data = to_mime(CONTENT, {**HEADERS, "Subject": subject}, key="k", in_ascii=in_ascii)

    message = email.message_from_bytes(data, policy=email.policy.default)
    assert message["Subject"] == subject
    assert message.keys() == ["From", "To", "Subject", "MIME-Version", "Content-Type"]
    assert b"owned" not in data
    assert b"\r\nBcc" not in data


@pytest.mark.parametrize(
    "address",
    ["=?utf-8?q?=0d=0aBcc=3a=20x=40evil.example?=@d.example", "c@d.example\r\nBcc: x@evil.example", "\t:[", "a:=?@[@)"],
)
def test_an_address_that_would_begin_a_header_or_cannot_be_written_raises(address: str) -> None:
    with pytest.raises(ValueError, match=r"linefeed|CR or LF|cannot be written"):
        to_mime(CONTENT, {**HEADERS, "To": address}, key="k")


def test_what_python_would_write_as_two_headers_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our own way of writing such a subject the last look still stops it."""
    monkeypatch.setattr("channels.providers.mime._Subject", str)

    with pytest.raises(ValueError, match="begins another one"):
        to_mime(CONTENT, {**HEADERS, "Subject": f"Hello {NAMES[0]}"}, key="k")
