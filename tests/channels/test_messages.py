"""Messages, the local provider, SMS lengths, the variables' catalogue."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import ChannelError
from channels.message import CHANNELS, Address, Outgoing, Sms
from channels.provider import Provider, SendResult
from channels.providers.local import LocalProvider
from channels.sms_length import SmsLength, measure_sms, outside_gsm7
from channels.variables import ADDRESS_FIELDS, VARIABLES, is_known, known_paths, sample_context, suggest

Make = Callable[..., Outgoing]


def send(provider: LocalProvider, *messages: Outgoing, now: datetime) -> list[SendResult]:
    return asyncio.run(provider.send(messages, now=now))


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", CHANNELS)
def test_printing_a_message_shows_neither_address_nor_content(outgoing: Make, channel: str) -> None:
    message = outgoing(channel, headers={"X-Name": "secret"})

    for text in (str(message), repr(message), f"{message.address}", f"{[message.address]}"):
        assert message.address.value not in text
        assert "Hello" not in text
        assert "secret" not in text
    assert str(message.address) == f"<{channel} address>"


def test_addresses_compare_by_value() -> None:
    assert Address("sms", "+1") == Address("sms", "+1") != Address("sms", "+2")


# --- the local provider ---------------------------------------------------------------------------------------------


def test_it_is_a_provider_that_honours_keys(tmp_path: Path) -> None:
    provider = LocalProvider("sms", tmp_path)

    assert isinstance(provider, Provider)
    assert (provider.name, provider.channel, provider.capability) == ("local", "sms", "K")
    asyncio.run(provider.close())


def test_an_sms_is_written_as_text(outgoing: Make, tmp_path: Path, now: datetime) -> None:
    provider = LocalProvider("sms", tmp_path / "outbox")

    [result] = send(provider, outgoing("sms"), now=now)

    assert result == SendResult("x1/C1/0", "accepted", provider_id=f"local-{provider.path('x1/C1/0').stem}")
    assert provider.path("x1/C1/0").read_text() == "To: +15005550006\nKey: x1/C1/0\n\nHello 你好\n"


def test_a_push_notification_is_written_as_json(outgoing: Make, tmp_path: Path, now: datetime) -> None:
    provider = LocalProvider("push", tmp_path)

    send(provider, outgoing("push", expires_at=now), outgoing("push", key="x1/C2/0"), now=now)

    document = json.loads(provider.path("x1/C1/0").read_text())
    assert document == {
        "to": "token-1",
        "key": "x1/C1/0",
        "title": "Hello",
        "body": "你好",
        "data": {"code": "BACK10"},
        "expires_at": "2026-11-22T10:00:00+00:00",
    }
    assert json.loads(provider.path("x1/C2/0").read_text())["expires_at"] is None


def test_an_email_is_written_whole_with_its_headers_unfolded(outgoing: Make, tmp_path: Path, now: datetime) -> None:
    provider = LocalProvider("email", tmp_path)
    link = "<https://shop.example/u/" + "t" * 131 + ">"
    headers = {
        "From": "Shop <news@shop.example>",
        "List-Unsubscribe": link,
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }

    send(provider, outgoing("email", headers=headers), now=now)

    data = provider.path("x1/C1/0").read_bytes()
    assert f"List-Unsubscribe: {link}\r\n".encode() in data
    mail = email.message_from_bytes(data, policy=email.policy.default)
    assert (mail["To"], mail["From"], mail["Subject"]) == ("ann@example.com", "Shop <news@shop.example>", "Hello 你好")
    assert mail["Date"].datetime == now
    parts = [(part.get_content_type(), part.get_content().strip()) for part in mail.iter_parts()]  # type: ignore[attr-defined]  # the default policy's message class
    assert parts == [("text/plain", "Hello you"), ("text/html", "<p>Hello <b>you</b></p>")]


def test_a_key_is_written_once_and_the_first_writing_stands(outgoing: Make, tmp_path: Path, now: datetime) -> None:
    provider = LocalProvider("sms", tmp_path)
    first = send(provider, outgoing("sms"), now=now)
    before = provider.path("x1/C1/0").stat()

    again = send(provider, outgoing("sms", content=Sms("other")), now=now + timedelta(days=1))

    after = provider.path("x1/C1/0").stat()
    assert again == first
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_same_message_gives_the_same_bytes(outgoing: Make, tmp_path: Path, now: datetime) -> None:
    files = []
    for folder in ("a", "b"):
        provider = LocalProvider("email", tmp_path / folder)
        send(provider, outgoing("email"), now=now)
        files.append(provider.path("x1/C1/0").read_bytes())

    assert files[0] == files[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": {"X-A": "a\r\nBcc: all@example.com"}},
        {"address": Address("email", "a@example.com\nBcc: b@example.com")},
    ],
)
def test_a_line_break_in_a_header_is_refused_for_that_message_only(
    outgoing: Make, tmp_path: Path, now: datetime, changes: dict[str, object]
) -> None:
    provider = LocalProvider("email", tmp_path)

    results = send(provider, outgoing("email", **changes), outgoing("email", key="x1/C2/0"), now=now)

    assert [(r.key, r.outcome, r.code) for r in results] == [
        ("x1/C1/0", "permanent", "malformed"),
        ("x1/C2/0", "accepted", None),
    ]
    assert "example.com" not in str(results)
    assert [p.name for p in tmp_path.iterdir()] == [provider.path("x1/C2/0").name]


def test_an_outbox_that_cannot_be_written_is_said_so(outgoing: Make, tmp_path: Path, now: datetime) -> None:
    (tmp_path / "outbox").write_text("a file")

    with pytest.raises(ChannelError, match="cannot write to the outbox"):
        send(LocalProvider("sms", tmp_path / "outbox"), outgoing("sms"), now=now)


def test_a_write_that_fails_leaves_no_half_file(
    outgoing: Make, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)

    with pytest.raises(ChannelError, match="No space left"):
        send(LocalProvider("sms", tmp_path), outgoing("sms"), now=now)
    assert list(tmp_path.iterdir()) == []


# --- SMS lengths ----------------------------------------------------------------------------------------------------

# Limits: 3GPP TS 23.038 and 23.040.
LENGTHS = [
    ("", ("GSM-7", 0, 0)),
    ("a", ("GSM-7", 1, 1)),
    ("a" * 160, ("GSM-7", 160, 1)),
    ("a" * 161, ("GSM-7", 161, 2)),
    ("a" * 306, ("GSM-7", 306, 2)),
    ("a" * 307, ("GSM-7", 307, 3)),
    ("€" * 80, ("GSM-7", 160, 1)),
    ("a" * 152 + "€" + "b" * 8, ("GSM-7", 162, 2)),
    ("a" * 152 + "€" + "b" * 152, ("GSM-7", 306, 3)),  # the euro sign may not be split, so it opens a segment
    ("ç", ("UCS-2", 1, 1)),
    ("Ç", ("GSM-7", 1, 1)),
    ("’" + "a" * 159, ("UCS-2", 160, 3)),
    ("你" * 70, ("UCS-2", 70, 1)),
    ("你" * 71, ("UCS-2", 71, 2)),
    ("你" * 134, ("UCS-2", 134, 2)),
    ("你" * 135, ("UCS-2", 135, 3)),
    ("🎁", ("UCS-2", 2, 1)),
    ("你" * 66 + "🎁" + "你" * 66, ("UCS-2", 134, 3)),  # nor may a surrogate pair
]  # fmt: skip


@pytest.mark.parametrize(("text", "length"), LENGTHS)
def test_the_length_of_an_sms(text: str, length: tuple[str, int, int]) -> None:
    assert measure_sms(text) == SmsLength(*length)  # type: ignore[arg-type]  # the table's strings are the two encodings


@given(st.text(max_size=400))
def test_segments_are_as_many_as_the_units_need_and_a_few_more_at_most(text: str) -> None:
    length = measure_sms(text)
    part = 153 if length.encoding == "GSM-7" else 67

    assert length.segments >= (length.units + part - 1) // part - 1
    assert length.segments <= length.units // (part - 1) + 1
    assert (length.encoding == "GSM-7") == (outside_gsm7(text) == "")


def test_the_characters_that_cost_an_encoding_are_named_once() -> None:
    assert outside_gsm7("l’été’ 你") == "’你"


# --- the catalogue --------------------------------------------------------------------------------------------------


def test_no_address_is_among_the_variables() -> None:
    assert not {f"customer.{name}" for name in ADDRESS_FIELDS} & set(VARIABLES)
    assert not is_known("customer.phone", ["phone", "shoe_size"])
    assert is_known("customer.shoe_size", ["phone", "shoe_size"])
    assert is_known("unsubscribe_url")
    assert is_known("offer")


def test_a_misspelt_path_has_a_suggestion() -> None:
    assert suggest("customer.frist_name", ["first_name"]) == "customer.first_name"
    assert suggest("ofer.text") == "offer.text"
    assert suggest("zzzzzz") is None


def test_the_sample_context_has_every_variable() -> None:
    context = sample_context({"first_name": "Ann"})

    for path in known_paths(["first_name"]):
        value: object = context
        for name in path.split("."):
            assert isinstance(value, dict)
            value = value[name]
        assert value
