"""What law, carriers and the company ask of words: brand, way out, hosts of links, length, honest subjects."""

from __future__ import annotations

import pytest

from campaigns.content_rules import ContentPolicy, company_hosts, links_of, tells_how_to_stop
from channels.message import Content, Email, Push, Sms

POLICY = ContentPolicy(
    brand="Northwind",
    link_hosts=company_hosts("https://northwind.example/shop", "https://www.nw.example", ""),
    unsubscribe_url="https://northwind.example/u/xyz",
)


def messages(content: Content, locale: str | None = None, policy: ContentPolicy = POLICY) -> list[str]:
    return [message for message, _ in policy.check(content, locale)]


def email(subject: str = "Your points are waiting", html: str = "<p>Hello</p>", text: str = "Hello") -> Email:
    return Email(subject, html, text)


@pytest.mark.parametrize(
    "body",
    [
        "Northwind: 10% off until Friday. Reply STOP to opt out",
        "NORTHWIND: 10% off. https://northwind.example/u/xyz",
        "Northwind : -10 %. Repondez STOP",
        "Northwind: 10 % Rabatt. Mit ABMELDEN beenden",
    ],
)
def test_a_text_that_names_brand_and_way_out_is_fine(body: str) -> None:
    assert messages(Sms(body)) == []


def test_a_text_without_brand_is_warned_of_and_without_a_way_out_refused() -> None:
    found = list(POLICY.check(Sms("10% off until the end of May"), None))
    assert [severity for _, severity in found] == ["warning", "error"]
    assert 'put the brand "Northwind" in it' in found[0][0]
    assert "how to opt out" in found[1][0]


def test_a_word_that_only_looks_like_a_way_out_is_none() -> None:
    assert not tells_how_to_stop("The sale will stop at the end of May; no more after that")
    assert not tells_how_to_stop("STOPPING by? TD bank, R us, T-shirts")
    assert tells_how_to_stop("ARRÊTER: STOP")
    assert tells_how_to_stop("回复退订取消")


def test_chinese_texts_begin_with_the_sign_and_end_with_the_carriers_words() -> None:
    good = "【Northwind】好久不见！送您九折优惠。拒收请回复R"
    assert messages(Sms(good), "zh") == messages(Sms(good), "zh-CN") == []
    (begin,) = messages(Sms("Northwind 好久不见！拒收请回复R"), "zh-CN")
    assert begin.startswith("must begin with 【Northwind】")
    (end,) = messages(Sms("【Northwind】好久不见！拒收请回复R。祝好"), "zh")
    assert end.startswith("must end with 拒收请回复R")


def test_the_chinese_rule_is_not_for_other_languages() -> None:
    assert len(messages(Sms("【Northwind】好久不见！拒收请回复R"), "zh-TW")) == 0  # brand and a word to opt out by
    assert "must begin" not in " ".join(messages(Sms("hello"), "en"))


def test_a_text_billed_as_too_many_is_an_error() -> None:
    long = "Northwind " + "x" * 500 + " STOP"
    (found,) = messages(Sms(long))
    assert found.startswith("takes 4 SMS with the values of an example, at most 3 are allowed")
    assert messages(Sms(long), policy=ContentPolicy(brand="Northwind", max_sms_segments=4)) == []


@pytest.mark.parametrize(
    "content",
    [
        Sms("Northwind: https://evil.example/x STOP"),
        Sms("Northwind: www.evil.example STOP"),
        email(html='<a href="https://evil.example/x">shop</a>'),
        email(html='<img src="//evil.example/pixel.gif">'),
        email(text="see https://evil.example"),
        Push("Hi", "there", {"link": "https://evil.example/app"}),
        email(html='<a href="https://northwind.example@evil.example/">shop</a>'),
        email(html='<a href="https://northwind.example.evil.example/">shop</a>'),
    ],
)
def test_a_link_to_a_foreign_host_is_an_error(content: Content) -> None:
    (found,) = messages(content)
    assert "evil.example; allowed are northwind.example, nw.example" in found


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://northwind.example/a">a</a>',
        '<a href="https://shop.northwind.example/a">a</a>',
        '<a href="https://www.nw.example/a">a</a>',
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN"><html xmlns="http://www.w3.org/1999/xhtml">',
        '<a href="mailto:help@northwind.example">write</a> <a href="tel:+441234">call</a> <a href="#top">up</a>',
    ],
)
def test_links_to_the_companys_own_hosts_are_fine(html: str) -> None:
    assert messages(email(html=html)) == []


def test_a_link_without_encryption_is_a_warning() -> None:
    (found,) = POLICY.check(email(html='<a href="http://northwind.example/a">a</a>'), None)
    assert found[1] == "warning"
    assert "write https" in found[0]


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("YOUR POINTS ARE WAITING", "shouts"),
        ("Come back!! Please", "exclamation"),
        ("Really??", "question marks"),
        ("Act now and save", "Act now"),
        ("恭喜中奖，请查收", "恭喜中奖"),
        ("Save $$$ today", "$$$"),
        ("A" + "b" * 80, "81 characters"),
        ("🎁🎁🎁 for you", "pictographs"),
        ("Re: your order", "pretends to answer"),
    ],
)
def test_a_subject_that_looks_like_spam_is_said(subject: str, words: str) -> None:
    (found,) = messages(email(subject))
    assert words in found


def test_an_ordinary_subject_is_fine() -> None:
    for subject in (
        "Your 10% is still waiting",
        "We miss you, Ana! 🎁",
        "好久不见，送您双倍积分",
        "USA and UK news: reopened",
    ):
        assert messages(email(subject)) == []


def test_links_are_read_from_attributes_only() -> None:
    page = '<p title="https://a.example">x</p><a href="https://b.example">y</a><td background="https://c.example">'
    assert links_of(page) == ("https://b.example", "https://c.example")
