"""The book is read whole: everything that is wrong with the files is said at once, each at its place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import yaml_source
from campaigns.book import Book, load_book, load_campaign
from campaigns.errors import CampaignError
from campaigns.problems import BookErrors, Problem, in_order
from campaigns.segment import And, Compare, Literal, Name, SegmentError, parse_segment
from campaigns.yaml_source import MAX_BYTES, Place, parse_yaml, read_yaml

Make = Callable[..., Path]


def problems(root: Path, load: Callable[[Path], object] = load_book) -> list[str]:
    with pytest.raises(BookErrors) as caught:
        load(root)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem).removeprefix("campaigns/book/") for problem in caught.value.problems]


def test_a_book_holds_campaigns_offers_and_segments(workspace: Make, smallest: str) -> None:
    text = smallest.replace("recency_days >= 90", "lapsing")
    book = load_book(workspace({"b.yaml": text, "a.yaml": smallest.replace("winback-90d", "another")}))
    assert list(book.campaigns) == ["another", "winback-90d"]
    assert list(book.offers) == ["ten-percent"]
    assert book.segment_texts == {"lapsing": "recency_days >= 90 and orders >= 2"}
    file = book.campaigns["winback-90d"]
    assert file.segment == book.segments["lapsing"]
    assert file.segment_text == "recency_days >= 90 and orders >= 2"
    assert file.text_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert list(file.offers) == ["ten-percent"]
    assert file.path.name == "b.yaml"


def test_an_expression_may_use_named_segments_and_attributes(workspace: Make, smallest: str) -> None:
    root = workspace(
        {
            "a.yaml": smallest.replace("recency_days >= 90", '"best and vip"'),
            "segments.yaml": "best: {where: gold and orders > 1}\ngold: {where: value_tier == 'gold'}\n",
        }
    )
    file = load_campaign(root, "winback-90d", attributes={"vip": "boolean"})
    gold = Compare("==", Name("value_tier", "text"), Literal("gold", "text"))
    best = And((gold, Compare(">", Name("orders", "number"), Literal(1, "number"))))
    assert file.segment == And((best, Name("vip", "boolean")))
    assert file.segment_text == "best and vip"


def test_a_workspace_needs_neither_offers_nor_segments(tmp_path: Path, smallest: str) -> None:
    (tmp_path / "campaigns" / "book").mkdir(parents=True)
    (tmp_path / "campaigns" / "book" / "a.yaml").write_text(smallest.replace("    offer: ten-percent\n", ""))
    book = load_book(tmp_path)
    assert (len(book.campaigns), book.offers, book.segments) == (1, {}, {})


def test_an_empty_book_is_no_error(workspace: Make) -> None:
    assert load_book(workspace({})).campaigns == {}


def test_a_missing_book_says_how_to_get_one(tmp_path: Path) -> None:
    assert problems(tmp_path) == ["campaigns/book:1:1: no such folder; `retain init` makes a workspace with one"]


BAD = """\
campaign: winback-90d
statsu: active
audience:
  segment: recency_day >= 90
experiment:
  control: 20%
  horizon: 30 days
  primary: repurchse
  minimum_effect: 1.5pp
arms:
  ten-percent:
    weight: 40%
    offer: ten-percnt
    steps:
      - {channel: sms, template: winback}
      - {channel: sms, templte: winback_again}
  double-points:
    weigth: 40%
    steps:
      - {channel: email, template: winback, unless: clicked}
owner: crm
owner: sales
"""


def test_every_problem_of_every_file_is_named_with_line_and_column_in_one_pass(workspace: Make, smallest: str) -> None:
    root = workspace(
        {
            "winback.yaml": BAD,
            "twin.yaml": smallest,
            "other.yml": smallest,
            "offers.yaml": "ten-percent: {kind: percent_off, text: t, percnt: 10%, cost: {redeemed: 8%, value: 5 EUR}}\n",
            "segments.yaml": "lapsing: {where: orderz > 2}\n",
        }
    )
    assert problems(root) == [
        'offers.yaml:1:43: ten-percent.percnt: unknown key (did you mean "percent"?)',
        "other.yml:1:1: is not read; rename it to end in .yaml",
        'segments.yaml:1:18: lapsing.where: unknown feature "orderz" (did you mean "orders"?)',
        'winback.yaml:1:11: campaign: "winback-90d" is the campaign of twin.yaml already; names are unique',
        'winback.yaml:2:1: statsu: unknown key (did you mean "status"?)',
        'winback.yaml:4:12: audience.segment: unknown feature or segment "recency_day" (did you mean "recency_days"?)',
        'winback.yaml:8:12: experiment.primary: unknown metric "repurchse" (did you mean "repurchase"?); known: complained,'
        " margin, message_cost, orders, repurchase, retained, revenue, spend_per_order, time_to_repurchase, unsubscribed",
        'winback.yaml:13:12: arms.ten-percent.offer: unknown offer "ten-percnt" (did you mean "ten-percent"?);'
        " offers.yaml has ten-percent",
        'winback.yaml:16:24: arms.ten-percent.steps[1].templte: unknown key (did you mean "template"?)',
        'winback.yaml:18:5: arms.double-points.weigth: unknown key (did you mean "weight"?)',
        "winback.yaml:20:53: arms.double-points.steps[0].unless: nothing has been sent before the first message, so nobody"
        " can have clicked",
        "winback.yaml:22:1: owner: duplicate key (first on line 21); keep one of them",
    ]


def test_weights_that_do_not_sum_are_named_where_the_arms_stand(workspace: Make, smallest: str) -> None:
    root = workspace({"a.yaml": smallest.replace("80%", "70%")})
    assert problems(root) == ["a.yaml:8:1: arms: weights and control make 90%, not 100% (ten-percent 70%, control 20%)"]


def test_a_missing_key_is_named_where_its_parent_stands(workspace: Make, smallest: str) -> None:
    root = workspace({"a.yaml": smallest.replace("  horizon: 30 days\n", ""), "b.yaml": "{}\n"})
    found = problems(root)
    assert found[0] == 'a.yaml:3:1: experiment: the key "horizon" is missing'
    assert 'b.yaml:1:1: the key "campaign" is missing' in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml:1:1: the file is empty"),
        ("# nothing\n", "a.yaml:1:1: the file is empty"),
        ("- a\n", "a.yaml:1:1: expected a mapping of keys and values, got a list"),
        ("a: [1\n", "a.yaml:2:1: is not YAML: "),
        ("a:\n\t- b\n", "a.yaml:2:1: is not YAML: found character '\\t' that cannot start any token"),
        ("a: 'x\n", "a.yaml:2:1: is not YAML: found unexpected end of stream"),
        ("a: b: c\n", "a.yaml:1:5: is not YAML: mapping values are not allowed here"),
        ("a: *x\n", "a.yaml:1:4: is not YAML: found undefined alias 'x'"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1: is not YAML: but found another document"),
        ("a: \0\n", "a.yaml:1:1: is not YAML: unacceptable character #x0000"),
        ("%YAML 1.1\n---\na: yes\n", "remove the %YAML line; files are read as YAML 1.2"),
        (
            "a: !!python/object:os.system x\n",
            "a.yaml:1:4: the tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
        ("a: !mine {}\n", "a.yaml:1:4: the tag !mine is not allowed; write plain values"),
        ("a: !!int '3'\n", "a.yaml:1:4: the tag tag:yaml.org,2002:int is not allowed; write plain values"),
        ("a: " + "[" * 30 + "]" * 30 + "\n", "a.yaml:1:23: is nested more than 20 levels deep"),
        ("[" * 100_000, "is nested more than 20 levels deep"),
        ("a: &x 1\nb: [" + "*x, " * 101 + "]\n", "uses more than 100 aliases"),
        ("a: &x [*x]\n", "a.yaml:1:4: a[0]: an alias holds itself"),
        ("<<: {a: 1}\n", "a key must be a plain word (merge keys are not YAML 1.2)"),
        ("? [a]\n: b\n", "a key must be a plain word"),
        ("a: 1\n'a': 2\n", "a.yaml:2:1: a: duplicate key (first on line 1); keep one of them"),
        ("campaign:\n", "a.yaml:1:1: campaign: has no value; give it one or remove the key"),
        ("x" * (MAX_BYTES + 1), "a.yaml:1:1: the file is larger than 256 KiB; split it"),
        (b"a: 1\nb: \xff\n", "a.yaml:2:1: the file is not UTF-8; save it as UTF-8"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_at_its_place(workspace: Make, text: str | bytes, message: str) -> None:
    assert any(message in found for found in problems(workspace({"a.yaml": text})))


def test_a_billion_laughs_are_not_even_counted() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 9))
    source = parse_yaml("l0: &l0 [x]\n" + levels)
    assert [flaw.message for flaw in source.flaws] == ["holds more than 20000 values, aliases included"]


def test_an_alias_repeats_a_whole_value(workspace: Make, smallest: str) -> None:
    text = smallest.replace("steps:", "timing: &hours {if_late: skip}\n    steps:") + "timing: *hours\n"
    file = load_campaign(workspace({"a.yaml": text}), "winback-90d")
    assert file.campaign.timing.if_late == "skip"


def test_scalars_are_read_as_yaml_1_2_reads_them() -> None:
    source = parse_yaml(
        "a: off\nb: yes\nc: 20:30\nd: 2026-03-01\ne: 012\nf: 0o17\ng: 1e3\nh: .nan\ni: ~\nj: True\nk: 0x1F"
    )
    assert source.values == {
        "a": "off", "b": "yes", "c": "20:30", "d": "2026-03-01", "e": 12, "f": "0o17", "g": 1000.0, "h": ".nan",
        "i": None, "j": True, "k": "0x1F",
    }  # fmt: skip


def test_windows_line_ends_and_a_byte_order_mark_change_no_position(workspace: Make, smallest: str) -> None:
    text = "\ufeff" + smallest.replace("\n", "\r\n").replace("  primary: repurchase", "  primry: repurchase")
    assert problems(workspace({"a.yaml": text.encode()})) == [
        'a.yaml:6:3: experiment.primry: unknown key (did you mean "primary"?)'
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: one orderz\n", Place(1, 8)),
        ("a:   'it''s orderz'\n", Place(1, 13)),
        ('a: "one orderz"\n', Place(1, 9)),
        ("a: |\n  one\n  orderz\n", Place(3, 3)),
        ("a: >-\n\n  one\n   orderz\n", Place(4, 4)),
        ("a: one\n   two orderz\n", Place(2, 8)),
        ("a: '一 two\n   orderz'\n", Place(2, 4)),
        ('a: "\\x41 orderz"\n', Place(1, 4)),
    ],
)
def test_a_place_inside_a_text_is_found_however_it_is_written(text: str, place: Place) -> None:
    source = parse_yaml(text)
    assert source.place_in(("a",), source.values["a"].index("orderz")) == place


def test_the_place_after_the_end_of_a_text_is_its_last_character() -> None:
    assert parse_yaml("a: one").place_in(("a",), 3) == Place(1, 6)
    assert parse_yaml("a: ''").place_in(("a",), 0) == Place(1, 5)
    assert parse_yaml("a: [1]").place_in(("a",), 0) == Place(1, 4)


def test_the_place_of_what_is_not_there_is_the_nearest_above() -> None:
    source = parse_yaml("a:\n  b: [1]\n")
    assert source.place_of(("a", "b", 7, "c")) == Place(2, 6)
    assert source.place_of_key(("a", "x")) == Place(2, 3)
    assert parse_yaml("").place_of(("a",)) == Place(1, 1)


def test_a_problem_in_a_folded_segment_is_named_where_it_stands(workspace: Make, smallest: str) -> None:
    folded = "audience:\n  segment: >\n    recency_days >= 90\n    and orderz >= 2"
    text = smallest.replace("audience: {segment: recency_days >= 90}", folded)
    assert problems(workspace({"a.yaml": text}))[0].startswith(
        "a.yaml:5:9: audience.segment: unknown feature or segment"
    )


def test_a_segment_that_uses_itself_is_refused(workspace: Make) -> None:
    text = "a: {where: b or c}\nb: {where: open_complaint and a}\nc: {where: c}\nd: {where: a}\n"
    assert problems(workspace({"segments.yaml": text})) == [
        'segments.yaml:2:31: b.where: segment "b" uses itself by way of "a"',
        'segments.yaml:3:12: c.where: segment "c" uses itself by way of "c"',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Best: {where: orders > 1}\n", "segments.yaml:1:1: Best: expected lower-case letters, digits and _"),
        ("or: {where: orders > 1}\n", "segments.yaml:1:1: or: expected lower-case letters, digits and _"),
        ("orders: {where: spend > 1}\n", 'segments.yaml:1:1: orders: "orders" is a feature already'),
        ("a: {were: spend > 1}\n", 'segments.yaml:1:5: a.were: unknown key (did you mean "where"?)'),
        ("a: spend > 1\n", 'segments.yaml:1:4: a: expected a mapping of keys and values, got "spend > 1"'),
        ('a: {where: "country == \'GB"}\n', "segments.yaml:1:24: a.where: a text that begins with ' is not closed"),
        ("[]\n", "segments.yaml:1:1: expected a mapping of keys and values, got a list"),
    ],
)
def test_a_mistake_in_the_segments_is_named(workspace: Make, text: str, message: str) -> None:
    assert any(found.startswith(message) for found in problems(workspace({"segments.yaml": text})))


def test_a_segment_named_like_an_attribute_is_refused(workspace: Make) -> None:
    root = workspace({"segments.yaml": "vip: {where: orders > 9}\n"})
    found = problems(root, lambda path: load_book(path, attributes={"vip": "boolean"}))
    assert found == [
        'segments.yaml:1:1: vip: "vip" is a column of the customers already; give the segment another name'
    ]


def test_one_campaign_can_be_loaded_though_another_is_broken(workspace: Make, smallest: str) -> None:
    root = workspace({"a.yaml": smallest, "b.yaml": BAD.replace("winback-90d", "broken")})
    assert load_campaign(root, "winback-90d").campaign.name == "winback-90d"
    assert problems(root, lambda path: load_campaign(path, "broken"))


def test_an_unknown_campaign_is_refused_with_the_nearest_one(workspace: Make, smallest: str) -> None:
    root = workspace({"a.yaml": smallest, "b.yaml": "3"})
    with pytest.raises(CampaignError) as caught:
        load_campaign(root, "winback-30d")
    assert str(caught.value) == (
        'no campaign "winback-30d" in campaigns/book (did you mean "winback-90d"?); campaigns there: b, winback-90d'
    )


def test_a_campaign_in_two_files_is_refused_when_it_is_asked_for(workspace: Make, smallest: str) -> None:
    root = workspace({"a.yaml": smallest, "b.yaml": smallest, "c.yaml": smallest.replace("winback-90d", "c")})
    assert problems(root, lambda path: load_campaign(path, "winback-90d"))
    assert load_campaign(root, "c").path.name == "c.yaml"


def test_problems_are_ordered_by_place_and_named_once() -> None:
    first, second = Problem("a", 2, 1, "x", "m"), Problem("a", 10, 1, "", "m", "warning")
    assert in_order([second, first, second]) == (first, second)
    assert str(second) == "a:10:1: warning: m"


@given(st.binary(max_size=200))
def test_any_bytes_either_make_a_book_or_a_list_of_problems(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "campaigns" / "book").mkdir(parents=True)
    (root / "campaigns" / "book" / "a.yaml").write_bytes(data)
    source = read_yaml(root / "campaigns" / "book" / "a.yaml")
    assert source.values is not None or source.flaws
    with pytest.raises(BookErrors):
        load_book(root)


@given(st.text(alphabet="ab:{}[]&*!|>'\"#-,% \n\t?~<1", max_size=40))
def test_any_yaml_like_text_is_read_or_refused(text: str) -> None:
    source = parse_yaml(text)
    assert source.values is not None or source.flaws


def test_a_book_can_be_read_twice_alike(workspace: Make, smallest: str) -> None:
    root = workspace({"a.yaml": smallest})
    first, second = load_book(root), load_book(root)
    assert isinstance(first, Book)
    assert first.campaigns["winback-90d"] == second.campaigns["winback-90d"]


@pytest.mark.parametrize(
    ("name", "old", "new", "part"),
    [
        ("a.yaml", "30 days", "31 days", "campaign"),
        ("offers.yaml", "10% off", "15% off", "offers"),
        ("segments.yaml", "90", "80", "segment"),
    ],
)
def test_a_file_that_changed_between_two_readings_is_seen_even_at_the_same_size_and_time(
    workspace: Make, smallest: str, name: str, old: str, new: str, part: str
) -> None:
    root = workspace({"a.yaml": smallest.replace("recency_days >= 90", "lapsing")})
    before = load_campaign(root, "winback-90d")
    path = root / "campaigns" / "book" / name
    stat = path.stat()
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    after = load_campaign(root, "winback-90d")

    assert path.stat().st_size == stat.st_size
    assert [name for name in ("campaign", "offers", "segment") if getattr(after, name) != getattr(before, name)] == [
        part
    ]


def test_the_same_bytes_are_parsed_once(workspace: Make, smallest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = workspace({"a.yaml": smallest + "# parsed once\n"})
    parsed: list[str] = []
    monkeypatch.setattr(yaml_source, "parse_yaml", lambda text: parsed.append(text) or parse_yaml(text))
    for _ in range(3):
        load_campaign(root, "winback-90d")
    assert sum("# parsed once" in text for text in parsed) == 1


def test_a_segment_error_is_a_campaign_error() -> None:
    with pytest.raises(CampaignError):
        parse_segment("", known={})
    assert issubclass(SegmentError, CampaignError)


def test_campaigns_without_problems_can_be_used_beside_those_with(tmp_path: Path) -> None:
    from campaigns.book import load_usable

    folder = tmp_path / "campaigns" / "book"
    folder.mkdir(parents=True)
    text = (
        "campaign: {name}\naudience: {{segment: orders >= 2}}\nexperiment: {{control: 50%, horizon: 30 days, "
        "primary: repurchase, minimum_effect: 1pp}}\narms: {{a: {{weight: 50%, steps: [{{channel: sms, template: x}}]}}}}\n"
    )
    for name in ("good", "twice"):
        (folder / f"{name}.yaml").write_text(text.format(name=name), encoding="utf-8")
    (folder / "again.yaml").write_text(text.format(name="twice"), encoding="utf-8")
    (folder / "bad.yaml").write_text(text.format(name="bad").replace("orders", "oders"), encoding="utf-8")
    book, problems = load_usable(tmp_path)
    assert list(book.campaigns) == ["good"]
    assert {Path(problem.file).name for problem in problems} == {"bad.yaml", "twice.yaml"}
    (folder / "segments.yaml").write_text("lost: {where: oders >= 1}\n", encoding="utf-8")
    with pytest.raises(BookErrors, match="oders"):
        load_usable(tmp_path)
