"""Tokens of unsubscribe links: what opens, what does not, and for how long."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import ChannelError
from channels.message import CHANNELS, Channel
from channels.tokens import LARGEST_LINK, TOKEN_CHARACTERS, is_signed, make_token, parse_token

ALPHABET = string.ascii_letters + string.digits + "-_"


def opens(token: str, keys: list[str], customer_id: str = "C1") -> bool:
    parsed = parse_token(token)
    return parsed is not None and is_signed(parsed, keys, customer_id=customer_id)


@given(st.integers(1, LARGEST_LINK), st.text(max_size=60), st.sampled_from(CHANNELS), st.text(min_size=1, max_size=40))
def test_a_token_says_who_and_which_channel(link_id: int, customer_id: str, channel: Channel, key: str) -> None:
    token = make_token(key, link_id=link_id, customer_id=customer_id, channel=channel)
    parsed = parse_token(token)
    assert parsed is not None
    assert (parsed.link_id, parsed.channel) == (link_id, channel)
    assert is_signed(parsed, [key], customer_id=customer_id)
    assert not is_signed(parsed, [key], customer_id=customer_id + "x")
    assert len(token) == TOKEN_CHARACTERS <= 43
    assert set(token) <= set(ALPHABET)


def test_a_change_of_any_character_to_any_other_closes_the_link() -> None:
    token = make_token("key", link_id=77, customer_id="C1", channel="email")
    assert opens(token, ["key"])
    for place, sign in enumerate(token):
        for other in ALPHABET.replace(sign, ""):
            assert not opens(token[:place] + other + token[place + 1 :], ["key"])


@pytest.mark.parametrize("token", ["", "x", "A" * 31, "A" * 33, "é" * 32, " " * 32, "=" * 32, "A" * 31 + "=", "A" * 32])
def test_what_is_no_token_opens_nothing(token: str) -> None:
    assert parse_token(token) is None


def test_the_usual_alphabet_of_base64_is_not_taken_for_the_url_safe_one() -> None:
    token = next(
        t
        for n in range(1, 200)
        if "-" in (t := make_token("key", link_id=n, customer_id="C1", channel="sms")) or "_" in t
    )
    assert not opens(token.translate({ord("-"): "+", ord("_"): "/"}), ["key"])


def test_an_old_key_stays_valid_and_a_foreign_one_never_is() -> None:
    token = make_token("old", link_id=1, customer_id="C1", channel="sms")
    assert opens(token, ["new", "old"])
    assert not opens(token, ["new"])
    assert not opens(token, [])
    assert not opens(token, ["", "new"])


def test_the_same_link_for_another_channel_is_signed_anew() -> None:
    email = base64.urlsafe_b64decode(make_token("key", link_id=1, customer_id="C1", channel="email"))
    sms = base64.urlsafe_b64decode(make_token("key", link_id=1, customer_id="C1", channel="sms"))
    assert not opens(base64.urlsafe_b64encode(sms[:8] + email[8:]).decode(), ["key"])


@pytest.mark.parametrize("link_id", [0, -1, LARGEST_LINK + 1])
def test_a_number_that_does_not_fit_is_refused(link_id: int) -> None:
    with pytest.raises(ChannelError, match="number from 1"):
        make_token("key", link_id=link_id, customer_id="C1", channel="sms")
