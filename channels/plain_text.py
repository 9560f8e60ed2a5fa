"""The plain-text part of an e-mail, made from its HTML."""

from __future__ import annotations

import re
from typing import Final

_NESTING: Final = re.compile(r"<(?:blockquote|[ou]l|dl|pre)\b", re.IGNORECASE)
_MAX_NESTING: Final = 500
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_TRAILING: Final = re.compile(r"[ \t]+$", re.MULTILINE)


def to_plain_text(html: str) -> str:
    """The text a reader without HTML sees: links written out, pictures and layout left away, lines not wrapped."""
    import html2text  # only e-mails need it

    if len(_NESTING.findall(html)) > _MAX_NESTING:
        html = _NESTING.sub("<div", html)  # deep quotes and lists make the converter's lines grow with their depth
    converter = html2text.HTML2Text(bodywidth=0)
    converter.ignore_images = True
    converter.ignore_tables = True
    converter.ignore_emphasis = True
    converter.unicode_snob = True
    converter.protect_links = True
    text = _TRAILING.sub("", converter.handle(html))
    return _BLANK_LINES.sub("\n\n", text).strip()
