"""What an inbound SMS asks for: to stop, to start again, or for help; in the words of many languages."""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

Wish = Literal["stop", "start", "help"]

STOP: Final[frozenset[str]] = frozenset(
    {
        # the words every carrier of the United States and Canada takes, and those of the FCC's order of 2024
        *("stop", "stopall", "stop all", "unsubscribe", "end", "quit", "cancel", "revoke", "optout", "opt out"),
        *("remove me", "no more", "unsub"),
        *("arret", "arreter", "desabonner", "desinscrire"),  # French
        # German, Dutch, the Nordic languages
        *("stopp", "stoppen", "abmelden", "abbestellen", "ende", "avregistrera", "avslutt", "afmeld", "afmelden"),
        *("alto", "baja", "parar", "cancelar", "no mas", "sair", "remover"),  # Spanish, Portuguese
        *("basta", "annulla", "disiscrivi"),  # Italian
        *("стоп", "отписаться", "отписка"),
        *(
            "退订",
            "退訂",
            "拒收",
            "取消订阅",
            "取消訂閱",
            "停止",
            "t",
            "td",
            "r",
            "n",
        ),  # Chinese, with the carriers' letters
        *("配信停止", "수신거부"),
    }
)
START: Final[frozenset[str]] = frozenset(
    {
        *("start", "unstop", "yes", "subscribe", "resume", "opt in", "optin"),
        *("oui", "reprendre", "abonner", "ja", "starten", "anmelden"),  # French, German
        *("si", "alta", "comenzar", "sim", "assinar", "inizia", "iscrivi"),  # Spanish, Portuguese, Italian
        *("старт", "подписаться"),
        *("恢复订阅", "恢復訂閱", "订阅", "訂閱", "恢复", "恢復"),
        *("配信再開", "수신동의"),
    }
)
HELP: Final[frozenset[str]] = frozenset(
    {
        *("help", "info", "aide", "hilfe", "ayuda", "ajuda", "aiuto"),
        *("помощь", "справка", "帮助", "幫助", "도움말", "?"),
    }
)

_FIRST: Final = frozenset({"stop", "stopall", "unsubscribe", "stopp", "arret", "optout", "unsub"})
"""A message that begins with one of these asks to stop, whatever follows ("stop texting me")."""
_WITHIN: Final = ("unsubscribe", "opt out", "退订", "退訂", "拒收", "取消订阅", "取消訂閱")
"""Whatever else a message says, with one of these in it it asks to stop ("i want to unsubscribe")."""
_POLITE: Final = frozenset({"please", "pls", "plz", "thanks", "thx", "now", "svp", "bitte", "por", "favor", "merci"})


def read_wish(text: str) -> Wish | None:
    """What a message asks for, None where it asks for none of these.

    Case, accents, punctuation and politeness do not matter: "Stop, please!" is STOP.
    """
    plain = _plain(text)
    words = [word for word in plain.split() if word not in _POLITE]
    said = " ".join(words)
    if said in STOP or (words and words[0] in _FIRST) or any(word in plain for word in _WITHIN):
        return "stop"
    if said in HELP or plain.strip() in HELP or text.strip() == "?":
        return "help"
    return "start" if said in START else None


def _plain(text: str) -> str:
    """Lower case, full-width forms as usual ones, no accents on Latin letters, punctuation as space."""
    split = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(sign for sign in split if not unicodedata.combining(sign))
    whole = unicodedata.normalize("NFKC", bare)
    return re.sub(r"[\W_]+", " ", whole).strip()
