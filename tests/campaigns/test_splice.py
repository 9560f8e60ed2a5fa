"""Splicing: edits that change a value and not one byte more."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from campaigns.errors import CampaignError
from campaigns.write_back import Edit, WriteBackError, splice
from tests.campaigns.edits import CAMPAIGN, edit


def spliced(text: str, *edits: Edit) -> str:
    return splice(text.encode(), edits).decode()


def read(text: bytes | str) -> object:
    yaml = YAML(typ="safe", pure=True)
    return yaml.load(text)


EDITS = [
    # (what, before, path, value, after)
    ("a plain value", "a: 1 # c\n", "a", "2", "a: 2 # c\n"),
    ("a single-quoted value", "a: 'x'  # c\n", "a", "it's", "a: 'it''s'  # c\n"),
    ("a double-quoted value", 'a: "x"\n', "a", 'y"\\', 'a: "y\\"\\\\"\n'),
    ("a value in a flow mapping", "a: {w: 40%, o: x}\n", "a/w", "90%", "a: {w: 90%, o: x}\n"),
    ("a value in a nested flow mapping", "a: [{w: 1}, {w: 2}]\n", "a/1/w", "3", "a: [{w: 1}, {w: 3}]\n"),
    ("an item of a block sequence", "a:\n  - x\n  - y # c\n", "a/1", "z", "a:\n  - x\n  - z # c\n"),
    ("a value inside a sequence's mapping", "a:\n- b: 1\n  c: 2\n", "a/0/c", "3", "a:\n- b: 1\n  c: 3\n"),
    ("carriage returns", "a: 1\r\nb: 2\r\n", "b", "3", "a: 1\r\nb: 3\r\n"),
    ("a byte-order mark", "\ufeffa: 1\n", "a", "2", "\ufeffa: 2\n"),
    ("CJK keys and values", "活动:\n  权重: 四成 # 备注\n", "活动/权重", "六成", "活动:\n  权重: 六成 # 备注\n"),
    ("characters beyond the basic plane before the value", "a: 🎁 # 🎁\nb: x\n", "b", "🎉", "a: 🎁 # 🎁\nb: 🎉\n"),
    ("no line break at the end", "a: 1", "a", "2", "a: 2"),
    ("a value on the line below its key", "a:\n  x\n", "a", "y", "a:\n  y\n"),
    ("a value over several lines", "a: one\n  two\nb: 1\n", "a", "three", "a: three\nb: 1\n"),
    ("a quoted value over several lines", 'a: "one\n  two" # c\nb: 1\n', "a", "three", 'a: "three" # c\nb: 1\n'),
    ("a quoted key", '"a b": 1\n', "a b", "2", '"a b": 2\n'),
    ("text stays text", "a: active\n", "a", "true", 'a: "true"\n'),
    ("text that looks like a number stays text", "a: '1'\n", "a", "2", "a: '2'\n"),
    ("a number may become another number", "a: 1\n", "a", "2.5", "a: 2.5\n"),
    ("a value that needs quotes gets them", "a: x\n", "a", "y # z", 'a: "y # z"\n'),
    ("a value that needs quotes only in a flow mapping", "a: {b: x}\n", "a/b", "y, z", 'a: {b: "y, z"}\n'),
    ("a comma needs no quotes in a block", "a: x\n", "a", "y, z", "a: y, z\n"),
    ("a line break is escaped", "a: 'x'\n", "a", "y\nz\x07\u2028", 'a: "y\\nz\\x07\\u2028"\n'),
    ("an indicator is quoted", "a: x\n", "a", "*b", 'a: "*b"\n'),
    ("an anchored value nobody else uses keeps its anchor", "a: &w 1\n", "a", "2", "a: &w 2\n"),
    ("a tagged value keeps its tag", "a: !!str 1\n", "a", "2", 'a: !!str "2"\n'),
    ("an alias gives way to the value", "a: &w 40%\nb: *w # c\n", "b", "60%", "a: &w 40%\nb: 60% # c\n"),
    ("an alias in a flow mapping", "a: &w 40%\nb: {c: *w , d: *w }\n", "b/d", "60%", "a: &w 40%\nb: {c: *w , d: 60% }\n"),
    ("an empty value", "a:\nb: 1\n", "a", "x", "a: x\nb: 1\n"),
    ("an empty value before a comment", "a:   # c\nb: 1\n", "a", "x", "a: x   # c\nb: 1\n"),
    ("an empty value in a flow mapping", "a: {b: , c: 1}\n", "a/b", "x", "a: {b: x , c: 1}\n"),
    ("an explicit nothing", "a: ~\n", "a", "x", "a: x\n"),
    ("anchors and aliases elsewhere", "d: &d {x: 1}\ne:\n  <<: *d\n  y: 2\n", "e/y", "3", "d: &d {x: 1}\ne:\n  <<: *d\n  y: 3\n"),
    ("a missing key at the top", "a: 1\n", "b", "2", "a: 1\nb: 2\n"),
    ("a missing key before a comment", "a: 1 # c\n# the end\n", "b", "2", "a: 1 # c\nb: 2\n# the end\n"),
    ("a missing key without a last line break", "a: 1", "b", "2", "a: 1\nb: 2"),
    ("a missing key with carriage returns", "a:\r\n  x: 1\r\nb: 1\r\n", "a/y", "2", "a:\r\n  x: 1\r\n  y: 2\r\nb: 1\r\n"),
    ("a missing key behind a nested mapping", "a:\n  x:\n    y: 1\n\nb: 1\n", "a/z", "2", "a:\n  x:\n    y: 1\n  z: 2\n\nb: 1\n"),
    ("a missing key behind a sequence", "a:\n  x:\n  - 1\n  - {y: 2}\nb: 1\n", "a/z", "2", "a:\n  x:\n  - 1\n  - {y: 2}\n  z: 2\nb: 1\n"),
    ("a missing key inside a sequence's mapping", "a:\n  - x: 1\n  - x: 2\n", "a/0/y", "3", "a:\n  - x: 1\n    y: 3\n  - x: 2\n"),
    ("a missing key behind an alias", "a: &w 1\nb:\n  c: *w\nd: 1\n", "b/e", "2", "a: &w 1\nb:\n  c: *w\n  e: 2\nd: 1\n"),
    ("a missing key behind an empty value", "a:\n  b: # c\nd: 1\n", "a/e", "2", "a:\n  b: # c\n  e: 2\nd: 1\n"),
    ("a missing key behind a block of text", "a:\n  t: |\n    one\n    two\n\nb: 1\n", "a/u", "2", "a:\n  t: |\n    one\n    two\n  u: 2\n\nb: 1\n"),
    ("a missing key behind a block that keeps its blank lines", "a:\n  t: |+\n    one\n\nb: 1\n", "a/u", "2", "a:\n  t: |+\n    one\n\n  u: 2\nb: 1\n"),
    ("a missing key in a flow mapping", "a: {x: 1 } # c\n", "a/y", "2", "a: {x: 1, y: 2 } # c\n"),
    ("a missing key in an empty flow mapping", "a: {}\n", "a/y", "2", "a: {y: 2}\n"),
    ("a missing key in a flow mapping over several lines", "a: {\n  x: 1, # c\n}\n", "a/y", "2", "a: {\n  x: 1, y: 2, # c\n}\n"),
    ("a missing key in a flow mapping behind a list", "a: {x: [1, 2]}\n", "a/y", "2", "a: {x: [1, 2], y: 2}\n"),
    ("a missing key in a flow mapping behind a bare key", "a: {x}\n", "a/y", "2", "a: {x, y: 2}\n"),
    ("a missing key in a flow mapping behind an empty value", "a: {x: }\n", "a/y", "2", "a: {x: , y: 2 }\n"),
    ("a missing mapping", "a: 1\n", "b/c/d", "2", "a: 1\nb: {c: {d: 2}}\n"),
    ("a missing mapping in a flow mapping", "a: {x: 1}\n", "a/b/c", "2", "a: {x: 1, b: {c: 2}}\n"),
    ("a mapping without keys yet", "a: # c\nb: 1\n", "a/x", "2", "a: {x: 2} # c\nb: 1\n"),
    ("a missing key that overrides a merged one", "d: &d {w: 1}\ne:\n  <<: *d\n", "e/w", "3", "d: &d {w: 1}\ne:\n  <<: *d\n  w: 3\n"),
    ("a missing key that needs quotes", "a: 1\n", "on: x", "2", 'a: 1\n"on: x": 2\n'),
    ("a document start and end", "---\na: 1\n...\n", "b", "2", "---\na: 1\nb: 2\n...\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "path", "value", "after"), [c[1:] for c in EDITS], ids=[c[0] for c in EDITS])
def test_an_edit_changes_its_value_and_nothing_else(before: str, path: str, value: str, after: str) -> None:
    assert spliced(before, edit(path, value)) == after


def test_the_whole_of_a_decision_is_written_and_the_rest_survives() -> None:
    after = spliced(
        CAMPAIGN,
        edit("arms/ten-percent-sms/weight", "10%"),
        edit("arms/double-points/weight", "80%"),
        edit("experiment/control", "10%"),
        edit("experiment/expected_lift", "1.8pp"),
        edit("status", "paused"),
    )

    expected = CAMPAIGN.replace("weight: 40%      #", "weight: 10%      #").replace('"40%"', '"80%"')
    expected = expected.replace(
        "{control: 20%, looks: 4, horizon: 30 days}", "{control: 10%, looks: 4, horizon: 30 days, expected_lift: 1.8pp}"
    )
    assert after == expected.replace('"active"', '"paused"')


def test_a_value_that_stands_there_already_changes_nothing() -> None:
    for path, value in [
        ("status", "active"),
        ("owner", "crm"),
        ("arms/double-points/weight", "40%"),
        ("experiment/looks", "4"),
    ]:
        assert spliced(CAMPAIGN, edit(path, value)) == CAMPAIGN
    assert spliced("a: &w x\nb: *w\n", edit("b", "x")) == "a: &w x\nb: *w\n"


REFUSALS = [
    ("a collection", "a: {b: 1}\n", "a", "x", "collection"),
    ("a shared anchor", "a: &w 1\nb: *w\n", "a", "2", "anchor &w"),
    ("a path through an alias", "a: &w {x: 1}\nb: *w\n", "b/x", "2", "alias of line 1"),
    ("a value inside what an alias names", "a: &w {x: 1}\nb: *w\n", "a/x", "2", "elsewhere"),
    ("a block of text", "a: |\n  x\n", "a", "y", "block of text"),
    ("a doubled key", "a: 1\na: 2\n", "a", "3", "2 times"),
    ("a missing list item", "a: [1]\n", "a/1", "2", "1 items"),
    ("a list item without a number", "a: [1]\n", "a/x", "2", "none numbered x"),
    ("keys below a single value", "a: 1\n", "a/b", "2", "keys were expected"),
    ("keys below an explicit nothing", "a: ~\n", "a/b", "2", "keys were expected"),
    ("an empty value with an anchor", "a: &w\nb: 1\n", "a", "2", "empty"),
    ("an empty item", "a:\n  -\n  - 1\n", "a/0", "2", "no colon"),
    ("nothing for nothing", "a:\nb: 1\n", "a", "", "empty"),
    ("a mapping whose first key is not on a line of its own", "a: &w\n  ? x\n  : 1\n", "a/y", "2", "line of its own"),
    ("no mapping at all", "- a\n", "0", "b", "not a mapping"),
    ("an empty file", "", "a", "b", "not a mapping"),
    ("two documents", "a: 1\n---\nb: 1\n", "a", "2", "not one YAML document"),
    ("broken YAML", "a: [1\n", "a", "2", "line"),
    ("an alias inside what it names", "a: &w [*w ]\nb: 1\n", "b", "2", "inside what it names"),
    ("no key", "a: 1\n", "", "2", None),
]  # fmt: skip


@pytest.mark.parametrize(("before", "path", "value", "says"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_an_edit_that_is_not_safe_is_refused_with_the_reason(
    before: str, path: str, value: str, says: str | None
) -> None:
    asked = edit(path, value) if says else Edit((), value)
    with pytest.raises(WriteBackError, match=says or "no key"):
        spliced(before, asked)


def test_a_refusal_names_the_path_and_is_a_campaign_error() -> None:
    with pytest.raises(CampaignError, match=r"arms\.a: 2: .*collection"):
        spliced("arms: {a: {}}\n", edit("arms/a", "2"))


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(WriteBackError, match="UTF-8"):
        splice("a: é\n".encode("latin-1"), [edit("a", "x")])


def test_a_file_of_aliases_of_aliases_is_refused_before_it_fills_memory() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1} '] * 9)}]" for n in range(1, 9)]
    with pytest.raises(WriteBackError, match="50,000"):
        spliced("\n".join(lines) + "\nb: 1\n", edit("b", "2"))


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(WriteBackError, match="1,000,000"):
        spliced("a: 1\n" + "#" * 1_000_001, edit("a", "2"))


# --- any campaign-like file, any edit -------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
plain_words = st.sampled_from(
    ["40%", "active", "10 EUR", "true", "null", "0.5", "é中🎁", "it's", 'say "x"', "a, b", "x # y", "- z", ""]
)
comments = st.sampled_from(["", "", " # note", "   # 备注 🎁"])
keys = st.lists(st.sampled_from(["a", "b", "weight", "权重", "x y", "status"]), min_size=1, max_size=4, unique=True)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@st.composite
def flow_values(draw: st.DrawFn, depth: int) -> str:
    if depth == 0 or draw(st.booleans()):
        return _quoted(draw(plain_words))
    return "{" + ", ".join(f"{key}: {draw(flow_values(depth - 1))}" for key in draw(keys)) + "}"


@st.composite
def block_lines(draw: st.DrawFn, depth: int, indent: int) -> list[str]:
    lines: list[str] = []
    for key in draw(keys):
        if draw(st.booleans()):
            lines.append(" " * indent + "# a line of its own")
        if depth and draw(st.booleans()):
            lines += [
                f"{' ' * indent}{key}:{draw(comments)}",
                *draw(block_lines(depth - 1, indent + draw(st.sampled_from([1, 2, 4])))),
            ]
        else:
            lines.append(f"{' ' * indent}{key}: {draw(flow_values(1))}{draw(comments)}")
    return lines


@st.composite
def files(draw: st.DrawFn) -> str:
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    text = ending.join(draw(block_lines(2, 0)))
    return draw(st.sampled_from(["", "\ufeff"])) + text + (ending if draw(st.booleans()) else "")


def _paths(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in _paths(inner, (*path, key))]
    return [path]


def _set(value: object, path: Sequence[str], new: str) -> None:
    for key in path[:-1]:
        assert isinstance(value, dict)
        value = value[key]
    assert isinstance(value, dict)
    value[path[-1]] = new


@given(files(), st.data(), texts | plain_words)
@settings(max_examples=150, deadline=None)
def test_any_value_of_any_file_can_be_set_and_set_back_to_the_byte(text: str, data: st.DataObject, new: str) -> None:
    before = text.encode()
    content = read(text.removeprefix("\ufeff"))
    path = data.draw(st.sampled_from(_paths(content)))

    after = splice(before, [Edit(path, new)])

    old = content
    for key in path:
        old = old[key]  # type: ignore[index]  # a path into nested dicts
    _set(content, path, new)
    assert read(after.decode().removeprefix("\ufeff")) == content
    back = splice(after, [Edit(path, str(old))])
    if new.isprintable() and not set(new) & set("\x85\u2028\u2029\ufeff"):
        assert back == before
    else:  # a value that needed stronger quotes keeps them
        assert read(back.decode().removeprefix("\ufeff")) == read(text.removeprefix("\ufeff"))


@given(files(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_key_can_be_added_to_any_mapping_and_only_adds(text: str, data: st.DataObject) -> None:
    content = read(text.removeprefix("\ufeff"))
    path = (*data.draw(st.sampled_from(_paths(content)))[:-1], "expected_lift")

    after = splice(text.encode(), [Edit(path, "1.8pp")]).decode()

    _set(content, path, "1.8pp")
    assert read(after.removeprefix("\ufeff")) == content
    position = after.index("expected_lift")
    assert any(
        after[:start] + after[end:] == text
        for start in range(max(position - 40, 0), position + 1)
        for end in range(position, min(position + 25, len(after)) + 1)
    )


@given(texts)
@example("\x85")
@example("\ufeff")
@example("a\tb")
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_written_and_is_read_back(new: str) -> None:
    for text in ("a: 'x'\n", 'a: "x"\n', "a: x\n", "{a: x}\n"):
        assert read(spliced(text, edit("a", new))) == {"a": new}
