"""The plain-text part of an e-mail, made from its HTML in one pass.

Measured with 200 kB of hostile input, general HTML-to-text packages take from 20 seconds to for ever; this reads every
character once, and plain text needs no Markdown marks.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(r"<!--|<[!?][^<>]*>|<(/?)([A-Za-z][A-Za-z0-9]*)([^<>]*)>")
_HREF: Final = re.compile(r"""\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_SPACE: Final = re.compile(r"[ \t\r\n\f\v]+")

LINKS: Final = ("https:", "http:", "mailto:")
"""How an address begins that is written out behind its link."""

_UNSEEN: Final = frozenset({"head", "script", "style", "title", "template"})
_PARAGRAPHS: Final = frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "pre", "table", "hr"}
)
_LINES: Final = frozenset({"address", "article", "br", "dd", "div", "dt", "footer", "header", "main", "section", "tr"})
_CELLS: Final = frozenset({"td", "th"})


def to_plain_text(source: str) -> str:
    """The text a reader without HTML sees: one line a paragraph, list items with a dash, links written out.

    Pictures, styles, comments and layout are left away; lines are not wrapped.
    """
    writer = _Writer()
    position = 0
    while token := _TOKEN.search(source, position):
        writer.text(source[position : token.start()])
        position = token.end()
        name = (token.group(2) or "").lower()
        if token.group() == "<!--":
            position = _behind(source, "-->", position)
        elif name in _UNSEEN and not token.group(1):
            position = _behind_element(source, name, position)
        elif token.group(1):
            writer.close(name)
        elif name:
            writer.open(name, token.group(3))
    writer.text(source[position:])
    return writer.done()


def _behind(source: str, mark: str, position: int) -> int:
    found = source.find(mark, position)
    return len(source) if found < 0 else found + len(mark)


def _behind_element(source: str, name: str, position: int) -> int:
    closing = re.compile(rf"</{name}\s*>", re.IGNORECASE).search(source, position)
    return closing.end() if closing else len(source)


@dataclass(slots=True)
class _Writer:
    """Lines as they grow; `_breaks` is how many line breaks the next word must be set off by."""

    _pieces: list[str] = field(default_factory=list)
    _breaks: int = 0
    _space: bool = False
    _lead: str = ""
    _link: tuple[str, int] | None = None

    def text(self, raw: str) -> None:
        """Add text, its white space folded."""
        words = _SPACE.sub(" ", html.unescape(raw))
        core = words.strip(" ")
        if not core:
            self._space = self._space or bool(words)
            return
        self._set_off(words.startswith(" "))
        self._pieces.append(core)
        self._space = words.endswith(" ")

    def open(self, name: str, attributes: str) -> None:
        """Begin an element."""
        self._break_for(name)
        if name == "li":
            self._breaks = max(self._breaks, 1)
            self._lead = "- "
        elif name == "a":
            href = _HREF.search(attributes)
            address = next((group for group in href.groups() if group), "") if href else ""
            self._link = (html.unescape(address).strip(), len(self._pieces))

    def close(self, name: str) -> None:
        """End an element; behind a link stands where it leads."""
        self._break_for(name)
        if name == "a" and self._link is not None:
            address, start = self._link
            self._link = None
            if address.startswith(LINKS) and "".join(self._pieces[start:]).strip() != address:
                self._set_off(True)
                self._pieces.append(f"<{address}>")

    def done(self) -> str:
        """The finished text."""
        return "".join(self._pieces).strip()

    def _break_for(self, name: str) -> None:
        if name in _PARAGRAPHS:
            self._breaks = max(self._breaks, 2)
        elif name == "br":
            self._breaks = min(self._breaks + 1, 2)
        elif name in _LINES:
            self._breaks = max(self._breaks, 1)
        elif name in _CELLS:
            self._space = True

    def _set_off(self, space: bool) -> None:
        if self._breaks:
            self._pieces.append("\n" * self._breaks + self._lead)
        elif space or self._space:
            self._pieces.append(" ")
        elif self._lead:
            self._pieces.append(self._lead)
        self._breaks, self._space, self._lead = 0, False, ""
