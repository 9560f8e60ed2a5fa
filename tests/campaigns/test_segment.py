"""The segment language reads what is listed, refuses everything else, and names the column."""

from __future__ import annotations

import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.features import Kind, closed_values
from campaigns.segment import (
    And,
    Arithmetic,
    Between,
    Compare,
    Expression,
    InSet,
    IsMissing,
    Literal,
    Name,
    Not,
    Or,
    SegmentError,
    names,
    parse_segment,
    walk,
)

KNOWN: dict[str, Kind] = {
    "recency_days": "number",
    "orders": "number",
    "spend": "number",
    "country": "text",
    "value_tier": "text",
    "open_complaint": "boolean",
    "vip": "boolean",
    "created_at": "instant",
    "seen_at": "instant",
    "größe": "number",
}
RECENCY = Name("recency_days", "number")
ORDERS = Name("orders", "number")
COUNTRY = Name("country", "text")
VIP = Name("vip", "boolean")
CREATED = Name("created_at", "instant")


def number(value: float) -> Literal:
    return Literal(value, "number")


def parse(text: str, **segments: Expression) -> Expression:
    return parse_segment(text, known=KNOWN, segments=segments, values=closed_values())


def refusal(text: str, **segments: Expression) -> SegmentError:
    with pytest.raises(SegmentError) as caught:
        parse(text, **segments)
    return caught.value


def parse_or_column(text: str) -> Expression | int:
    try:
        return parse(text, lapsing=VIP)
    except SegmentError as error:
        return error.column


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("recency_days >= 90", Compare(">=", RECENCY, number(90))),
        ("90 <= recency_days", Compare("<=", number(90), RECENCY)),
        ("orders == 2 and not vip", And((Compare("==", ORDERS, number(2)), Not(VIP)))),
        ("vip or orders != 2", Or((VIP, Compare("!=", ORDERS, number(2))))),
        ("30 <= recency_days < 60", Between(number(30), "<=", RECENCY, "<", number(60))),
        ("60 > recency_days >= 30", Between(number(30), "<=", RECENCY, "<", number(60))),
        (
            "1 < orders != 3",
            And((Compare("<", number(1), ORDERS), Compare("!=", ORDERS, number(3)))),
        ),
        (
            "1 < orders < spend < 9",
            And(
                (
                    Compare("<", number(1), ORDERS),
                    Compare("<", ORDERS, Name("spend", "number")),
                    Compare("<", Name("spend", "number"), number(9)),
                )
            ),
        ),
        ("country in ('GB', 'IE')", InSet(COUNTRY, ("GB", "IE"))),
        ("country not in ['US']", InSet(COUNTRY, ("US",), negated=True)),
        ("orders in (1, -2)", InSet(ORDERS, (1, -2))),
        ("country is None", IsMissing(COUNTRY)),
        ("country is not None", IsMissing(COUNTRY, negated=True)),
        ("vip == True", Compare("==", VIP, Literal(True, "boolean"))),
        ("True", Literal(True, "boolean")),
        (
            "spend / orders > 2 * 10",
            Compare(
                ">",
                Arithmetic("/", Name("spend", "number"), ORDERS),
                Arithmetic("*", number(2), number(10)),
            ),
        ),
        ("orders > -1.5", Compare(">", ORDERS, number(-1.5))),
        ("-orders < 1", Compare("<", Arithmetic("-", number(0), ORDERS), number(1))),
        ("größe > 1", Compare(">", Name("größe", "number"), number(1))),
        (
            "created_at >= '2026-03-01'",
            Compare(">=", CREATED, Literal(datetime(2026, 3, 1, tzinfo=UTC), "instant")),
        ),
        (
            "'2026-03-01T09:00+02:00' < created_at",
            Compare("<", Literal(datetime(2026, 3, 1, 7, tzinfo=UTC), "instant"), CREATED),
        ),
        ("created_at < seen_at", Compare("<", CREATED, Name("seen_at", "instant"))),
        ("  recency_days >= 90\n  and\tvip  ", And((Compare(">=", RECENCY, number(90)), VIP))),
        ("country == '# and = AND'", Compare("==", COUNTRY, Literal("# and = AND", "text"))),
    ],
)
def test_what_is_listed_parses_to_our_own_tree(text: str, tree: Expression) -> None:
    assert parse(text) == tree


def test_a_named_segment_stands_for_its_condition() -> None:
    lapsing = parse("recency_days >= 90")
    assert parse("lapsing and vip", lapsing=lapsing) == And((lapsing, VIP))


def test_the_names_of_an_expression_include_those_of_its_segments() -> None:
    lapsing = parse("recency_days >= 90 and country in ('GB',)")
    text = "lapsing and spend / orders > 1 and 1 < orders < 5 or created_at is None and not vip"
    assert names(parse(text, lapsing=lapsing)) == {
        "recency_days", "country", "spend", "orders", "created_at", "vip",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("recency_day >= 90", 1, 'unknown feature "recency_day" (did you mean "recency_days"?)'),
        ("vip and true", 9, 'unknown feature "true" (did you mean "True"?)'),
        ("country == '中文' and orderz > 2", 21, 'unknown feature "orderz" (did you mean "orders"?)'),
        ("größe > 1 and xyzzy", 15, 'unknown feature "xyzzy"'),
        ("  orders", 3, "orders is a number, not a condition; compare it, for example orders >= 1"),
        ("country", 1, "country is a text, not a condition; compare it, for example country == '...'"),
        ("created_at", 1, "created_at is an instant, not a condition; compare it, for example created_at == '...'"),
        ("orders = 2", 8, '"=" is not part of the segment language (did you mean "=="?)'),
        ("vip AND vip", 5, '"AND" is not part of the segment language (did you mean "and"?)'),
        ("vip && vip", 5, '"&&" is not part of the segment language (did you mean "and"?)'),
        ("orders <> 2", 8, '"<>" is not part of the segment language (did you mean "!="?)'),
        ("!vip", 1, '"!" is not part of the segment language (did you mean "not"?)'),
        ("country is null", 12, '"null" is not part of the segment language (did you mean "None"?)'),
        ("orders > 2 # quiet", 12, "'#' is not part of the segment language"),
        ("orders > 2 \\", 12, "'\\\\' is not part of the segment language"),
        ("country == 'G\\x42'", 14, "a backslash in a text is not part of the segment language"),
        ("vip and country == 'GB", 20, "a text that begins with ' is not closed"),
        ("country in ('GB' 'IE')", 18, "two texts stand side by side; put a comma or an operator between them"),
        ("country == '''GB'''", 14, "two texts stand side by side"),
        ("country == u'GB'", 13, "a letter stands before the quote; put a space or an operator between them"),
        ("country == None", 12, "None is compared with is None or is not None only"),
        ("spend / orders in (2, 'a')", 23, "'a' is a text but spend / orders is a number"),
        ("'2026-03-01' == created_at == 3", 31, "created_at is an instant but 3 is a number; compare like with like"),
        ("spend / orders == 'GB'", 19, "spend / orders is a number but 'GB' is a text; compare like with like"),
        ("orders == '2026-03-01' < created_at", 11, "orders is a number but '2026-03-01' is a text"),
        ("country is 'GB'", 12, 'is asks for a missing value only: is None or is not None (did you mean "=="?)'),
        ("1 is None", 1, "1 is a constant and never missing"),
        ("orders > 'GB'", 10, "orders is a number but 'GB' is a text; compare like with like"),
        ("country > 'GB'", 11, "a text has no order: use == or != instead of >"),
        ("vip < True", 7, "a boolean has no order: use == or != instead of <"),
        ("1 < 2", 5, "1 < 2 compares two constants; one side must be a feature"),
        ("value_tier == 'gould'", 15, "value_tier is never 'gould'; it is one of gold, silver, member"),
        ("value_tier in ('gold', 'silvr')", 24, "value_tier is never 'silvr'; it is one of gold, silver, member"),
        ("country in 'GB'", 12, "in wants a list of constants, such as ('GB', 'IE'); one alone is ('GB',)"),
        ("country in ()", 12, "the list holds 0 constants; 1 to 500 are possible"),
        ("country in ('GB', 3)", 19, "3 is a number but country is a text"),
        ("orders in (1, spend)", 15, "the list holds constants only"),
        ("vip in (True,)", 1, "vip cannot be looked up in a list; use a feature that is a text or a number"),
        ("'GB' in ('GB',)", 1, "'GB' cannot be looked up in a list"),
        ("1 < orders in (1, 2)", 5, "in and is cannot be chained; join two conditions with and"),
        ("orders in (1, 2) < 3", 1, "in and is cannot be chained; join two conditions with and"),
        ("country + 1 > 2", 1, "country is a text; only numbers can be added, subtracted, multiplied or divided"),
        ("(orders > 1) > 2", 2, "a condition stands where a value is wanted"),
        ("created_at > 'soon'", 14, "'soon' is not a date; write '2026-03-01' or '2026-03-01T09:00+01:00'"),
        ("orders > 1e999", 10, "this number is too big; at most 1e15 is read"),
        ("orders > 1j", 10, "this constant is not part of the segment language"),
        ("orders >", 9, "cannot be read here"),
        ("orders > 2)", 11, "cannot be read here"),
        ("vip) or (vip", 4, "cannot be read here"),
        ("", 1, "is empty; write a condition such as recency_days >= 90, or True for everybody"),
        (" \n ", 1, "is empty"),
        ("orders > 1 and " + "x" * 4000, 4001, "is 4015 characters long; at most 4000 are read"),
    ],
)
def test_a_mistake_is_named_with_its_column(text: str, column: int, message: str) -> None:
    error = refusal(text)
    assert (error.column, error.text[: len(message)]) == (column, message)
    assert str(error) == f"column {column}: {error.text}"


def test_an_unknown_name_may_be_a_misspelt_segment() -> None:
    error = refusal("vip and lapsin", lapsing=VIP)
    assert error.text == 'unknown feature or segment "lapsin" (did you mean "lapsing"?)'


def test_a_segment_is_no_value() -> None:
    assert refusal("lapsing > 3", lapsing=VIP).text == '"lapsing" is a segment: a condition, not a value'


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')",
        "orders.__class__",
        "orders[0] > 1",
        "(lambda: 1)() > 2",
        "[x for x in (1, 2)] == 1",
        "{1: 2} == orders",
        "f'{orders}' == 'a'",
        "(orders := 3) > 2",
        "orders ** 9 > 1",
        "orders % 2 == 1",
        "orders // 2 == 1",
        "orders & 1 == 1",
        "~orders > 1",
        "+orders > 1",
        "orders if vip else spend",
        "b'x' == country",
        "... == country",
        "*orders",
        "orders; vip",
        "vip\0",
        "await vip",
        "yield vip",
        "(1, 2) == orders",
        "orders == ''",
        "not",
        "9" * 3000 + " > orders",
        "orders > 0777",
        "orders > 1_000_000_000_000_000_0",
    ],
)
def test_what_is_not_listed_is_refused(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "not " * 31 + "vip",
        "(" * 31 + "vip" + ")" * 31,
        "orders" + " + orders" * 31 + " > 1",
        "-" * 40 + "orders > 1",
        "not " * 990 + "vip",
        "(" * 1900 + "vip" + ")" * 1900,
        "-" * 3900 + "1 < orders",
    ],
)
def test_deep_nesting_is_refused(text: str) -> None:
    assert "deep" in refusal(text).message


def test_an_expression_that_grows_through_its_segments_is_refused() -> None:
    wide = parse(" or ".join(["vip"] * 400))
    assert "more than 2000 parts" in refusal(" or ".join(["wide"] * 6), wide=wide).message


def test_a_long_list_is_refused() -> None:
    assert "501 constants" in refusal(f"orders in ({', '.join(['1'] * 501)})").message


def test_python_s_own_warnings_stay_silent(recwarn: pytest.WarningsRecorder) -> None:
    refusal("1 is 1")
    parse("orders > 1or vip")
    assert not recwarn.list


@given(st.text(alphabet=string.printable + "中é\u2028", max_size=60))
def test_any_text_either_parses_to_listed_parts_or_is_refused_within_its_columns(text: str) -> None:
    tree = parse_or_column(text)
    if isinstance(tree, int):
        assert 1 <= tree <= len(text) + 1
    else:
        assert names(tree) <= set(KNOWN)
        assert all(type(node).__module__ == "campaigns.segment_tree" for node in walk(tree))


WORDS = st.sampled_from(
    [
        *("orders", "spend", "vip", "country", "created_at", "lapsing", "'GB'", "3", "1.5", "None", "True"),
        *("and", "or", "not", "in", "is", "==", "<", ">=", "+", "-", "/", "(", ")", ","),
    ]
)


@given(st.lists(WORDS, max_size=14).map(" ".join))
def test_any_sequence_of_words_either_parses_or_is_refused(text: str) -> None:
    tree = parse_or_column(text)
    if isinstance(tree, int):
        assert 1 <= tree <= len(text) + 1
    else:
        assert parse(f"({text})", lapsing=VIP) == tree
