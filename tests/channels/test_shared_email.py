"""E-mails share their text where only printed values differ, and every reader gets what rendering alone would give."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.errors import RenderError
from channels.message import Email
from channels.render import Renderer
from channels.shared_email import SharedEmails

Make = Callable[..., Renderer]

SUBJECT = "{{ offer.text }} for {{ customer.first_name|default('you') }}"
HTML = """<html><body>{% include 'partials/head.j2' %}
<p>Hi {{ customer.first_name|default('there') }} {{ customer.last_name|default('', true) }}!</p>
{% if offer.code is defined %}<p>{{ offer.text }}: <b>{{ offer.code }}</b></p>{% endif %}
{% for n in range(2) %}<i title="{{ customer.city|default('-') }}">{{ n }} {{ customer.orders|default(0) }}</i>{% endfor %}
<a href="{{ unsubscribe_url }}">Stop</a></body></html>"""
HEAD = "<h1>{{ company.name }} & {{ customer.city|d('your city') }}</h1>"
FILES = {"email/w.subject.j2": SUBJECT, "email/w.html.j2": HTML, "partials/head.j2": HEAD}

HOSTILE = (
    *("", " ", "Ana", "<b>", "a & b", "&lt;", "lt;", "'\"", "\u202eevil", "x  y", " z", "*retain-h000x", "*retain-"),
    *("*", "h000x", "a\nb", "a\r\nBcc: x@y.example", "😀", "https://e.example/?a=1&b=2", "href=x", "-->", "</p>"),
)
hostile = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12), st.integers(-5, 5), st.none(), st.booleans())


def context(**customer: Any) -> dict[str, Any]:
    return {
        "customer": {name: value for name, value in customer.items() if value is not None},
        "offer": {"text": "10 % off", "code": "BACK10"},
        "company": {"name": "Shop & Co"},
        "unsubscribe_url": "https://shop.example/u/AbC",
    }


def email_of(renderer: Renderer, values: dict[str, Any], template: str = "w") -> Email:
    content = renderer.render("email", template, values)
    assert isinstance(content, Email)
    return content


def read(email: Email, *, backwards: bool = False) -> tuple[str, str, str]:
    """What the recipient reads after a provider has replaced every tag, one after the other, in the order it likes."""
    assert email.shared is not None
    parts = [email.shared.subject, email.shared.html, email.shared.text]
    for tag, value in sorted(email.values.items(), reverse=backwards):
        parts = [part.replace(tag, value) for part in parts]
    return parts[0], parts[1], parts[2]


@pytest.fixture(scope="module")
def folder() -> Path:
    folder = Path(tempfile.mkdtemp())
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def render_alone(renderer: Renderer, values: dict[str, Any]) -> Email | RenderError:
    """Rendering without anything shared: the oracle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharedEmails, "render", lambda *_: None)
        try:
            return email_of(renderer, values)
        except RenderError as error:
            return error


@settings(max_examples=300, deadline=None)
@given(first=hostile, last=hostile, city=hostile, orders=hostile, code=hostile, link=hostile)
def test_tags_replaced_by_values_give_the_very_bytes_of_rendering_alone(
    folder: Path, first: Any, last: Any, city: Any, orders: Any, code: Any, link: Any
) -> None:
    renderer = Renderer([folder])
    values = context(first_name=first, last_name=last, city=city, orders=orders)
    values["offer"]["code"] = code
    values["unsubscribe_url"] = link
    alone = render_alone(Renderer([folder]), values)
    if isinstance(alone, RenderError):
        with pytest.raises(RenderError) as caught:
            email_of(renderer, values)
        assert str(caught.value) == str(alone)
        return

    email = email_of(renderer, values)
    assert (email.subject, email.html, email.text) == (alone.subject, alone.html, alone.text)
    if email.shared is not None:
        assert read(email) == read(email, backwards=True) == (email.subject, email.html, email.text)
        tags = list(email.values)
        assert not any(one in other for one in tags for other in [*tags, *email.values.values()] if one != other)


def test_customers_that_differ_in_printed_values_share_one_text(templates: Make) -> None:
    renderer = templates(FILES)

    emails = [email_of(renderer, context(first_name=f"Ann<{n}>", city="Ulm")) for n in range(50)]

    assert len({id(email.shared) for email in emails}) == 1
    assert emails[7].subject == "10 % off for Ann<7>"
    assert "Hi Ann&lt;7&gt; !" in emails[7].html
    assert "Stop <https://shop.example/u/AbC>" in emails[7].text
    assert emails[7].shared is not None
    assert "Ann" not in emails[7].shared.html


def test_a_macro_that_only_prints_leaves_the_text_shared(templates: Make) -> None:
    box = "{% macro box(code, label='Code') %}<td>{{ label }} {% if label %}<b>{{ code }}</b>{% endif %}</td>{% endmacro %}"
    html = (
        "{% from 'partials/box.j2' import box %}<table><tr>{{ box(offer.code) }}{{ box('x', label='') }}</tr></table>"
    )
    renderer = templates({"email/w.subject.j2": "s", "email/w.html.j2": html, "partials/box.j2": box})

    emails = [email_of(renderer, {"offer": {"code": code}}) for code in ("A<1>", "B2")]

    assert emails[0].shared is emails[1].shared is not None
    assert emails[0].html == "<table><tr><td>Code <b>A&lt;1&gt;</b></td><td> </td></tr></table>"
    assert "Code B2" in emails[1].text


def test_another_offer_language_or_fact_of_the_logic_is_another_text(templates: Make) -> None:
    files = {**FILES, "email/w.html.j2": HTML + "{% if customer.tier == 'gold' %}Gold{% endif %}"}
    renderer = templates(files)
    gold, plain = context(first_name="A", tier="gold"), context(first_name="B", tier="tin")
    other = context(first_name="C", tier="tin")
    other["offer"]["text"] = "20 % off"

    emails = [email_of(renderer, values) for values in (gold, plain, {**plain}, other)]

    assert emails[1].shared is emails[2].shared
    assert len({email.shared for email in emails}) == 3
    assert ["Gold" in email.html for email in emails] == [True, False, False, False]


@pytest.mark.parametrize(
    "html",
    [
        "<p>{{ customer.name|upper }}</p>",
        "<p>{{ 'Hi ' ~ customer.name }}</p>",
        "<p>{% set n = customer.name %}{{ n }}</p>",
        "{% macro hi(n) %}<p>{{ n|title }}</p>{% endmacro %}{{ hi(customer.name) }}",
        "<p>{% for k, v in customer.items() %}{{ k }} {{ v }}{% endfor %}</p>",
        "<p>{{ customer[field] }}</p>",
    ],
)
def test_what_the_logic_works_on_gives_a_text_for_each_customer(templates: Make, html: str) -> None:
    renderer = templates({"email/w.subject.j2": "s", "email/w.html.j2": html})
    base = {"field": "name"}

    emails = [email_of(renderer, {**base, "customer": {"name": name}}) for name in ("ann", "bob", "ann")]

    assert emails[0].html != emails[1].html
    assert emails[0].shared != emails[1].shared
    assert emails[0].html == emails[2].html


@pytest.mark.parametrize(
    "html",
    [
        "<p>{% filter upper %}{{ customer.name }}{% endfilter %}</p>",
        "<p>{% set x %}{{ customer.name }}{% endset %}{{ x|length }}</p>",
        "{% macro m() %}{{ customer.name }}{% endmacro %}<p>{{ m()|upper }}</p>",
        "<p>{% filter upper %}{% include 'partials/n.j2' %}{% endfilter %}</p>",
        "{% block b %}<p>{{ customer.name }}</p>{% endblock %}{{ self.b()|upper }}",
        "{% extends 'partials/base.j2' %}{% block b %}{{ super()|upper }}{% endblock %}",
        "{% extends 'partials/filtering.j2' %}{% block b %}{{ customer.name }}{% endblock %}",
        "<p>{% for n in [1] recursive %}{{ customer.name }}{% endfor %}</p>",
        "{% include part %}",
        "<p>{% for customer in [{'name': 'x'}] %}{{ customer.name }}{% endfor %}</p>",
        "<p>{% with %}{% set customer = {'name': 'y'} %}{{ customer.name }}{% endwith %}</p>",
        "{% extends 'partials/base.j2' %}{% block b %}{{ super() }}!{% endblock %}",
        "{% macro two() %}<p>{{ caller(1)|upper }}</p>{% endmacro %}{% call(n) two() %}{{ customer.name }}{% endcall %}",
        "<!-- {{ customer.name }} --><p>x</p>",
        "{% macro m(n) %}<p>{{ n|upper }} {{ n }}</p>{% endmacro %}{{ m(customer.name) }}",
        "{% macro m(n) %}<p>{% if n == 'ann' %}{{ n }}{% endif %}x</p>{% endmacro %}{{ m(customer.name) }}",
        "{% macro m(n) %}<p>{% set n = 'y' %}{{ n }}</p>{% endmacro %}{{ m(customer.name) }}",
        "{% macro m(n) %}<p>{% filter upper %}{{ n }}{% endfilter %}</p>{% endmacro %}{{ m(customer.name) }}",
        "{% macro m(n) %}<p>{{ n }}</p>{% endmacro %}{{ m(customer.name)|upper }}",
        "{% macro m(n) %}<p>{{ n }}</p>{% endmacro %}{% set x = m(customer.name) %}{{ x|length }}",
        "{% macro m(n) %}<p>{{ n }}</p>{% endmacro %}{% macro m(n) %}<p>{{ n|upper }}</p>{% endmacro %}{{ m(customer.name) }}",
        "{% macro m(n) %}{{ o(n) }}{% endmacro %}{% macro o(n) %}<p>{{ n|upper }}</p>{% endmacro %}{{ m(customer.name) }}",
        "{% macro m(n) %}<p>{{ n }}</p>{% endmacro %}{{ m(n=customer.name) }}{{ m(*[customer.name]) }}",
        "{% from 'partials/macros.j2' import loud as m %}{{ m(customer.name) }}",
        "{% from 'partials/macros.j2' import said as m %}{{ m('a', what=customer.name) }}",
        "{% from 'partials/' ~ 'macros.j2' import loud %}{{ loud(customer.name) }}",
        "{% macro m(n) %}<p>{{ n }} {{ varargs|join }}</p>{% endmacro %}{{ m('a', customer.name) }}",
        "<p>&{{ customer.name }}</p>",
        "<p><{{ customer.name }}>x</p>",
        "<p><a href={{ customer.name }}>x</a></p>",
        "<p>*retain-{{ customer.name }}</p>",
        "<p>*{{ customer.name }}</p>",
        "<p>*retain-h000x</p>",
        "<p>{{ customer.name|default(fallback) }} {{ customer.name.upper() }}</p>",
    ],
)
@pytest.mark.parametrize("name", ["ann", "<lt;", "retain-h000x", "https://a.example"])
def test_text_that_the_template_takes_hold_of_is_never_a_tag(templates: Make, html: str, name: str) -> None:
    partials = {
        "partials/n.j2": "{{ customer.name }}",
        "partials/macros.j2": "{% macro loud(n) %}<p>{{ n|upper }}</p>{% endmacro %}"
        "{% macro said(how, what='-') %}<p>{{ how }} {{ what }}</p>{% endmacro %}",
        "partials/base.j2": "<p>{% block b %}{{ customer.name }}{% endblock %}</p>",
        "partials/filtering.j2": "<p>{% filter upper %}{% block b %}{% endblock %}{% endfilter %}</p>",
    }
    renderer = templates({"email/w.subject.j2": "s", "email/w.html.j2": html, **partials})
    values = {"customer": {"name": name}, "part": "partials/n.j2", "fallback": "-"}

    alone, email = render_alone(renderer, values), email_of(renderer, values)

    assert isinstance(alone, Email)
    assert (email.subject, email.html, email.text) == (alone.subject, alone.html, alone.text)
    if email.shared is not None:
        assert read(email) == (email.subject, email.html, email.text)


def test_errors_are_those_of_rendering_alone(templates: Make) -> None:
    renderer = templates({**FILES, "email/w.html.j2": "<p>x</p>\n<p>{{ customer.fist_name }}</p>"})

    with pytest.raises(RenderError, match=r"email/w\.html\.j2:2: unknown field 'fist_name'"):
        renderer.render("email", "w", context(first_name="A"))
    with pytest.raises(RenderError, match="subject"):
        templates({**FILES, "email/w.subject.j2": "{{ customer.name }}"}).render("email", "w", context(name="a\nb"))
    many = templates({**FILES, "email/w.html.j2": "{% for n in range(900) %}{{ customer.name }}{% endfor %}"})
    with pytest.raises(RenderError, match="more than 250,000 characters"):
        many.render("email", "w", context(name="x" * 1_000))


def test_a_text_of_its_own_shares_its_tags_too(templates: Make) -> None:
    renderer = templates({**FILES, "email/w.text.j2": "Hi {{ customer.first_name }}\n{{ unsubscribe_url }}\n"})

    email = email_of(renderer, context(first_name="<Ann> & Co"))

    assert email.text == "Hi <Ann> & Co\nhttps://shop.example/u/AbC"
    assert read(email) == (email.subject, email.html, email.text)


def test_only_so_many_texts_are_kept(templates: Make) -> None:
    renderer = templates({"email/w.subject.j2": "s", "email/w.html.j2": "<p>{{ customer.name|upper }}</p>"})

    for n in range(200):
        assert email_of(renderer, {"customer": {"name": f"n{n}"}}).html == f"<p>N{n}</p>"

    assert len(renderer._shared._kept) == 64
