"""What a template may give: how long each part of a message may be, and rendering that stops there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Template

from channels.budget import WorkLimitError, budgeted

MAX_OUTPUT: Final[Mapping[str, int]] = {
    "txt": 4_000,
    "subject": 1_000,
    "html": 250_000,
    "text": 250_000,
    "json": 16_000,
}
"""Characters a part may have once rendered."""


def render_bounded(template: Template, values: Mapping[str, Any], part: str) -> str:
    """The text a template gives for `values`; raises WorkLimitError for too much work or text, and what it raises.

    Raises UnicodeEncodeError for a text that no encoding can write.
    """
    pieces: list[str] = []
    length, most = 0, MAX_OUTPUT[part]
    with budgeted():
        for piece in template.root_render_func(template.new_context(dict(values))):
            length += len(piece)
            if length > most:
                raise WorkLimitError(f"the rendered text has more than {most:,} characters")
            pieces.append(piece)
    text = "".join(pieces)
    text.encode()  # half of a character, as a template can write it, would stop whoever sends it
    return text
