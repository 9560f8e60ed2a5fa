"""The words of the public pages, one file a language; which one a customer reads."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
DEFAULT: Final = "en"


@dataclass(frozen=True, slots=True)
class Words:
    """What a page says in one language: `language` is its code, `names` what channels are called."""

    language: str
    texts: Mapping[str, str]
    names: Mapping[str, str]
    because: Mapping[str, str]

    def say(self, key: str, **values: str) -> str:
        """One text with its values in place."""
        return self.texts[key].format(**values)


def choose_words(*, locale: str | None, accept_language: str = "") -> Words:
    """The words in the customer's own language, else in one that the browser asks for, else in English.

    `locale` is such as "zh-CN" or "zh_Hans_CN"; of a language that no file is for, the next wish counts.
    """
    known = languages()
    for wish in (*([locale] if locale else []), *_accepted(accept_language)):
        code = wish.replace("_", "-").partition("-")[0].strip().lower()
        if code in known:
            return known[code]
    return known[DEFAULT]


@cache
def languages() -> Mapping[str, Words]:
    """Every language that there is a file for, by its code."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.toml"))}


def _read(path: Path) -> Words:
    document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    names, because = document.pop("names"), document.pop("because")
    return Words(path.stem, document, names, because)


def _accepted(header: str) -> Iterator[str]:
    """The languages of an Accept-Language header, the most wanted first; what cannot be read is left out."""
    wishes = []
    for part in header[:1_000].split(","):
        name, _, weight = part.partition(";q=")
        try:
            wishes.append((float(weight or 1.0), name.strip()))
        except ValueError:
            continue
    return (name for weight, name in sorted(wishes, key=lambda wish: -wish[0]) if name and weight > 0)
