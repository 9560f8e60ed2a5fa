"""An e-mail as the bytes that mail servers pass on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

from channels.message import Email

# Long headers stay on one line: folded, a List-Unsubscribe address becomes encoded words that no mail program follows.
EML_POLICY: Final = SMTP.clone(max_line_length=998)


def to_mime(content: Email, headers: Mapping[str, str], *, key: str, in_ascii: bool = False) -> bytes:
    """Text and HTML under `headers`; the same message gives the same bytes.

    `in_ascii` encodes what is not ASCII, for servers that pass on nothing else.
    Raises ValueError for a line break in a header.
    """
    mail = EmailMessage(policy=EML_POLICY.clone(cte_type="7bit") if in_ascii else EML_POLICY)
    for name, value in headers.items():
        mail[name] = value
    mail.set_content(content.text)
    mail.add_alternative(content.html, subtype="html")
    mail.set_boundary(f"=_{key_name(key)}")
    return mail.as_bytes()


def key_name(key: str) -> str:
    """A short name made of a message key, fit for files and Message-IDs."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
