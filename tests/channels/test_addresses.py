"""Addresses in one spelling, and what is kept of them."""

from __future__ import annotations

import pytest

from channels.addresses import MacKey, address_macs, plain_address, sendable_address

KEY = MacKey("a key for tests only")


@pytest.mark.parametrize(
    ("value", "country"),
    [
        ("+442079460018", None),
        (" +44 20 7946 0018", None),
        ("+44 (0)20 7946-0018", None),
        ("0044 20 7946 0018", None),
        ("020 7946 0018", "GB"),
        ("020 7946 0018", "gb"),
        ("＋４４２０７９４６００１８", None),
    ],
)
def test_a_phone_number_has_one_spelling(value: str, country: str | None) -> None:
    assert plain_address("sms", value, country=country) == "+442079460018"


def test_a_national_number_without_a_country_stays_its_digits() -> None:
    assert plain_address("sms", "020 7946 0018") == "02079460018"
    assert plain_address("sms", "12", country="GB") in ("12", "+4412")
    assert plain_address("sms", "020 7946 0018", country="nowhere") == "02079460018"


@pytest.mark.parametrize("value", ["Ana@Example.COM", " ana@example.com ", "ANA@EXAMPLE.com"])
def test_an_email_address_has_one_spelling(value: str) -> None:
    assert plain_address("email", value) == "ana@example.com"


def test_a_domain_is_spelled_as_the_dns_has_it() -> None:
    assert plain_address("email", "ana@Bücher.example") == plain_address("email", "ana@xn--bcher-kva.example")


def test_nothing_and_blanks_are_no_address() -> None:
    assert address_macs([KEY], "sms", "  ") == []
    assert address_macs([KEY], "email", "") == []


def test_an_hmac_depends_on_key_and_channel_and_tells_nothing() -> None:
    one = address_macs([KEY, MacKey("another key")], "email", "ana@example.com")
    assert len(set(one)) == 2
    assert KEY.of_address("email", "x") != KEY.of_address("push", "x")
    assert KEY.of_customer("x") != KEY.of_address("push", "x")
    assert "ana" not in "".join(one)
    assert "tests only" not in repr(KEY)
    assert KEY.key_id == MacKey("a key for tests only").key_id != MacKey("another key").key_id


@pytest.mark.parametrize(
    ("value", "country", "sent"),
    [
        ("+442079460001", None, "+442079460001"),
        (" +44 20 7946-0001 ", None, "+442079460001"),
        ("+44 (0)20 7946 0001", None, "+442079460001"),
        ("0044 20 7946 0001", None, "+442079460001"),
        ("(020) 7946 0001", "GB", "+442079460001"),
        ("+1 (500) 555-0006", None, "+15005550006"),
        ("020 7946 0001", None, "020 7946 0001"),
        ("+44 20 7946 0001 ext 5", "GB", "+44 20 7946 0001 ext 5"),
        ("+44 20 7946 0001/02", "GB", "+44 20 7946 0001/02"),
        ("+44 20 7946 0001 - 234", "GB", "+44 20 7946 0001 - 234"),
        ("+1 500 CALL", "US", "+1 500 CALL"),
    ],
)
def test_a_phone_number_is_sent_to_as_it_is_dialled_or_left_alone(value: str, country: str | None, sent: str) -> None:
    assert sendable_address("sms", value, country=country) == sent


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (" Ann@Shop.example ", "Ann@Shop.example"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann", "ann"),
        ("ann@" + "ü" * 80, "ann@" + "ü" * 80),
    ],
)
def test_an_email_is_sent_to_the_domain_as_the_dns_has_it(value: str, sent: str) -> None:
    assert sendable_address("email", value) == sent
    assert sendable_address("push", " token ") == "token"
