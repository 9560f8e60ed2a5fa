"""Style sheets move into the elements, MJML becomes HTML, and neither may keep us busy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from channels.budget import WorkLimitError
from channels.email_html import MarkupError, finish_html
from channels.errors import RenderError
from channels.message import Email
from channels.render import Renderer

Make = Callable[..., Renderer]
MJML = (
    "<mjml><mj-head><mj-style>.x { color: red } a:hover { color: blue }</mj-style></mj-head><mj-body><mj-section>"
    '<mj-column><mj-text><p class="x">Hi {{ customer.name }}</p></mj-text>'
    '<mj-button href="{{ unsubscribe_url }}">Stop</mj-button></mj-column></mj-section></mj-body></mjml>'
)
SHEET = "<style>p { color: red } a:hover { color: blue } @media (max-width: 9em) { p { color: green } }</style>"


def render(renderer: Renderer, **customer: str) -> Email:
    content = renderer.render("email", "w", {"customer": customer, "unsubscribe_url": "https://s.example/u?a=1&b=2"})
    assert isinstance(content, Email)
    return content


def test_rules_move_into_elements_and_the_others_stay() -> None:
    html = finish_html(f"<html><head>{SHEET}</head><body><p>x</p></body></html>")

    assert '<p style="color: red;">x</p>' in html
    assert "a:hover" in html
    assert "@media (max-width: 9em)" in html


def test_html_without_a_style_sheet_stays_as_it_is() -> None:
    assert finish_html("<p>a<br>b") == "<p>a<br>b"


def test_nothing_is_loaded_from_anywhere() -> None:
    html = finish_html('<style>b{}</style><link rel="stylesheet" href="file:///etc/hosts"><p>x</p>')

    assert "localhost" not in html


def test_a_shared_email_has_its_styles_inlined_once(templates: Make) -> None:
    renderer = templates(
        {
            "email/w.subject.j2": "s",
            "email/w.html.j2": f"<html><head>{SHEET}</head><p>{{{{ customer.name }}}}</p></html>",
        }
    )

    emails = [render(renderer, name=name) for name in ("Ann", '<b>"')]

    assert emails[0].shared is emails[1].shared is not None
    assert '<p style="color: red;">&lt;b&gt;&#34;</p>' in emails[1].html
    assert emails[1].text == '<b>"'


def test_mjml_becomes_html_with_the_values_escaped(templates: Make) -> None:
    renderer = templates({"email/w.subject.j2": "s", "email/w.mjml.j2": MJML})

    email = render(renderer, name="<mj-include path='/etc/hosts'/>")

    assert "<table" in email.html
    assert "Hi &lt;mj-include path=&#39;/etc/hosts&#39;/&gt;" in email.html
    assert re.search('<p class="x" style="[^"]*color: red', email.html)
    assert 'href="https://s.example/u?a=1&amp;b=2"' in email.html
    assert email.text == "Hi <mj-include path='/etc/hosts'/>\n\nStop <https://s.example/u?a=1&b=2>"
    assert "fonts.googleapis" not in email.html
    assert email.shared is not None
    assert [use.path for use in renderer.references("email", "w")] == ["customer.name", "unsubscribe_url"]
    assert renderer.names("email") == ("w",)


def test_mjml_that_is_none_is_refused_with_its_file(templates: Make) -> None:
    for body in ("<mjml><mj-body>", "<mjml><mj-head><mj-include path='x'/></mj-head><mj-body></mj-body></mjml>"):
        with pytest.raises(RenderError, match=r"email/w\.mjml\.j2: not MJML"):
            render(templates({"email/w.subject.j2": "s", "email/w.mjml.j2": body}))


def test_html_and_mjml_of_one_template_are_one_too_many(templates: Make) -> None:
    files = {"email/w.subject.j2": "s", "email/w.html.j2": "<p>x</p>", "email/w.mjml.j2": MJML}

    with pytest.raises(RenderError, match="keep one of the two files"):
        render(templates(files))


def test_a_language_may_be_html_and_another_mjml(templates: Make) -> None:
    files = {"email/w.subject.j2": "s", "email/w.html.j2": "<p>x</p>", "email/w.zh.mjml.j2": MJML}
    renderer = templates(files)

    with pytest.raises(RenderError, match=r"email/w\.zh\.subject\.j2: no such template"):
        renderer.render("email", "w", {}, locale="zh")
    assert renderer.locales("email", "w") == (None, "zh")


def test_links_and_bold_words_of_a_long_letter_are_no_open_ones() -> None:
    cell = '<td><a href="https://s.example/x?y=1&amp;z=2"><b>Hello</b> <i>you</i><img src="https://s.example/a.png"></a></td>'
    html = finish_html("<style>a { color: red }</style><table><tr>" + cell * 700 + "</tr></table>")

    assert html.count('style="color: red;"') == 700


P = "<p>x</p>"
HOSTILE = {
    "deep": (f"<style>{P}</style>" + "<div>" * 45_000, False),
    "rules": ("<style>" + "p{color:red}" * 10_000 + "</style>" + P * 3_900, False),
    "selectors": ("<style>" + "[a][b]" * 30_000 + "{color:red}</style>" + P * 3_900, False),
    "searching": ("<style>" + "p:nth-child(2n){color:red}" * 90 + "</style>" + P * 3_900, False),
    "long values": ('<style>p{a:"' + "x" * 100_000 + '"}</style>' + P * 3_900, False),
    "long tag": ("<style>p{}</style><p " + "a=1 " * 40_000 + ">", False),
    "mjml deep": ("<mjml><mj-body>" + "<mj-wrapper>" * 5_000 + "</mj-wrapper>" * 5_000 + "</mj-body></mjml>", True),
    "mjml long": (
        "<mjml><mj-head><mj-attributes><mj-all color='" + "r" * 90_000 + "'/></mj-attributes></mj-head><mj-body>"
        "<mj-section><mj-column>" + "<mj-text>x</mj-text>" * 900 + "</mj-column></mj-section></mj-body></mjml>",
        True,
    ),
    "left open": ("<style>b{color:red}</style>" + "".join(f"<p><b id={n}>x" for n in range(1_990)), False),
    "left open behind a comment": (
        "<style>b{color:red}</style>" + "".join(f"<p><b id={n}><!-- </b> -->" for n in range(1_990)),
        False,
    ),
    "left open in long": (
        "<style>b{color:red}</style>" + "".join(f"<p><b id={n} title={'x' * 900}>" for n in range(200)) + P * 3_000,
        False,
    ),
    "mjml html": ("<mjml><mj-body><mj-text>" + "<b>" * 20_000 + "</mj-text></mj-body></mjml>", True),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_long_is_refused_at_once(name: str) -> None:
    source, is_mjml = HOSTILE[name]
    began = time.process_time()

    with pytest.raises(WorkLimitError):
        finish_html(source, is_mjml=is_mjml)

    assert time.process_time() - began < 1


def mjml(body: str, head: str = "") -> str:
    return f"<mjml><mj-head>{head}</mj-head><mj-body><mj-section><mj-column>{body}</mj-column></mj-section></mj-body></mjml>"


COSTLY = {
    "just as many elements": ("<style>p{color:red}</style>" + "<div>" * 3_990, False),
    "just as many rules": ("<style>" + "p{color:red}" * 400 + "</style>" + P * 1_800, False),
    "just as many selectors": ("<style>" + "*>" * 60_000 + "*{color:red}</style>" + "<div>" * 300, False),
    "just as many media": ("<style>" + "@media x{" * 1_000 + "</style>" + P, False),
    "just as many values": ('<style>p{a:"' + "x" * 30_000 + '"}</style>' + P * 1_900, False),
    "mjml texts": (mjml("<mj-text>x</mj-text>" * 990), True),
    "just as many left open": (
        "<style>b{color:red}</style>" + "".join(f"<p><b id={n}>x" for n in range(75)) + "<p>x" * 3_800,
        False,
    ),
    "mjml html": (mjml("<mj-text>" + P * 3_900 + "</mj-text>"), True),
    "mjml attributes": (
        mjml("<mj-text>x</mj-text>" * 900, "<mj-attributes><mj-all color='" + "r" * 10_000 + "'/></mj-attributes>"),
        True,
    ),
    "mjml style": (mjml("<mj-text>" + P * 1_500 + "</mj-text>", "<mj-style>" + "p{a:b}" * 300 + "</mj-style>"), True),
}
"""As much work as is let through: what stands just inside the limits must be borne."""


@pytest.mark.parametrize("name", COSTLY)
def test_what_is_let_through_is_done_soon(name: str) -> None:
    source, is_mjml = COSTLY[name]
    began = time.process_time()

    finish_html(source, is_mjml=is_mjml)

    assert time.process_time() - began < 1


ALONE = """
import json, resource, sys, time
from pathlib import Path
from channels.render import Renderer, RenderError
folder = Path(sys.argv[1])
context = {"customer": {}, "unsubscribe_url": "https://s.example/u"}
warm = Renderer([folder / "warm"])
for name in ("html", "mjml"):
    warm.render("email", name, context)
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    Renderer([folder / "hostile"]).render("email", "w", context)
    said = "rendered"
except RenderError as error:
    said = "refused"
    assert "MemoryError" not in str(error)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"said": said, "seconds": time.process_time() - began, "grown_mb": grown / 1024}))
"""


@pytest.mark.parametrize("name", [*HOSTILE, *COSTLY, "loop", "growth"])
def test_no_hostile_e_mail_takes_a_second_or_200_mb(tmp_path: Path, name: str) -> None:
    """Each in a process of its own, from the template to the e-mail: its peak is what it took and nobody else's."""
    loops = "{% for a in range(1000) %}{% for b in range(1000) %}" + P * 100 + "{% endfor %}{% endfor %}"
    own = {
        "loop": (mjml("<mj-text>" + loops + "</mj-text>"), True),
        "growth": (mjml("<mj-text>{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}"
                        "{% endfor %}{{ n.x }}</mj-text>"), True),
    }  # fmt: skip
    source, is_mjml = {**HOSTILE, **COSTLY, **own}[name]
    ending = "mjml" if is_mjml else "html"
    files = {
        "warm/email/html.subject.j2": "s",
        "warm/email/html.html.j2": SHEET + P,
        "warm/email/mjml.subject.j2": "s",
        "warm/email/mjml.mjml.j2": mjml("<mj-text>x</mj-text>"),
        "hostile/email/w.subject.j2": "s",
        f"hostile/email/w.{ending}.j2": source,
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")

    done = subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert name in COSTLY or told["said"] == "refused"
    assert told["seconds"] < 1
    assert told["grown_mb"] < 200


def test_mjml_errors_say_what_is_wrong() -> None:
    with pytest.raises(MarkupError, match="unexpected end of stream"):
        finish_html("<mjml>", is_mjml=True)
