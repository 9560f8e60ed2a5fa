"""The conditions that leave a message out, as a message carries them from its plan to the moment it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from campaigns.arm_terms import Step
from campaigns.journey_terms import SIGNALS

_UNTIL: Final = "until "
_BETWEEN: Final = "\n"


@dataclass(frozen=True, slots=True)
class ExitCondition:
    """One condition.

    A `signal` is something the customer did: once done it stays so. `unless` is an expression that is asked anew for
    each message; `until` is one that ends all later messages of its step too, once it has been true.
    """

    kind: Literal["signal", "unless", "until"]
    text: str

    @property
    def reason(self) -> str:
        """The reason code of a message that it leaves out: purchased, open_complaint, until not open_complaint."""
        return f"{_UNTIL}{self.text}" if self.kind == "until" else self.text

    @property
    def is_lasting(self) -> bool:
        """Whether it goes on being true for the customer's later messages that name it."""
        return self.kind != "unless"


def conditions_of_step(step: Step) -> tuple[ExitCondition, ...]:
    """The conditions under which a message of the step is left out."""
    until = () if step.repeat is None else step.repeat.until
    found = [_read(text, "unless") for text in step.unless] + [_read(text, "until") for text in until]
    return tuple(dict.fromkeys(found))


def write_conditions(conditions: Iterable[ExitCondition]) -> str | None:
    """The conditions in one text, their reasons line by line; None for none."""
    return _BETWEEN.join(condition.reason for condition in conditions) or None


def read_conditions(text: str | None) -> tuple[ExitCondition, ...]:
    """The conditions of a text that `write_conditions` made."""
    return tuple(map(_of_reason, (text or "").split(_BETWEEN))) if text else ()


def _read(text: str, kind: Literal["unless", "until"]) -> ExitCondition:
    return ExitCondition("signal" if text in SIGNALS else kind, text)


def _of_reason(reason: str) -> ExitCondition:
    return _read(reason.removeprefix(_UNTIL), "until" if reason.startswith(_UNTIL) else "unless")
