"""E-mails that share their text: a template is rendered once with tags for the customers' values, and then filled.

What the template's logic asks for stands in the key of what is kept, so two customers share a text only when nothing
but printed values tells them apart. Where filling could give anything else than rendering would, None is the answer and
the caller renders.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from jinja2 import BaseLoader, TemplateError, nodes
from markupsafe import escape

from channels.budget import WorkLimitError
from channels.email_html import finish_html
from channels.errors import RenderError
from channels.holes import BEGINNINGS, MARK, Hole, HoleBook, HolePuncher, Kind, tag
from channels.message import Email, SharedEmail
from channels.output import MAX_OUTPUT, render_bounded
from channels.plain_text import LINKS, to_plain_text
from channels.references import assigned_names, find_references, read_trees
from channels.sandbox import Environment
from channels.template_files import IS_MJML

MOST_KEPT: Final = 64
LINE_BREAKS: Final = re.compile("[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

_TAG: Final = re.compile(rf"({re.escape(MARK)}[htw]\d{{3}}x)")
_ENTANGLED: Final = re.compile(rf"(?:&[#\w]*|</?|<[!?][^>]*|href\s*=\s*){re.escape(MARK)}", re.ASCII | re.IGNORECASE)
"""A tag where its value could become markup or part of an entity: the text made of the HTML would depend on it."""
_METHODS: Final = frozenset({"get", "items", "keys", "values"})


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of a template: the values its logic asks for, its holes, the names it gives a value itself."""

    asked: tuple[tuple[str, ...], ...]
    holes: tuple[Hole, ...]
    assigned: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the text made of HTML depends on: holes whose values are addresses, and holes with nothing in them."""

    links: tuple[Hole, ...]
    blanks: tuple[Hole, ...]


class SharedEmails:
    """Renders the e-mail templates of one renderer so that customers share texts; keeps the last 64 texts."""

    def __init__(self, loader: BaseLoader) -> None:
        self._book = HoleBook()
        plain = Environment("text", loader)

        def read(name: str) -> nodes.Template:
            return plain.parse(loader.get_source(plain, name)[0], name, name)

        self._environments = {
            "html": Environment("html", loader, rewrite=HolePuncher(self._book, "h", read)),
            "text": Environment("text", loader, rewrite=HolePuncher(self._book, "t", read)),
        }
        self._plans: dict[tuple[str, ...], _Plan | None] = {}
        self._kept: OrderedDict[tuple[Any, ...], _Text | None] = OrderedDict()

    def render(self, parts: Mapping[str, str], context: Mapping[str, Any]) -> Email | None:
        """The e-mail of `parts` (part -> file) for a plain `context`, with what it shares; None: render it alone."""
        files = tuple(parts.values())
        if files not in self._plans:
            self._plans[files] = self._make_plan(parts)
        plan = self._plans[files]
        if plan is None or not plan.assigned.isdisjoint(context):
            return None
        values = {hole: hole.value(context) for hole in plan.holes}
        shape = _Shape(
            links=tuple(hole for hole, value in values.items() if value is not None and value.startswith(LINKS)),
            blanks=tuple(hole for hole, value in values.items() if value == ""),
        )
        key = (files, shape, *(_told(path, context) for path in plan.asked))
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = self._make_text(parts, context, shape)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        text = self._kept[key]
        return None if text is None else text.fill(values)

    def _make_plan(self, parts: Mapping[str, str]) -> _Plan | None:
        asked: set[tuple[str, ...]] = set()
        files: set[str] = set()
        assigned: set[str] = set()
        try:
            for part, path in parts.items():
                environment = self._environments["html" if part == "html" else "text"]
                trees = read_trees(environment, path)
                files.update(trees)
                assigned |= assigned_names(trees)
                asked.update(tuple(use.path.split(".")) for use in find_references(environment, path))
        except (TemplateError, RenderError, RecursionError, MemoryError, ValueError):
            return None  # rendering it alone tells what is wrong
        if files & self._book.closed:
            return None
        holes = {hole for file in files for hole in self._book.of_file.get(file, ())}
        return _Plan(
            tuple(sorted(asked)), tuple(sorted(holes, key=self._book.numbers.__getitem__)), frozenset(assigned)
        )

    def _make_text(self, parts: Mapping[str, str], context: Mapping[str, Any], shape: _Shape) -> _Text | None:
        try:
            made = {part: self._render_part(part, path, context) for part, path in parts.items()}
        except Exception:  # noqa: BLE001 (a template can raise anything; rendering it alone raises it with its place)
            return None
        html, subject, own = made["html"], made["subject"].strip(), made.get("text", "").strip()
        if not own and _ENTANGLED.search(html):
            return None
        text = own or self._plain_text(html, shape)
        shared = SharedEmail(subject, html, text)
        return _Text.of(shared, self._book) if subject and html and text else None

    def _render_part(self, part: str, path: str, context: Mapping[str, Any]) -> str:
        environment = self._environments["html" if part == "html" else "text"]
        text = render_bounded(environment.get_template(path), context, part)
        return finish_part(text, path) if part == "html" else text

    def _plain_text(self, html: str, shape: _Shape) -> str:
        """The text of the HTML; where a link leads is written out, also when the address is a hole."""
        for hole in shape.blanks:
            html = html.replace(tag("h", self._book.numbers[hole]), "")
        tags = [tag("h", self._book.numbers[hole]) for hole in shape.links]
        for one in tags:
            html = html.replace(one, LINKS[0] + one)
        text = to_plain_text(html)
        for one in tags:
            text = text.replace(LINKS[0] + one, one)
        return text.replace(f"{MARK}h", f"{MARK}w")


def finish_part(text: str, path: str) -> str:
    """The HTML to send for what the template in `path` gave. Raises WorkLimitError, MarkupError."""
    html = finish_html(text.strip(), is_mjml=path.endswith(IS_MJML))
    if len(html) > MAX_OUTPUT["html"]:
        raise WorkLimitError(f"the e-mail has more than {MAX_OUTPUT['html']:,} characters")
    return html.strip()


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a shared e-mail taken apart: texts at even places, tags at odd ones."""

    pieces: tuple[str, ...]
    most: int

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in their order, each as often as it stands there."""
        return self.pieces[1::2]

    def fill(self, given: Mapping[str, str]) -> str | None:
        """The part with values in place of its tags; None where it would be too long, or white space stands outside."""
        values = [given[one] for one in self.pieces[1::2]]
        if sum(map(len, self.pieces[::2])) + sum(map(len, values)) > self.most:
            return None
        filled = list(self.pieces)
        filled[1::2] = values
        text = "".join(filled)
        return text if text[:1].strip() and text[-1:].strip() else None


@dataclass(frozen=True, slots=True)
class _Text:
    """A shared e-mail that can be filled."""

    shared: SharedEmail
    parts: tuple[_Part, _Part, _Part]
    tags: tuple[tuple[str, Kind, Hole], ...]

    @classmethod
    def of(cls, shared: SharedEmail, book: HoleBook) -> _Text | None:
        """None where a tag was damaged on the way, is not ours, or could come about beside a value."""
        known = {tag(kind, number): (kind, hole) for hole, number in book.numbers.items() for kind in _KINDS}
        texts = {"subject": shared.subject, "html": shared.html, "text": shared.text}
        parts = [_Part(tuple(_TAG.split(text)), MAX_OUTPUT[name]) for name, text in texts.items()]
        found = sorted({one for part in parts for one in part.tags})
        around = [text for part in parts for text in part.pieces[::2]]
        if not known.keys() >= set(found) or any(MARK in text.lower() or text.endswith(BEGINNINGS) for text in around):
            return None
        subject, html, text = parts
        return cls(shared, (subject, html, text), tuple((one, *known[one]) for one in found))

    def fill(self, values: Mapping[Hole, str | None]) -> Email | None:
        """The e-mail with `values` in place of the tags; None where rendering might give something else."""
        given: dict[str, str] = {}
        for one, kind, hole in self.tags:
            value = values[hole]
            if value is None or MARK in value or value.endswith(BEGINNINGS):
                return None
            if kind == "w" and value != (" ".join(value.split()) or None):
                return None  # white space that a text made of HTML folds together with what is around it
            if kind == "h" and "href" in value:
                return None
            given[one] = str(escape(value)) if kind == "h" else value
        subject, html, text = (part.fill(given) for part in self.parts)
        if subject is None or html is None or text is None or LINE_BREAKS.search(subject):
            return None
        return Email(subject, html, text, self.shared, MappingProxyType(given))


_KINDS: Final = cast(tuple[Kind, ...], ("h", "t", "w"))


def _told(path: tuple[str, ...], context: Mapping[str, Any]) -> str:
    """What a context says to a path that the template's logic asks for, as a text that differs where it does."""
    found: Any = context
    for name in path:
        if not isinstance(found, Mapping):
            break  # a method or attribute of the value: the value decides
        if name not in found:
            return repr(found) if name in _METHODS else "missing"
        found = found[name]
    return repr(found)
