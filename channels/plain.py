"""Plain copies: what a template is given, cut off from every object of the program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from channels.errors import ChannelError

MAX_DEPTH: Final = 6
MAX_VALUES: Final = 5_000
MAX_CHARACTERS: Final = 200_000

# Control characters (tab and line breaks apart) and the marks that turn the reading direction of all that follows.
_HARMFUL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def plain_copy(context: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy made of dicts, lists, texts, numbers, dates, booleans and None only.

    Control characters and direction overrides are left out of texts. Raises ChannelError for any other kind of value
    and for a context that is too large or too deep.
    """
    return _Copier().mapping(context, "", 0)


class _Copier:
    def __init__(self) -> None:
        self._values = 0
        self._characters = 0

    def mapping(self, value: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        return {
            str(key): self.copy(item, f"{path}.{key}" if path else str(key), depth + 1) for key, item in value.items()
        }

    def copy(self, value: Any, path: str, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise ChannelError(f"{path}: a template is given at most {MAX_VALUES:,} values, {MAX_DEPTH} levels deep")
        if isinstance(value, str):
            return self._text(value, path)
        if value is None or type(value) in (bool, int, float, Decimal) or isinstance(value, date):
            return value
        if isinstance(value, Mapping):
            return self.mapping(value, path, depth)
        if isinstance(value, (list, tuple)):
            return [self.copy(item, f"{path}[{number}]", depth + 1) for number, item in enumerate(value)]
        raise ChannelError(
            f"{path}: a {type(value).__name__} cannot be given to a template; give it text, a number or a date"
        )

    def _text(self, value: str, path: str) -> str:
        self._characters += len(value)
        if self._characters > MAX_CHARACTERS:
            raise ChannelError(f"{path}: a template is given at most {MAX_CHARACTERS:,} characters")
        text = str(value) if type(value) is str else str.__str__(value)
        return text if text.isascii() and text.isprintable() else _SURROGATES.sub("\ufffd", _HARMFUL.sub("", text))
