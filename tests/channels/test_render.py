"""Rendering: what a template may say, in which language, and how its mistakes are reported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from channels.errors import ChannelError
from channels.message import Email, Push, Sms
from channels.render import Reference, Renderer, RenderError
from channels.variables import sample_context

Make = Callable[..., Renderer]
Say = Callable[..., str]

HOSTILE_NAME = 'Eve <b> & "Co" \\ \u202e\U0001f381 \u200fשלום'
CLEAN_NAME = 'Eve <b> & "Co" \\ \U0001f381 \u200fשלום'


# --- texts ----------------------------------------------------------------------------------------------------------


def test_an_sms_is_the_rendered_text_without_the_space_around_it(sms: Say) -> None:
    assert (
        sms(
            "  Hi {{ customer.first_name }},\r\n{{ offer.text }}\n\n",
            customer={"first_name": "Ann"},
            offer={"text": "10 % off"},
        )
        == "Hi Ann,\n10 % off"
    )


def test_text_channels_escape_nothing_and_keep_no_direction_override(sms: Say) -> None:
    assert sms("Hi {{ name }}", name=HOSTILE_NAME) == f"Hi {CLEAN_NAME}"


def test_html_escapes_every_value_and_nothing_of_the_template(templates: Make) -> None:
    renderer = templates(
        {
            "email/w.subject.j2": "For {{ name }}",
            "email/w.html.j2": "<p>Hi {{ name }} {{ 'a' ~ name }} {{ [name]|join('<') }}</p>",
        }
    )

    email = renderer.render("email", "w", {"name": "<b>&'\""})

    assert isinstance(email, Email)
    assert email.subject == "For <b>&'\""
    assert email.html == "<p>Hi &lt;b&gt;&amp;&#39;&#34; a&lt;b&gt;&amp;&#39;&#34; &lt;b&gt;&amp;&#39;&#34;</p>"


def test_macros_and_blocks_escape_once(templates: Make) -> None:
    renderer = templates(
        {
            "partials/m.j2": "{% macro hi(n) %}<i>{{ n }}</i>{% endmacro %}",
            "email/base.html.j2": "<html>{% block body %}{% endblock %}</html>",
            "email/w.subject.j2": "s",
            "email/w.html.j2": "{% extends 'email/base.html.j2' %}{% from 'partials/m.j2' import hi %}{% block body %}{{ hi(name) ~ '<' }}{% set x %}{{ name }}{% endset %}{{ x }}{% endblock %}",
        }
    )

    email = renderer.render("email", "w", {"name": "<"})

    assert isinstance(email, Email)
    assert email.html == "<html><i>&lt;</i>&lt;&lt;</html>"


def test_push_values_are_escaped_for_json(templates: Make) -> None:
    renderer = templates(
        {
            "partials/m.j2": "{% macro hi(n) %}Hi {{ n }}{% endmacro %}",
            "push/p.json.j2": "{% from 'partials/m.j2' import hi %}"
            '{"title": "{{ hi(name) }}", "body": "{{ name|e }}\\n{{ 1 + 1 }}", "data": {"raw": {{ name|tojson }}, "a": "{{ \'<\' ~ name }}"}}',
        }
    )

    push = renderer.render("push", "p", {"name": HOSTILE_NAME + "\n"})

    assert isinstance(push, Push)
    assert push.title == f"Hi {CLEAN_NAME}"
    assert push.body == f"{CLEAN_NAME}\n\n2"
    assert push.data == {"a": f"<{CLEAN_NAME}\n", "raw": f"{CLEAN_NAME}\n"}


def test_the_text_part_comes_from_the_html_or_from_its_own_template(templates: Make) -> None:
    html = "<html><head><style>p {}</style></head><body><h1>Hi</h1><table><tr><td><b>Bold</b> 你好</td></tr></table><img src='x.png'><a href='https://a.example/u/1?x=1&amp;y=2'>Stop</a></body></html>"
    files = {"email/w.subject.j2": "s", "email/w.html.j2": html}

    email = templates(files).render("email", "w", {})
    assert isinstance(email, Email)
    assert email.text == "Hi\n\nBold 你好\n\nStop <https://a.example/u/1?x=1&y=2>"

    email = templates({**files, "email/w.text.j2": "Own text {{ x }}\n"}).render("email", "w", {"x": "<"})
    assert isinstance(email, Email)
    assert email.text == "Own text <"


@pytest.mark.parametrize("name", ["Eve\r\nBcc: all@example.com", "Eve\nx", "Eve\u2028x", "Eve\x85x"])
def test_a_line_break_in_a_subject_is_refused(templates: Make, name: str) -> None:
    renderer = templates({"email/w.subject.j2": "Hi {{ name }}!", "email/w.html.j2": "<p>x</p>"})

    with pytest.raises(RenderError, match=r"email/w\.subject\.j2: a line break in the subject") as caught:
        renderer.render("email", "w", {"name": name})
    assert "Eve" not in str(caught.value)


def test_dates_numbers_and_nested_values_print_as_they_are(sms: Say) -> None:
    text = "{{ on }} {{ on.year }} {{ at.hour }} {{ amount }} {{ n + 1 }} {{ '%.2f'|format(x) }} {{ tags|join(', ') }} {{ tags[0] }} {{ deep.a[1].b }}"
    context = {
        "on": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "amount": Decimal("10.50"),
        "n": 1,
        "x": 2.5,
        "tags": ("a", "b"),
        "deep": {"a": [0, {"b": "c"}]},
    }

    assert sms(text, **context) == "2026-01-02 2026 3 10.50 2 2.50 a, b a c"


def test_what_templates_usually_do_works(sms: Say) -> None:
    text = """\
{%- set greeting = namespace(word="Hi") -%}
{% for item in items|sort(attribute="price")|map(attribute="name") %}
{{ loop.index }}.{{ item|title }}{{ ";" if not loop.last }}
{% endfor %}
{% if customer.tier in ("gold", "silver") and customer.orders is defined %}{% set greeting.word = "Welcome" %}{% endif %}
{{ greeting.word }} {{ customer.nick|default("you") }} {{ customer.none|d("none") }} {{ customer.empty or "empty" }} {{ customer.tier.upper()[0] }}
{{ items|sum(attribute="price") }} {{ (2 ** 3 * 2 - 1) % 4 }} {{ "ab" * 2 }} {{ items|length }} {{ "a-b"|replace("-", "+") }}
{{ "x"|center(3) }}| {{ "a\nb"|indent(2) }} {{ 2.345|round(2) }} {{ range(3)|list|join }} {{ customer.items()|list|length }} {{ customer.get("tier") }}
{{ {"a": 1}.a }} {{ [1, 2]|last }} {{ "A,B".split(",")|first|lower }} {{ none is none }} {{ customer["tier"] }} {{ "long text here"|truncate(8, true, "…") }}
"""
    context = {
        "items": [{"name": "tea", "price": 3}, {"name": "cup", "price": 2}],
        "customer": {"tier": "gold", "orders": 3, "none": None, "empty": ""},
    }

    assert sms(text, **context).split("\n") == [
        "1.Cup;",
        "2.Tea",
        "Welcome you none empty G",
        "5 3 abab 2 a+b",
        " x | a",
        "  b 2.35 012 4 gold",
        "1 2 a True gold long te…",
    ]


def test_a_field_of_a_customer_may_be_called_like_a_method(sms: Say) -> None:
    assert sms("{{ customer.items }}", customer={"items": "3 cups"}) == "3 cups"


def test_recursive_loops_calls_and_filter_blocks_work(sms: Say) -> None:
    text = (
        "{% for n in tree recursive %}{{ n.name }}{% if n.below %}({{ loop(n.below) }}){% endif %}{% endfor %} "
        "{% macro box() %}[{{ caller() }}]{% endmacro %}{% call box() %}x{% endcall %} {% filter upper %}up{% endfilter %} "
        "{% with y = 2 %}{{ y }}{% endwith %} {% for x in [] %}{% else %}none{% endfor %}"
    )

    assert sms(text, tree=[{"name": "a", "below": [{"name": "b", "below": []}]}]) == "a(b) [x] UP 2 none"


# --- languages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def languages(templates: Make) -> Renderer:
    return templates(
        {
            "sms/hi.txt.j2": "Hi",
            "sms/hi.zh.txt.j2": "你好",
            "sms/hi.zh-Hant.txt.j2": "您好",
            "sms/hi.pt-BR.txt.j2": "Oi",
        }
    )


@pytest.mark.parametrize(
    ("locale", "says"),
    [
        (None, "Hi"),
        ("", "Hi"),
        ("en-GB", "Hi"),
        ("zh", "你好"),
        ("zh-CN", "你好"),
        ("ZH_cn", "你好"),
        ("zh-Hant-TW", "您好"),
        ("pt", "Hi"),
        ("pt_br", "Oi"),
    ],
)
def test_the_most_specific_language_is_used(languages: Renderer, locale: str | None, says: str) -> None:
    assert languages.render("sms", "hi", {}, locale=locale) == Sms(says)


def test_languages_and_names_are_listed(languages: Renderer) -> None:
    assert languages.locales("sms", "hi") == (None, "pt-BR", "zh", "zh-Hant")
    assert languages.locales("sms", "none") == ()
    assert languages.exists("sms", "hi")
    assert not languages.exists("email", "hi")
    assert languages.names("sms") == ("hi",)


def test_every_part_of_an_email_is_in_the_same_language(templates: Make) -> None:
    renderer = templates(
        {"email/w.subject.j2": "Hi", "email/w.html.j2": "<p>Hi</p>", "email/w.zh.html.j2": "<p>你好</p>"}
    )

    with pytest.raises(
        RenderError, match=r"email/w\.zh\.subject\.j2: no such template; email/w\.zh\.html\.j2 needs it"
    ):
        renderer.render("email", "w", {}, locale="zh")


def test_a_template_without_a_default_language_says_so(templates: Make) -> None:
    with pytest.raises(RenderError, match=r"sms/hi\.txt\.j2: no such template; it exists in zh only"):
        templates({"sms/hi.zh.txt.j2": "你好"}).render("sms", "hi", {}, locale="en")


def test_the_first_folder_that_has_a_template_wins(templates: Make, tmp_path: Path) -> None:
    templates({"sms/hi.txt.j2": "theirs", "sms/only.txt.j2": "only"})
    own = tmp_path / "own"
    (own / "sms").mkdir(parents=True)
    (own / "sms" / "hi.txt.j2").write_text("ours")
    renderer = Renderer([own, tmp_path / "templates"])

    assert renderer.render("sms", "hi", {}) == Sms("ours")
    assert renderer.render("sms", "only", {}) == Sms("only")


# --- mistakes -------------------------------------------------------------------------------------------------------

MISTAKES = [
    ("{{ custmer.name }}", 1, "'custmer' is undefined"),
    ("a\n{{ customer.frist_name }}", 2, "unknown field 'frist_name' (did you mean 'first_name'?)"),
    ("a\n{{ customer['zzz'] }}", 2, "unknown field 'zzz'"),
    ("a\n\n{{ customer.missing }}", 3, "a value is missing here"),
    ("{{ 'x' ~ customer.missing }}", 1, "a value is missing here"),
    ("{% if nope %}{% endif %}", 1, "'nope' is undefined"),
    ("{{ customer }}", 1, "a dict cannot be printed"),
    ("{{ customer.items }}", 1, "cannot be printed"),
    ("{{ [1]|upper }}", 1, "a list is no text"),
    ("a\n{% for x in y %}", 2, "Unexpected end of template"),
    ("{{ x|nope }}", 1, "No filter named 'nope'"),
    ("{{ x|safe }}", 1, "No filter named 'safe'"),
    ("{% autoescape false %}{% endautoescape %}", 1, "escaping cannot be switched"),
    ("{{ 'abc'[:2] }}", 1, "slices are not available"),
    ("{{ 'abc'[9] }}", 1, "no element"),
    ("{{ '%s' % 1 }}", 1, "cannot stand before %"),
    ("{{ '%(a)s'|format(1) }}", 1, "format knows"),
    ("{{ 'a'|sum }}", 1, "sum adds numbers"),
    ("{{ 1 + 'a' }}", 1, "unsupported operand"),
    ("{{ 1 / 0 }}", 1, "ZeroDivisionError while rendering"),
    ("{{ customer.pop('a') }}", 1, "unsafe"),
    ("{{ 'a'.format(1) }}", 1, "unsafe"),
    ("{{ ''.__class__ }}", 1, "unsafe"),
    ("{{ ''['__class__'] }}", 1, "unsafe"),
    ("{{ customer.__class__.__mro__ }}", 1, "unsafe"),
    ("{{ range.__globals__ }}", 1, "unsafe"),
    ("{{ cycler }}", 1, "undefined"),
    ("{{ customer.tier() }}", 1, "not safely callable|not callable"),
    ("{{ [[1]] }}", 1, "lists inside lists"),
    ("{% set x = [1] %}{% set y = [x] %}", 1, "lists inside lists"),
    ("{% set x = {'a': 1} %}{% set y = {'a': x} %}", 1, "lists inside lists"),
    ("a\n{% include 'partials/none.j2' %}", 2, "no template 'partials/none.j2' to include"),
    ("{% include '../../etc/passwd' %}", 1, "no template '../../etc/passwd'"),
    ("   ", None, "the message is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "says"), MISTAKES, ids=[m[0][:30] for m in MISTAKES])
def test_a_mistake_is_reported_with_file_and_line(sms: Say, text: str, line: int | None, says: str) -> None:
    with pytest.raises(RenderError) as caught:
        sms(text, customer={"first_name": "Ann", "missing": None, "tier": "gold"}, x=1)

    error = caught.value
    assert (error.template, error.line) == ("sms/t.txt.j2", line)
    assert any(part in error.message for part in says.split("|"))
    assert str(error).startswith("sms/t.txt.j2:")


def test_a_mistake_in_a_partial_names_the_partial(templates: Make) -> None:
    renderer = templates({"sms/t.txt.j2": "{% include 'partials/p.j2' %}", "partials/p.j2": "\n\n{{ nope }}"})

    with pytest.raises(RenderError, match=r"partials/p\.j2:3: 'nope' is undefined"):
        renderer.render("sms", "t", {})


def test_a_syntax_mistake_in_a_partial_names_the_partial(templates: Make) -> None:
    renderer = templates({"sms/t.txt.j2": "{% include 'partials/p.j2' %}", "partials/p.j2": "\n{% if %}"})

    with pytest.raises(RenderError, match=r"partials/p\.j2:2: "):
        renderer.render("sms", "t", {})


PUSH_MISTAKES = [
    ("{", "not JSON"),
    ("[]", "no other key"),
    ('{"title": "a", "body": "b", "image": "c"}', "no other key"),
    ('{"title": "a"}', "title and body"),
    ('{"title": "a", "body": " "}', "title and body"),
    ('{"title": "a", "body": 1}', "title and body"),
    ('{"title": "a", "body": "b", "data": {"n": 1}}', "data must map"),
    ('{"title": "a", "body": "b", "data": []}', "data must map"),
    ('{"title": "a", "body": "{{ "x" * 4100 }}"}', "bytes, at most 4,000"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), PUSH_MISTAKES)
def test_a_push_template_that_gives_no_notification_is_refused(templates: Make, text: str, says: str) -> None:
    with pytest.raises(RenderError, match=says):
        templates({"push/p.json.j2": text}).render("push", "p", {})


def test_empty_emails_are_refused(templates: Make) -> None:
    with pytest.raises(RenderError, match="the subject is empty"):
        templates({"email/w.subject.j2": " ", "email/w.html.j2": "<p>x</p>"}).render("email", "w", {})
    with pytest.raises(RenderError, match="the e-mail is empty"):
        templates({"email/w.subject.j2": "s", "email/w.html.j2": "<p></p>"}).render("email", "w", {})


def test_a_template_that_does_not_exist_or_has_a_strange_name_is_refused(templates: Make) -> None:
    renderer = templates({})

    with pytest.raises(RenderError, match=r"sms/none\.txt\.j2: no such template; create it"):
        renderer.render("sms", "none", {})
    with pytest.raises(RenderError, match="letters, digits"):
        renderer.render("sms", "../x", {})


def test_a_file_that_is_not_utf8_or_too_large_is_refused(templates: Make, tmp_path: Path) -> None:
    renderer = templates({"sms/a.txt.j2": "", "sms/b.txt.j2": "", "sms/c.txt.j2": "\ufeffBOM"})
    (tmp_path / "templates/sms/a.txt.j2").write_bytes(b"a\n\xff")
    (tmp_path / "templates/sms/b.txt.j2").write_bytes(b"x" * 300_000)

    with pytest.raises(RenderError, match=r"sms/a\.txt\.j2:2: the file is not UTF-8"):
        renderer.render("sms", "a", {})
    with pytest.raises(RenderError, match="300,000 bytes"):
        renderer.render("sms", "b", {})
    assert renderer.render("sms", "c", {}) == Sms("BOM")


def test_a_link_out_of_the_folder_is_not_followed(templates: Make, tmp_path: Path) -> None:
    (tmp_path / "secret.txt.j2").write_text("secret")
    renderer = templates({"sms/t.txt.j2": "{% include 'partials/l.j2' %}"})
    (tmp_path / "templates/partials").mkdir()
    (tmp_path / "templates/partials/l.j2").symlink_to(tmp_path / "secret.txt.j2")

    with pytest.raises(RenderError, match="no template"):
        renderer.render("sms", "t", {})


def test_only_plain_values_reach_a_template(templates: Make) -> None:
    renderer = templates({"sms/t.txt.j2": "x"})

    class Customer:
        """Not a plain value."""

    for context, says in [
        ({"customer": Customer()}, "customer: a Customer cannot be given"),
        ({"a": {"b": [1, {2}]}}, r"a\.b\[1\]: a set cannot be given"),
        ({"a": "x" * 200_001}, "200,000 characters"),
        ({"a": list(range(5_001))}, "5,000 values"),
        ({"a": [[[[[[[1]]]]]]]}, "6 levels"),
    ]:
        with pytest.raises(RenderError, match=says) as caught:
            renderer.render("sms", "t", context)
        assert isinstance(caught.value, ChannelError)


def test_a_template_cannot_change_what_it_was_given(sms: Say) -> None:
    context: dict[str, Any] = {"customer": {"tags": ["a"]}}

    for text in [
        "{{ customer.tags.append('b') }}",
        "{{ customer.update({'a': 1}) }}",
        "{{ customer.clear() }}",
        "{{ customer.tags.pop() }}",
    ]:
        with pytest.raises(RenderError):
            sms(text, **context)
    assert context == {"customer": {"tags": ["a"]}}


# --- references -----------------------------------------------------------------------------------------------------


def test_references_name_every_variable_with_file_and_line(templates: Make) -> None:
    renderer = templates(
        {
            "partials/base.j2": "{{ company.name }}\n{% block body %}{% endblock %}{% include 'partials/none.j2' ignore missing %}",
            "partials/m.j2": "{% macro hi(n) %}{{ n }} {{ company.website }}{% endmacro %}",
            "sms/t.txt.j2": "{% extends 'partials/base.j2' %}{% from 'partials/m.j2' import hi as hello %}{% import 'partials/m.j2' as m %}\n"
            "{% block body %}{{ hello(customer.first_name) }}\n{% for o in offers %}{{ o.text ~ loop.index }}{% endfor %}"
            "{% set x = offer['text'] %}{{ x }}{{ m.hi(1) }}{{ campaign[x] }}{{ unsubscribe_url }}{% endblock %}",
        }
    )

    assert renderer.references("sms", "t") == [
        Reference("company.name", "partials/base.j2", 1),
        Reference("company.website", "partials/m.j2", 1),
        Reference("customer.first_name", "sms/t.txt.j2", 2),
        Reference("campaign", "sms/t.txt.j2", 3),
        Reference("offer.text", "sms/t.txt.j2", 3),
        Reference("offers", "sms/t.txt.j2", 3),
        Reference("unsubscribe_url", "sms/t.txt.j2", 3),
    ]


def test_references_of_an_email_cover_all_its_parts(templates: Make) -> None:
    renderer = templates(
        {
            "email/w.subject.j2": "{{ a }}",
            "email/w.html.j2": "{{ b }}",
            "email/w.text.j2": "{{ c }}",
            "email/w.zh.subject.j2": "{{ d }}",
            "email/w.zh.html.j2": "{{ e }}",
        }
    )

    assert [use.path for use in renderer.references("email", "w")] == ["b", "a", "c"]
    assert [use.path for use in renderer.references("email", "w", locale="zh-CN")] == ["e", "d"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("a\n{% if %}", ":2: "), ("\n{% include 'partials/x.j2' %}", ":2: no template 'partials/x.j2' to include")],
)
def test_references_report_mistakes_like_rendering(templates: Make, text: str, says: str) -> None:
    with pytest.raises(RenderError, match=r"sms/t\.txt\.j2" + says):
        templates({"sms/t.txt.j2": text}).references("sms", "t")


def test_the_sample_context_renders(templates: Make) -> None:
    renderer = templates({"sms/t.txt.j2": "{{ customer.first_name }} {{ offer.code }} {{ unsubscribe_url }}"})

    assert renderer.render("sms", "t", sample_context({"first_name": "Ann"})) == Sms(
        "Ann BACK10 https://northwind.example/u/AbC"
    )
