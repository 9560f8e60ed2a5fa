"""Pages as text: the templates of this folder, one style sheet, and the policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER: Final = Path(__file__).parent / "templates"


def render_page(template: str, **values: object) -> str:
    """A whole page with the style sheet in it. Same values, same text."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style: Any = Markup(_style())  # noqa: S704 (our own file, nothing of the data in it)
    return environment.get_template(template).render(style=style, policy=page_policy(), **values)


def page_policy() -> str:
    """Content security policy: nothing may be loaded or run; of styles only the page's own sheet, by its hash."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _style() -> str:
    return (FOLDER / "report.css").read_text(encoding="utf-8").replace("\r\n", "\n")
