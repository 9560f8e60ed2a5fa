"""Template files: where they lie, which language variants exist, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from jinja2 import BaseLoader, TemplateNotFound
from jinja2 import Environment as JinjaEnvironment
from jinja2.loaders import split_template_path

from channels.errors import RenderError
from channels.message import Channel

MAX_SOURCE_BYTES: Final = 256 * 1024

PARTS: Final[dict[Channel, tuple[str, ...]]] = {
    "sms": ("txt",),
    "email": ("html", "subject", "text"),
    "push": ("json",),
}
"""The parts of a channel's template, the one that decides on the language first."""
OPTIONAL_PARTS: Final = frozenset({"text"})
IS_MJML: Final = ".mjml.j2"
"""How the name of a file ends that holds MJML in place of an e-mail's HTML."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_FILE: Final = re.compile(
    r"(?P<name>[^.]+)(?:\.(?P<locale>[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*))?\.(?P<part>[a-z]+)\.j2"
)


class FolderLoader(BaseLoader):
    """Reads templates from folders, the first that has a name; never outside them, never a huge file."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """`folders` hold sms/, email/, push/ and partials/."""
        self._folders = [folder.resolve() for folder in folders]

    def get_source(self, environment: JinjaEnvironment, template: str) -> tuple[str, str, Callable[[], bool]]:  # noqa: ARG002 (Jinja's signature)
        """The text of a template named by its path below a folder."""
        parts = split_template_path(template)
        for folder in self._folders:
            path = folder.joinpath(*parts).resolve()
            if path.is_relative_to(folder) and path.is_file():
                return _read(path, template), str(path), lambda: True
        raise TemplateNotFound(template, f"no template {template!r} in {', '.join(map(str, self._folders))}")


def _read(path: Path, template: str) -> str:
    data = path.read_bytes()
    if len(data) > MAX_SOURCE_BYTES:
        raise RenderError(template, None, f"the file has {len(data):,} bytes, a template at most {MAX_SOURCE_BYTES:,}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RenderError(template, line, "the file is not UTF-8; save it as UTF-8") from None


class TemplateIndex:
    """Which templates the folders hold, by channel, name, language and part."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Looks at the folders once per channel, when first asked."""
        self._folders = tuple(folders)
        self._found: dict[Channel, dict[tuple[str, str, str], str]] = {}
        self._twice: set[str] = set()

    def exists(self, channel: Channel, template: str) -> bool:
        """Whether the template has its main part in any language."""
        return bool(self.locales(channel, template))

    def locales(self, channel: Channel, template: str) -> tuple[str | None, ...]:
        """The languages the template is written in; None is the one without a tag, and comes first."""
        main = PARTS[channel][0]
        tags = {
            _spelling(path): locale
            for (name, locale, part), path in self._of(channel).items()
            if name == template and part == main
        }
        ordered = sorted(tags)
        return ((None,) if "" in ordered else ()) + tuple(tag for tag in ordered if tag)

    def names(self, channel: Channel) -> tuple[str, ...]:
        """Every template of a channel."""
        main = PARTS[channel][0]
        return tuple(sorted({name for name, _, part in self._of(channel) if part == main}))

    def parts(self, channel: Channel, template: str, locale: str | None) -> dict[str, str]:
        """The files of the most specific language variant that fits `locale`: part -> path below a folder.

        Raises RenderError where the template, or a part that must exist in that language, is missing.
        """
        if not _NAME.fullmatch(template):
            raise RenderError(f"{channel}/{template}", None, "a template's name is made of letters, digits, _ and -")
        files, main = self._of(channel), PARTS[channel][0]
        for tag in _fallbacks(locale):
            if (template, tag, main) in files:
                self._refuse_both(files[template, tag, main])
                return _complete(channel, template, tag, files)
        found = [locale or "the default" for locale in self.locales(channel, template)]
        hint = f"it exists in {', '.join(found)} only; add one without a language" if found else "create it"
        raise RenderError(f"{channel}/{template}.{main}.j2", None, f"no such template; {hint}")

    def _refuse_both(self, path: str) -> None:
        if path in self._twice:
            raise RenderError(path, None, "there is MJML and HTML of the same template; keep one of the two files")

    def _of(self, channel: Channel) -> dict[tuple[str, str, str], str]:
        if channel not in self._found:
            found: dict[tuple[str, str, str], str] = {}
            for folder in self._folders:
                here: dict[tuple[str, str, str], str] = {}
                for path in sorted((folder / channel).glob("*.j2")):
                    match = _FILE.fullmatch(path.name)
                    if match:
                        part = "html" if path.name.endswith(IS_MJML) else match["part"]
                        key = (match["name"], (match["locale"] or "").lower(), part)
                        if here.setdefault(key, f"{channel}/{path.name}") != f"{channel}/{path.name}":
                            self._twice.add(here[key])
                found = here | found
            self._found[channel] = found
        return self._found[channel]


def _complete(channel: Channel, template: str, tag: str, files: dict[tuple[str, str, str], str]) -> dict[str, str]:
    parts = {part: files[template, tag, part] for part in PARTS[channel] if (template, tag, part) in files}
    for part in PARTS[channel]:
        if part not in parts and part not in OPTIONAL_PARTS:
            stem = parts[PARTS[channel][0]].rsplit(".", 2)[0]
            raise RenderError(f"{stem}.{part}.j2", None, f"no such template; {parts[PARTS[channel][0]]} needs it")
    return parts


def _fallbacks(locale: str | None) -> list[str]:
    """zh_Hant-TW -> zh-hant-tw, zh-hant, zh, and the one without a language."""
    pieces = [piece for piece in (locale or "").replace("_", "-").lower().split("-") if piece]
    return ["-".join(pieces[:length]) for length in range(len(pieces), 0, -1)] + [""]


def _spelling(path: str) -> str:
    """The language tag as the file spells it ("" for none)."""
    match = _FILE.fullmatch(path.split("/")[-1])
    return (match["locale"] or "") if match else ""
