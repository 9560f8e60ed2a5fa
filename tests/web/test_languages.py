"""The words of the public pages: complete in every language, chosen by the customer's locale, then by the browser's wish."""

from __future__ import annotations

import string

import pytest

from web.languages import Words, choose_words, languages


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", sorted(set(languages()) - {"en"}))
def test_every_language_says_everything_that_english_does(language: str) -> None:
    english, words = languages()["en"], languages()[language]
    assert words.texts.keys() == english.texts.keys()
    assert (words.names.keys(), words.because.keys()) == (english.names.keys(), english.because.keys())
    for key, text in words.texts.items():
        assert holes(text) == holes(english.texts[key]), key


def test_english_and_chinese_are_there() -> None:
    assert {"en", "zh"} <= languages().keys()


@pytest.mark.parametrize(
    ("locale", "accepted", "language"),
    [
        ("zh-CN", "en", "zh"),
        ("zh_Hans_CN", "", "zh"),
        ("ZH", "", "zh"),
        ("en-GB", "zh", "en"),
        ("pt-BR", "zh-TW,en;q=0.5", "zh"),
        (None, "fr;q=1.0, en;q=0.2, zh;q=0.8", "zh"),
        (None, "fr, *;q=0.1", "en"),
        (None, "zh;q=0, fr", "en"),
        (None, "zh;q=much", "en"),
        (None, "", "en"),
        ("", ";;;,,,q=", "en"),
        ("../../zh", "x" * 10_000, "en"),
    ],
)
def test_the_customers_language_comes_first_and_english_last(locale: str | None, accepted: str, language: str) -> None:
    words = choose_words(locale=locale, accept_language=accepted)
    assert isinstance(words, Words)
    assert words.language == language
