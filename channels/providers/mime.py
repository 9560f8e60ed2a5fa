"""An e-mail as the bytes that mail servers pass on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from typing import Final

from channels.message import Email

# Long headers stay on one line: folded, a List-Unsubscribe address becomes encoded words that no mail program follows.
EML_POLICY: Final = SMTP.clone(max_line_length=998)


_HEADER: Final = re.compile(rb"^([^\s:][^:\r\n]*)(?::|$)", re.MULTILINE)


class _Subject(str):
    """A subject in which something looks encoded ("=?utf-8?q?...?="): it is sent as it stands, and never decoded.

    Python's own way decodes it, and writes what comes out: a line break in there begins a header of its own.
    """

    __slots__ = ()
    name: Final = "Subject"

    def fold(self, *, policy: EmailPolicy) -> str:
        """The header as it is written."""
        if "\r" in self or "\n" in self:
            raise ValueError("a line break in the subject")
        encoded = Header(str(self), "utf-8", header_name=self.name).encode(linesep=policy.linesep)
        return f"{self.name}: {encoded}{policy.linesep}"


def to_mime(content: Email, headers: Mapping[str, str], *, key: str, in_ascii: bool = False) -> bytes:
    """Text and HTML under `headers`; the same message gives the same bytes.

    `in_ascii` encodes what is not ASCII, for servers that pass on nothing else.
    Raises ValueError for a line break in a header, also for one that comes about only where it is written, and for a
    header that cannot be written at all.
    """
    try:
        return _written(content, headers, key=key, in_ascii=in_ascii)
    except (AttributeError, LookupError, AssertionError):  # Python's parser of addresses, about some that are none
        raise ValueError("a header cannot be written") from None


def _written(content: Email, headers: Mapping[str, str], *, key: str, in_ascii: bool) -> bytes:
    mail = EmailMessage(policy=EML_POLICY.clone(cte_type="7bit") if in_ascii else EML_POLICY)
    for name, value in headers.items():
        mail[name] = _Subject(value) if name == "Subject" and "=?" in value else value
    mail.set_content(content.text)
    mail.add_alternative(content.html, subtype="html")
    mail.set_boundary(f"=_{key_name(key)}")
    data = mail.as_bytes()
    written = [name.lower() for name in _HEADER.findall(data.partition(b"\r\n\r\n")[0])]
    if written != [name.lower().encode() for name in mail.keys()]:  # noqa: SIM118 (a header may be there twice)
        raise ValueError("a header begins another one")
    return data


def key_name(key: str) -> str:
    """A short name made of a message key, fit for files and Message-IDs."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
