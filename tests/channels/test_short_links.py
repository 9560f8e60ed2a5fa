"""Short links: found in texts, signed for one link of one message, and never leading away from the company's own hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import ChannelError
from channels.short_links import (
    LARGEST_LINK,
    TOKEN_CHARACTERS,
    find_links,
    is_link_signed,
    leads_home,
    link_of_token,
    make_link_token,
    names_somebody,
    replace_links,
)

HOSTS = frozenset({"shop.example", "news.brand.example"})


@given(st.integers(1, LARGEST_LINK), st.text(min_size=1, max_size=40), st.integers(0, 9))
def test_a_token_is_short_and_good_for_its_own_link_only(number: int, message_key: str, position: int) -> None:
    token = make_link_token("key", link_id=number, message_key=message_key, position=position)
    assert len(token) == TOKEN_CHARACTERS
    assert token == make_link_token("key", link_id=number, message_key=message_key, position=position)
    assert link_of_token(token) == number
    own = {"message_key": message_key, "position": position}
    assert is_link_signed(token, ["newer", "key"], **own)  # type: ignore[arg-type]
    assert not is_link_signed(token, ["other", ""], **own)  # type: ignore[arg-type]
    assert not is_link_signed(token, ["key"], message_key=message_key + "x", position=position)
    assert not is_link_signed(token, ["key"], message_key=message_key, position=position + 1)


def test_whatever_character_is_changed_the_token_opens_nothing() -> None:
    token = make_link_token("key", link_id=77, message_key="a:1/C1/1", position=0)
    for place in range(TOKEN_CHARACTERS):
        wrong = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert link_of_token(wrong) is None or not is_link_signed(wrong, ["key"], message_key="a:1/C1/1", position=0)
    for wrong in ("", token + "A", token[:-1], token[:-1] + "+", "../" + token, "A" * 20, "ü" * 20):
        assert link_of_token(wrong) is None


@pytest.mark.parametrize("number", [0, -1, LARGEST_LINK + 1])
def test_a_number_that_is_none_makes_no_token(number: int) -> None:
    with pytest.raises(ChannelError, match="from 1 to"):
        make_link_token("key", link_id=number, message_key="k", position=0)


def test_links_are_found_with_their_place_and_without_the_sentence_around_them() -> None:
    text = "看https://shop.example/a?b=1&c=2。Or (https://x.example/y), https://shop.example/z!"
    assert [(link.position, link.url) for link in find_links(text)] == [
        (0, "https://shop.example/a?b=1&c=2"),
        (1, "https://x.example/y"),
        (2, "https://shop.example/z"),
    ]
    assert replace_links(text, {0: "S0", 2: "S2"}) == "看S0。Or (https://x.example/y), S2!"


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/x",
        "https://SHOP.example:443/x?y=1#z",
        "https://www.shop.example",
        "https://news.brand.example/",
    ],
)
def test_links_to_the_companys_own_hosts_lead_home(url: str) -> None:
    assert leads_home(url, HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/x",
        "https://evil.example/shop.example",
        "https://shop.example.evil.example/",
        "https://evilshop.example/",
        "https://brand.example/",
        "https://shop.example@evil.example/",
        "https://user:pass@shop.example/",
        "https://shop.example:8443/",
        "https://shop.example\\@evil.example/",
        "https://evil.example\\.shop.example/",
        "https://shop.example/\r\nSet-Cookie: a=b",
        "https://shop.example/\tx",
        "https://shop.examplé/",
        "https://[::1]/",
        "https://shop.example:x/",
        "//shop.example/x",
        "javascript:alert(1)",
        "https://",
        "",
        "https://shop.example/" + "x" * 1_000,
    ],
)
def test_no_other_link_does(url: str) -> None:
    assert not leads_home(url, HOSTS)


def test_a_host_that_is_nothing_allows_nothing() -> None:
    assert not leads_home("https://shop.example/", {""})


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/?m=ann@example.com",
        "https://shop.example/?m=Ann%40Example.com",
        "https://shop.example/?m=ann%2540example.com",
        "https://shop.example/15005550006/x",
        "https://shop.example/?p=%2B15005550006",
    ],
)
def test_a_link_that_names_the_customer_is_known(url: str) -> None:
    assert names_somebody(url, ["ann@example.com", "+15005550006", ""])
    assert not names_somebody("https://shop.example/?c=BACK10", ["ann@example.com", "+15005550006", ""])
