"""Every reason code has a sentence, and every sentence a place that writes its code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from campaigns.eligibility import REASONS
from channels import receipts
from flows.steps.make_workspace import TREE
from flows.steps.reason_codes import STAGES, reason_codes, say_reason
from warehouse.ledger.fallbacks import UNREACHABLE
from warehouse.ledger.schema import SUPPRESSION_REASONS

ROOMS = ("campaigns", "channels", "warehouse", "flows/steps")
TELLING = {"reason_codes.py", "explain_reasons.py", "explain_customer.py"}
OUTSIDE = {"design changed"}
"""Reasons of other things: why an experiment ended."""
WRITERS = {"refuse": 0, "leave": 3, "Unsendable": 0}
"""Who writes a reason by its place among the arguments."""
NAMED = {"Settlement", "release", "move", "replace"}
"""Who writes one by the name `reason`."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for path in sorted((TREE / room).rglob("*.py")):
            if "simulators" not in path.parts and "migrations" not in path.parts and "demo" not in path.parts:
                yield path, ast.parse(path.read_text(encoding="utf-8"))


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def texts(node: ast.AST) -> Iterator[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.IfExp | ast.BoolOp):
        parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values
        for part in parts:
            yield from texts(part)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def written(tree: ast.Module) -> Iterator[str]:
    """The reasons that a module writes out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place = WRITERS.get(name_of(node))
            if place is not None and len(node.args) > place:
                yield from texts(node.args[place])
            for keyword in node.keywords if name_of(node) in NAMED else ():
                if keyword.arg == "reason":
                    yield from texts(keyword.value)
            if name_of(node) == "SendResult" and (code := {k.arg: k.value for k in node.keywords}.get("code")):
                yield from texts(code)
            if name_of(node) == "append" and ast.unparse(node.func).startswith("verdicts.skipped"):
                yield from texts(node.args[0].elts[-1])  # type: ignore[attr-defined]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith(("reasons[", "refused[")):
            yield from texts(node.value)


def provider_own(code: str) -> bool:
    """Codes that are a provider's: a number, or a number with words."""
    return code[:1].isdigit()


def test_no_reason_is_written_without_a_sentence() -> None:
    known = {reason.code for reason in reason_codes()}
    found = {(code, path.name) for path, tree in modules() for code in written(tree) if not provider_own(code)}
    assert len(found) > 30
    assert {(code, name) for code, name in found if code not in known | OUTSIDE | {""}} == set()


def test_no_sentence_is_there_without_a_place_that_writes_its_code() -> None:
    constants: set[str] = set()
    for path, tree in modules():
        if path.name not in TELLING:
            constants |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert {reason.code for reason in reason_codes()} - constants == {"not_in_segment"}  # explain itself finds it


def test_each_stage_knows_what_its_room_writes() -> None:
    by_stage = {stage: {reason.code for reason in reason_codes() if reason.stage == stage} for stage in STAGES}
    assert by_stage["plan"] - {"not_in_segment"} == set(REASONS)
    assert by_stage["suppression"] == set(SUPPRESSION_REASONS)
    assert by_stage["message"] >= set(UNREACHABLE)
    ours = {status for status in receipts._TWILIO_STATES if receipts._TWILIO_STATES[status] == "failed"}
    ours |= {event for event in receipts._SENDGRID_STATES if receipts._SENDGRID_STATES[event] == "failed"}
    assert by_stage["attempt"] >= ours | {"blocked"}
    assert all(reason.sentence and not reason.sentence.endswith(".") for reason in reason_codes())


def test_a_code_stands_once_in_its_stage() -> None:
    keys = [(reason.stage, reason.code) for reason in reason_codes()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("reason", "event", "condition", "says"),
    [
        ("capped", "deferred", False, "put off to the first moment the caps allow"),
        ("purchased", "skipped", True, "bought since the assignment"),
        ("until not open_complaint", "skipped", True, "what ends these messages is so: not open_complaint"),
        ("open_complaint", "skipped", True, "the condition of its step was true: open_complaint"),
        ("email", "fallback", False, "goes by email"),
        ("too_late", "fallback", False, "it may not wait"),
        ("21610", "failed", False, "the provider's own word"),
    ],
)
def test_every_kind_of_reason_is_said_in_words(reason: str, event: str, condition: bool, says: str) -> None:
    assert says in say_reason(reason, event=event, condition=condition)
