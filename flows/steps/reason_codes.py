"""Every reason code there is, with a sentence: why a customer has no arm, why a message did not leave, and what waits.

`retain explain` says these sentences, docs/operators/reason-codes.md lists them, and a test holds that no code is
written anywhere that this table does not know, and that none stands here that nothing writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from campaigns.eligibility import REASONS
from channels.message import CHANNELS
from flows.steps.explain_journey import EXITS

Stage = Literal["plan", "message", "attempt", "fallback", "suppression", "launch"]
"""What it is the reason of: no arm; a message that was left out, put off or given back; a provider's answer or a
receipt; a message that another channel follows; a customer who must not be written to; a launch."""

STAGES: Final[Mapping[Stage, str]] = MappingProxyType(
    {
        "plan": "Why a customer has no arm",
        "message": "Why a message was left out, put off or given back",
        "attempt": "What became of an attempt to send",
        "fallback": "What follows a message that did not arrive",
        "suppression": "Why a customer must not be written to",
        "launch": "Where a launch stands",
    }
)

MESSAGE: Final[Mapping[str, str]] = {
    "global_holdout": "skipped: the customer belongs to the global holdout by now",
    "suppressed": "skipped: the customer is suppressed on the channel, or for the campaign's topic, by now",
    "suppressed_address": "skipped: the address must not be written to, whoever has it",
    "no_consent": "skipped: neither the facts nor the ledger have a consent for the channel any more",
    "no_address": "skipped: the customer has no address on the channel any more, or one that is none",
    "customer_gone": "skipped: the customer is no longer among the facts",
    "erased": "skipped: the customer was erased at his or her own wish",
    "capped": "put off to the first moment the caps allow; skipped where the message would expire first",
    "outranked": "put off, or skipped: a campaign of higher priority or value took the last place of a cap",
    "over_budget": "skipped: the campaign's budget is used up",
    "outside_hours": "put off, or skipped where it may not wait: law, quiet hours or a holiday forbid this very minute",
    "next_window": "put off: its slot closed before it left, so it waits for the next window",
    "step_before": "put off: the message before it left late or still waits; skipped where it would expire first",
    "too_late": "skipped: its slot closed before it left, and it may not wait, or there is no window before it expires",
    "expired": "skipped: it would come later than max_lateness, or its offer or code has ended",
    "arrived": "skipped: the message that it was to follow was reported delivered after all",
    "render_failed": "failed: the customer's values do not fit the template",
    "held": "given back: the campaign's template or file is broken; it waits until somebody mends it",
    "account_resting": "given back: the provider's account is left alone for now",
    "released": "given back: it was no longer allowed to leave, or the worker stopped; it is looked at again",
    "costs_more": "given back: it costs more than planned, and the budget is asked again at that price",
    "lease_ended": "the worker died: given back where nothing had left yet, in doubt where something may have",
    "same_key": "given back: the provider honours keys, so it is sent again under its own and cannot arrive twice",
    "not_at_provider": "given back: the provider was asked and has not taken it",
    "resolved": "a person settled it, after asking the provider or the customer",
    "refused": "failed: the provider refused it and did not say why",
    "try_later": "given back: the provider did not take it now and did not say why",
    "unknown": "nobody knows whether the provider took it, or why it failed",
}
"""What the claim, the dispatcher, the sweep, a reconciliation and a person write."""

ATTEMPT: Final[Mapping[str, str]] = {
    "malformed": "failed: the message cannot be put as this provider wants it",
    "bad_address": "failed: the address is none",
    "timeout": "no answer came in time",
    "connect": "no connection to the provider; nothing left",
    "disconnected": "the connection broke",
    "tls": "no trusted connection to the provider; nothing left",
    "hours_over": "given back: its window or the legal hours were over before its first byte, so nothing left",
    "lease_over": "given back: the lease would have ended before the answer, so nothing left",
    "broken_answer": "an answer came that is none",
    "malformed_answer": "in doubt: the answer does not name the message",
    "other_text": "in doubt: the provider has another text to this number, so it cannot tell",
    "too_many": "in doubt: the provider has too many messages to this address to tell",
    "undelivered": "the network reported that the text did not arrive",
    "failed": "the provider reported that it could not be sent",
    "canceled": "the provider reported that it was cancelled",
    "bounce": "the mail server refused the address for good",
    "dropped": "the provider did not send it: the address is on its own list",
    "blocked": "the mail server refused this one message, not the address",
}
"""Our own codes of an attempt and of a receipt. Any other is the provider's, as its documentation has it."""

FALLBACK: Final[Mapping[str, str]] = {
    **{channel: f"the message did not arrive; the next one of its step goes by {channel}" for channel in CHANNELS},
}

SUPPRESSION: Final[Mapping[str, str]] = {
    "stop": "the customer sent STOP, or the provider says so",
    "unsubscribe": "the customer used an unsubscribe link",
    "complaint": "the customer marked a message as spam",
    "bounce": "the address does not exist, or is no use",
    "manual": "somebody at the company entered it, or a list did",
    "withdrawn": "the customer withdrew a consent",
    "erased": "the customer was erased at his or her own wish",
}

LAUNCH: Final[Mapping[str, str]] = {
    "awaiting_approval": "the launch passes a limit and waits for a second person; nothing of it was recorded",
    "approved": "a second person approved the launch",
    "refused": "a second person refused the launch; nothing of it is recorded",
}

_UNTIL: Final = "until "


@dataclass(frozen=True, slots=True)
class ReasonCode:
    """One code, what it is the reason of, and what it means."""

    code: str
    stage: Stage
    sentence: str


def reason_codes() -> Iterator[ReasonCode]:
    """Every code, stage by stage; one code may stand in several stages."""
    tables: tuple[tuple[Stage, Mapping[str, str]], ...] = (
        ("plan", {"not_in_segment": "is not in the segment of the campaign as of the run", **REASONS}),
        ("message", {**MESSAGE, **{code: f"skipped: the customer {text}" for code, text in EXITS.items()}}),
        ("attempt", ATTEMPT),
        ("fallback", FALLBACK),
        ("suppression", SUPPRESSION),
        ("launch", LAUNCH),
    )
    for stage, table in tables:
        for code, sentence in table.items():
            yield ReasonCode(code, stage, sentence)


def say_reason(reason: str, *, event: str = "", condition: bool = False) -> str:
    """What a reason of a message means. `event`: what the history calls the line; `condition`: its step names it.

    A reason that no table knows is a condition of the campaign's file, or a provider's own code.
    """
    if event == "fallback" and reason in FALLBACK:
        return FALLBACK[reason]
    if reason in EXITS:
        return f"skipped: the customer {EXITS[reason]}"
    known = MESSAGE.get(reason) or ATTEMPT.get(reason)
    if known is not None and not condition:
        return known
    if reason.startswith(_UNTIL):
        return f"skipped: what ends these messages is so: {reason.removeprefix(_UNTIL)}"
    if condition:
        return f"skipped: the condition of its step was true: {reason}"
    return "the provider's own word for it"
