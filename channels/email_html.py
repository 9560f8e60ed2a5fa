"""The HTML of an e-mail made fit for mail programs: MJML turned into tables, style sheets written into the elements.

Both are done by packages in C or Rust that nothing can interrupt and that a hostile input could keep busy for minutes
or crash (measured: 20,000 elements inside each other end the process, 10,000 rules over 15,000 elements take ten
seconds, 2,000 paragraphs with a <b> left open in each take 800 MB). So the work is weighed before it is begun.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from channels.budget import WorkLimitError

if TYPE_CHECKING:
    from css_inline import CSSInliner

MAX_ELEMENTS: Final = 4_000
"""Elements of an e-mail with a style sheet; nesting is thereby bounded too."""
MAX_MJML_ELEMENTS: Final = 1_000
MAX_STYLE_WORK: Final = 4_000_000
"""Elements times the rules, selectors and declarations that each is compared with: about a third of a second."""
MAX_STYLE_CHARACTERS: Final = 60_000_000
"""Elements times the characters of the style sheet: what the result could grow to."""
MAX_REOPENED: Final = 300_000
"""Elements times those like <a> and <b> that are left open: a parser opens each of these again in every block."""
MAX_REOPENED_CHARACTERS: Final = 30_000_000
MAX_MJML_WORK: Final = 20_000_000
"""Characters that MJML elements could be given by what stands in mj-attributes or in their parents."""
MAX_CLOSING_ROUNDS: Final = 8
"""How deep elements like <a> and <b> may stand in each other before they count as left open."""
MAX_TAG: Final = 20_000
"""Characters of one tag in an e-mail with a style sheet."""

_ELEMENT: Final = re.compile(r"<[A-Za-z]")
_MJML_ELEMENT: Final = re.compile(r"<mj", re.IGNORECASE)
_LONG_TAG: Final = re.compile(rf"<[A-Za-z][^<>]{{{MAX_TAG}}}")
_STYLE: Final = re.compile(r"<style\b[^>]*>(.*?)(?:</style|\Z)", re.IGNORECASE | re.DOTALL)
_FORMATTING: Final = "(a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)"
_ATTRIBUTES: Final = r"""(?:\s++[\w:.-]++(?:\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>=`]++))?+)*+\s*+/?"""
_OPENED: Final = re.compile(rf"<{_FORMATTING}\b[^<>]*+", re.IGNORECASE)
_CLOSED: Final = re.compile(
    rf"<{_FORMATTING}{_ATTRIBUTES}>((?:[^<]++|<(?:br|img|/?span)\b{_ATTRIBUTES}>)*+)</\1\s*+>", re.IGNORECASE
)
"""One of them that is closed for certain: with nothing in it but text and pictures, however the rest is read."""
_SEARCHING: Final = re.compile(r"[~+]|:(?:nth|has|not|is|where|last|only|first|any|matches)", re.IGNORECASE)


class MarkupError(Exception):
    """The HTML or MJML of a template cannot be understood; the text says where."""


def finish_html(source: str, *, is_mjml: bool = False) -> str:
    """The HTML to send for the HTML or MJML that a template gave; without a style sheet HTML stays as it is.

    Rules that fit an element move into it; others (:hover, @media) stay in the style sheet. Nothing is loaded from
    anywhere. Raises WorkLimitError for more work than a message is worth, MarkupError for MJML that is none.
    """
    html = _from_mjml(source) if is_mjml else source
    return _inlined(html) if "<style" in html.lower() else html


def _from_mjml(source: str) -> str:
    from mjml import mjml2html

    own, elements = len(_MJML_ELEMENT.findall(source)), len(_ELEMENT.findall(source))
    if own > MAX_MJML_ELEMENTS or elements > MAX_ELEMENTS:
        raise WorkLimitError(f"MJML has at most {MAX_MJML_ELEMENTS:,} elements of its own, {MAX_ELEMENTS:,} in all")
    head = source.lower().rpartition("</mj-head>")[0]
    longest = max(map(len, source.split("<")))
    if own * (len(head) + longest) > MAX_MJML_WORK:
        raise WorkLimitError("the attributes of the MJML template are too long for so many elements")
    try:
        return mjml2html(source, fonts={})  # no fonts from elsewhere: opening a mail must tell nobody
    except ValueError as error:
        raise MarkupError(f"not MJML: {str(error).splitlines()[0]}") from None


def _inlined(html: str) -> str:
    elements = len(_ELEMENT.findall(html))
    if elements > MAX_ELEMENTS:
        raise WorkLimitError(f"an e-mail with a style sheet has at most {MAX_ELEMENTS:,} elements")
    if _LONG_TAG.search(html):
        raise WorkLimitError(f"a tag in an e-mail with a style sheet has at most {MAX_TAG:,} characters")
    styles = "".join(_STYLE.findall(html))
    rules = sum(styles.count(mark) for mark in "{,;[.#")
    too_many = elements * (rules + elements * len(_SEARCHING.findall(styles))) > MAX_STYLE_WORK
    if too_many or elements * len(styles) > MAX_STYLE_CHARACTERS:
        raise WorkLimitError("the style sheet has too many rules for so many elements")
    left_open = _left_open(html)
    if elements * len(left_open) > MAX_REOPENED or elements * sum(map(len, left_open)) > MAX_REOPENED_CHARACTERS:
        raise WorkLimitError("too many elements like <a> and <b> are left open, or have blocks inside them: close them")
    return _inliner().inline(html)


def _left_open(html: str) -> list[str]:
    """The formatting elements that may be open at the end; those inside each other are closed from the inside."""
    rest, n = _CLOSED.subn(r"\2", html)
    for _ in range(MAX_CLOSING_ROUNDS):
        if not n:
            break
        rest, n = _CLOSED.subn(r"\2", rest)
    return [match.group() for match in _OPENED.finditer(rest)]


@cache
def _inliner() -> CSSInliner:
    """Made once; importing it takes a moment."""
    from css_inline import CSSInliner

    return CSSInliner(
        keep_at_rules=True, keep_style_tags=True, remove_inlined_selectors=True, load_remote_stylesheets=False
    )
