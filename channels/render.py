"""Rendering: a template and a customer's values become the content of one message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final

from jinja2 import Template, TemplateError, TemplateNotFound, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError

from channels.budget import WorkLimitError
from channels.email_html import MarkupError
from channels.errors import ChannelError, RenderError
from channels.message import Channel, Content, Email, Push, Sms
from channels.output import render_bounded
from channels.plain import plain_copy
from channels.plain_text import to_plain_text
from channels.references import Reference, find_references
from channels.sandbox import Environment, Escaping
from channels.shared_email import LINE_BREAKS, SharedEmails, finish_part
from channels.template_files import FolderLoader, TemplateIndex

__all__ = ["Reference", "RenderError", "Renderer"]

MAX_PUSH_BYTES: Final = 4_000
"""Bytes of title, body and data together; the push services take 4,096 for the whole message."""

HALF_A_CHARACTER: Final = r"half of a character (\ud800 to \udfff) cannot be sent; write the whole one"

_ESCAPING: Final[Mapping[str, Escaping]] = {
    "txt": "text",
    "subject": "text",
    "text": "text",
    "html": "html",
    "json": "json",
}


class Renderer:
    """Renders the templates of some folders; a file is read once and kept, so make a new one to see edits."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """`folders` hold sms/NAME.txt.j2, email/NAME.subject.j2 and NAME.html.j2, push/NAME.json.j2 and partials/.

        A name found in several folders is taken from the first.
        """
        self._index = TemplateIndex(folders)
        loader = FolderLoader(folders)
        kinds: tuple[Escaping, ...] = ("text", "html", "json")
        self._environments = {escaping: Environment(escaping, loader) for escaping in kinds}
        self._shared = SharedEmails(loader)

    def render(
        self, channel: Channel, template: str, context: Mapping[str, Any], *, locale: str | None = None
    ) -> Content:
        """The content of one message: `context` is given to the template as a plain copy.

        The most specific language variant that fits `locale` is used (zh-CN, then zh, then the one without a language).
        Raises RenderError with the template's file and line: an unknown or missing variable, a line break in a subject,
        a template that works too much or gives too much, broken JSON or MJML.
        E-mails for customers that differ in printed values only share what they have in common (Email.shared).
        """
        parts = self._index.parts(channel, template, locale)
        try:
            values = plain_copy(context)
        except ChannelError as error:
            raise RenderError(f"{channel}/{template}", None, str(error)) from None
        shared = self._shared.render(parts, values) if channel == "email" else None
        if shared is not None:
            return shared
        texts = {part: self._render_part(part, path, values) for part, path in parts.items()}
        if channel == "sms":
            return _sms(texts["txt"], parts["txt"])
        return _email(texts, parts) if channel == "email" else _push(texts["json"], parts["json"])

    def references(self, channel: Channel, template: str, *, locale: str | None = None) -> list[Reference]:
        """Every variable the template and what it includes ask for, with file and line, in reading order."""
        found: list[Reference] = []
        for part, path in self._index.parts(channel, template, locale).items():
            environment = self._environments[_ESCAPING[part]]
            try:
                found.extend(find_references(environment, path))
            except (TemplateError, RecursionError, MemoryError, ValueError) as error:
                raise _explained(error, path) from None
        return sorted(set(found), key=lambda use: (use.file, use.line, use.path))

    def locales(self, channel: Channel, template: str) -> tuple[str | None, ...]:
        """The languages a template is written in; None stands for the file without a language tag, and comes first."""
        return self._index.locales(channel, template)

    def exists(self, channel: Channel, template: str) -> bool:
        """Whether there is such a template in any language."""
        return self._index.exists(channel, template)

    def names(self, channel: Channel) -> tuple[str, ...]:
        """Every template of a channel, sorted."""
        return self._index.names(channel)

    def _render_part(self, part: str, path: str, values: dict[str, Any]) -> str:
        try:
            text = render_bounded(self._environments[_ESCAPING[part]].get_template(path), values, part)
            return finish_part(text, path) if part == "html" else text
        except RenderError:
            raise
        except Exception as error:  # noqa: BLE001 (a template can raise anything; all of it is the template's error)
            raise _explained(error, path) from None


def _sms(text: str, path: str) -> Sms:
    body = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not body:
        raise RenderError(path, None, "the message is empty")
    return Sms(body)


def _email(texts: Mapping[str, str], parts: Mapping[str, str]) -> Email:
    subject = texts["subject"].strip()
    if not subject:
        raise RenderError(parts["subject"], None, "the subject is empty")
    if LINE_BREAKS.search(subject):
        raise RenderError(parts["subject"], None, "a line break in the subject: the template or a value in it has one")
    html = texts["html"].strip()
    text = texts.get("text", "").strip() or to_plain_text(html)
    if not html or not text:
        raise RenderError(parts["html"], None, "the e-mail is empty")
    return Email(subject, html, text)


def _push(text: str, path: str) -> Push:
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()  # JSON may name half a character: "\ud83d"
    except UnicodeEncodeError:
        raise RenderError(path, None, HALF_A_CHARACTER) from None
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise RenderError(
            path, None, f"the rendered text is not JSON (its line {line}); check commas and quotes"
        ) from None
    if not isinstance(document, dict) or not document.keys() <= {"title", "body", "data"}:
        raise RenderError(path, None, 'expected {"title": ..., "body": ..., "data": {...}} and no other key')
    title, body, data = document.get("title"), document.get("body"), document.get("data", {})
    if not (isinstance(title, str) and isinstance(body, str) and title.strip() and body.strip()):
        raise RenderError(path, None, "title and body must be texts and not empty")
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise RenderError(path, None, "data must map names to texts; put numbers in quotes")
    size = len(json.dumps(document, ensure_ascii=False).encode())
    if size > MAX_PUSH_BYTES:
        raise RenderError(path, None, f"the notification has {size:,} bytes, at most {MAX_PUSH_BYTES:,} fit")
    return Push(title.strip(), body.strip(), MappingProxyType(dict(sorted(data.items()))))


def _explained(error: BaseException, path: str) -> RenderError:
    """The error with the template file and line it came from, and no value of the customer's."""
    if isinstance(error, TemplateSyntaxError):
        return RenderError(error.name or path, error.lineno, _sentence(error))
    file, line = _place(error.__traceback__)
    return RenderError(file or path, line, _sentence(error))


def _sentence(error: BaseException) -> str:
    if isinstance(error, TemplateNotFound):
        return f"no template {error.name!r} to include"
    if isinstance(error, UnicodeEncodeError):
        return HALF_A_CHARACTER
    if isinstance(error, RecursionError):
        return "templates, blocks or macros that include themselves, or an expression nested too deeply"
    if isinstance(error, (TemplateSyntaxError, UndefinedError, SecurityError, WorkLimitError, MarkupError, TypeError)):
        return str(error)
    return f"{type(error).__name__} while rendering"


def _place(traceback: TracebackType | None) -> tuple[str | None, int | None]:
    """The innermost template frame: its name and the line in its source."""
    name: str | None = None
    line: int | None = None
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template):
            name, line = template.name, template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return name, line
