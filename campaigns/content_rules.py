"""What law, carriers and the company ask of a message's words: brand, way out, link hosts, length, an honest subject.

Everything here reads a message as a customer would get it, filled in with examples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlsplit

from campaigns.packs import PackText, packs
from campaigns.problems import Severity
from channels.message import Content, Email, Push, Sms
from channels.opt_out_words import STOP
from channels.sms_length import measure_sms

Finding = tuple[str, Severity]
"""What is wrong, and how bad it is."""

_LINK: Final = re.compile(r"https?://[^\s\"'<>()【】，。、]+|(?<![\w@./-])www\.[^\s\"'<>()【】，。、]+", re.IGNORECASE)
_LINKING: Final = frozenset({"href", "src", "action", "background", "poster"})
_SPAM_WORDS: Final = re.compile(
    r"\b(act now|buy now|call now|cash bonus|click here|congratulations|double your|earn money|free gift|free money|"
    r"guaranteed|last chance|limited time|no obligation|once in a lifetime|order now|risk[- ]free|urgent|winner|"
    r"you have been selected|100 ?% free)\b|\${2,}|€{2,}|£{2,}|恭喜中奖|免费领取|点击领取|立即领取|最后机会",
    re.IGNORECASE,
)
_FALSE_REPLY: Final = re.compile(r"^\s*(re|fwd?|aw|wg|tr|回复|转发)\s*[::]", re.IGNORECASE)
_LONG_SUBJECT: Final = 70
_LOUD: Final = 0.6
_MIN_LETTERS: Final = 8
_LETTER_CODE: Final = 2
_MANY_PICTOGRAPHS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPolicy:
    """What the company asks of its messages' words.

    `brand` is how texts name the sender; `link_hosts` are the hosts links may lead to, with all that lie below them;
    `languages` are those every template and offer must be
    written in, the first that of files without a tag; `company` is what templates say of the company,
    `unsubscribe_url` an example of a way out, as long as real ones.
    """

    brand: str
    link_hosts: frozenset[str] = frozenset()
    max_sms_segments: int = 3
    languages: tuple[str, ...] = ()
    company: Mapping[str, str] = field(default_factory=dict)
    unsubscribe_url: str = "https://northwind.example/u/AbC"

    def check(self, content: Content, locale: str | None) -> Iterator[Finding]:
        """Everything wrong with one message in one language."""
        match content:
            case Sms(body=body):
                yield from self._check_sms(body, locale)
                yield from self._check_links(body)
            case Email(subject=subject, html=page, text=text):
                yield from check_subject(subject)
                yield from self._check_links(*links_of(page), text)
            case Push(title=title, body=body, data=data):
                yield from self._check_links(title, body, *data.values())

    def _check_sms(self, body: str, locale: str | None) -> Iterator[Finding]:
        special = [rule for pack in packs().values() for rule in pack.texts_in("sms", locale)]
        if special:
            yield from (finding for rule in special for finding in self._check_pack(body, rule))
        else:
            if self.brand.casefold() not in body.casefold():
                yield (
                    f'does not say who writes; put the brand "{self.brand}" in it, unless the sender\'s name shows it',
                    "warning",
                )
            if self.unsubscribe_url not in body and not tells_how_to_stop(body):
                yield 'does not say how to opt out; end it with words such as "Reply STOP to opt out"', "error"
        if (segments := measure_sms(body).segments) > self.max_sms_segments:
            yield (
                f"takes {segments} SMS with the values of an example, at most {self.max_sms_segments} are allowed "
                "(content.max_sms_segments in retain.toml); shorten it",
                "error",
            )

    def _check_pack(self, body: str, rule: PackText) -> Iterator[Finding]:
        begin, end = rule.begins_with.format(brand=self.brand), rule.ends_with.format(brand=self.brand)
        if not body.startswith(begin):
            yield f"must begin with {begin} ({rule.source})", "error"
        if not body.rstrip().endswith(end):
            yield f"must end with {end} ({rule.source})", "error"

    def _check_links(self, *texts: str) -> Iterator[Finding]:
        for link in dict.fromkeys(link for text in texts for link in _LINK.findall(text)):
            host = _host(link)
            if not any(host == allowed or host.endswith(f".{allowed}") for allowed in self.link_hosts):
                allowed = ", ".join(sorted(self.link_hosts)) or "none"
                yield f"links to {host}; allowed are {allowed} (content.link_hosts in retain.toml)", "error"
            elif link.lower().startswith("http:"):
                yield f"links to {host} by http, which anybody on the way may read and change; write https", "warning"


def check_subject(subject: str) -> Iterator[Finding]:
    """What makes filters and people take an e-mail for spam, or its subject for a lie."""
    letters = [sign for sign in subject if sign.isalpha() and (sign.isupper() or sign.islower())]
    if len(letters) >= _MIN_LETTERS and sum(sign.isupper() for sign in letters) > _LOUD * len(letters):
        yield "the subject shouts: it is mostly capital letters", "warning"
    if subject.count("!") + subject.count("！") > 1 or re.search(r"[?？]{2,}", subject):
        yield "the subject has more than one exclamation mark, or question marks in a row", "warning"
    if found := _SPAM_WORDS.search(subject):
        yield f'the subject says "{found[0]}", which spam filters count against it', "warning"
    if _FALSE_REPLY.match(subject):
        yield "the subject pretends to answer or to forward a message; law forbids subjects that mislead", "error"
    if len(subject) > _LONG_SUBJECT:
        yield f"the subject has {len(subject)} characters; most inboxes cut it after about {_LONG_SUBJECT}", "warning"
    if sum(unicodedata.category(sign) == "So" for sign in subject) >= _MANY_PICTOGRAPHS:
        yield "the subject has more than two pictographs, which spam filters count against it", "warning"


def tells_how_to_stop(body: str) -> bool:
    """Whether a text names, in capitals where its script has them, a word by which customers opt out."""
    split = unicodedata.normalize("NFKD", body)
    plain = unicodedata.normalize("NFKC", "".join(sign for sign in split if not unicodedata.combining(sign)))
    return any(_says(plain, word.upper()) for word in STOP if len(word) > _LETTER_CODE or not word.isascii())


def links_of(page: str) -> tuple[str, ...]:
    """Every address the HTML of an e-mail leads to or loads from, in order."""
    reader = _LinkReader()
    reader.feed(page)
    return tuple(reader.found)


def company_hosts(*addresses: str) -> frozenset[str]:
    """The hosts of the company's own addresses; empty addresses have none."""
    return frozenset(_host(address) for address in addresses if address)


def _says(plain: str, word: str) -> bool:
    return bool(re.search(rf"\b{re.escape(word)}\b", plain)) if word.isascii() else word in plain.upper()


class _LinkReader(HTMLParser):
    """Collects the addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  (the base class names it)
        addresses = (value.strip() for name, value in attrs if name in _LINKING and value)
        self.found += [f"https:{address}" if address.startswith("//") else address for address in addresses]


def _host(link: str) -> str:
    address = link if "//" in link else f"//{link}"
    return (urlsplit(address).hostname or "an address without a host").rstrip(".").removeprefix("www.")
