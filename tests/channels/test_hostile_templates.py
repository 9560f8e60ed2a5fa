"""Templates written to hang or to fill memory are stopped: each in less than a second and 200 MB, with a clear error."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from channels.message import Channel
from channels.render import Renderer, RenderError

LOOPS, ENDS = "{% for i in range(15) %}{% for j in range(1000) %}", "{% endfor %}{% endfor %}ok"

HOSTILE = [
    "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in range(1000) %}{% for b in range(1000) %}" + "x" * 1000 + "{% endfor %}{% endfor %}",
    "{% for a in range(1000) %}{% set x %}{% for b in range(1000) %}{{ 'x' * 1000 }}{% endfor %}{% endset %}{% endfor %}",
    "{{ range(99999)|list|length }}",
    "{{ range(10**9)|list }}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ ('a' * 1000) * 1000000 }}",
    "{{ [1] * 10**9 }}",
    "{{ 9**9**9 }}",
    "{{ 9**99999999 }}",
    "{% set n = namespace(x=2) %}{% for i in range(1000) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x='ab') %}{% for i in range(1000) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x|length }}",
    "{% set n = namespace(x='ab') %}{% for i in range(1000) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x|length }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(1000) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x|length }}",
    "{% set n = namespace(x='a') %}{% for i in range(1000) %}{% set n.x = n.x|replace('a', 'aa') %}{% endfor %}{{ n.x|length }}",
    "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
    "{{ ('a' * 1000)|replace('', 'b' * 100000) }}",
    "{% set n = namespace(x='a') %}{% for i in range(1000) %}{% set n.x = [n.x, n.x]|join(n.x) %}{% endfor %}{{ n.x }}",
    "{{ (range(1000)|list)|join('x' * 100000) }}",
    "{{ (('a' * 100000).split('') if false else (range(1000)|list * 1000))|join }}",
    "{{ 'a'|center(3 * 10**8) }}",
    "{{ 'a'.center(3 * 10**8) }}",
    "{{ 'a'.ljust(3 * 10**8) }}",
    "{{ 'a'.zfill(3 * 10**8) }}",
    "{{ 'a\t'.expandtabs(3 * 10**8) }}",
    "{{ 'a\nb'|indent(3 * 10**8) }}",
    "{{ ('a\n' * 100000)|indent(1000) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '%.1000000000f'|format(1) }}",
    "{{ '%*d'|format(1000000000, 1) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ 1.5|round(10**9) }}",
    "{{ 1.5|round(10**9, 'floor') }}",
    "{{ {'a': 1}|tojson(10**9) }}",
    "{{ lipsum(10**6) }}",
    "{{ range(10**6)|batch(10**9, 'x')|list }}",
    "{{ 'a'|slice(10**9)|list }}",
    "{{ 'a b'|wordwrap(1, true, 'x' * 1000000) }}",
    "{% macro m(n) %}{{ m(n + 1) ~ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% macro m(n) %}{% if n %}{% set a = m(n - 1) %}{% set b = m(n - 1) %}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "{% include 'sms/t.txt.j2' %}{% include 'sms/t.txt.j2' %}",
    "{% extends 'sms/t.txt.j2' %}",
    "{% import 'sms/t.txt.j2' as t %}{{ t.x }}",
    "{% for i in range(1000) %}{% include 'partials/big.j2' %}{% endfor %}",
    "{% set n = namespace(x=[1]) %}{% for i in range(1000) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x|string }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(1000) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ n.x|tojson }}",
    "{% set n = namespace(x={'a': 1}) %}{% for i in range(1000) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}{{ n.x|tojson }}",
    "{{ ([customer] * 100000)|tojson }}",
    "{{ ([customer] * 1000)|string|length }}",
    "{{ ([customer] * 1000)|upper|length }}",
    "{{ ([customer] * 1000) ~ '' }}",
    "{{ ([customer] * 1000)|join|length }}",
    "{{ (-10**9)|_charge }}{% for a in range(1000) %}{% for b in range(1000) %}{{ (-10**9)|_charge }}{% endfor %}{% endfor %}",
    "{% for a in range(1000) %}{% for b in range(1000) %}{% if a in range(1000)|list %}{% endif %}{% endfor %}{% endfor %}",
    LOOPS + "{% for x in range(1000)|select('equalto', 5000) %}{% endfor %}" + ENDS,
    LOOPS + "{% for x in range(1000)|reject %}{% endfor %}" + ENDS,
    LOOPS + "{% for x in range(1000) if x > 5000 %}{% endfor %}" + ENDS,
    LOOPS + "{% for x in range(1000) if customer.no %}{% endfor %}" + ENDS,
    LOOPS + "{% if range(1000)|max %}{% endif %}" + ENDS,
    "{% set l = range(1000)|list %}" + LOOPS + "{% for x in range(-1000, 0)|select('in', l) %}{% endfor %}" + ENDS,
    "{% set a = '1' * 500000 %}" + LOOPS + "{% if a.isdigit() %}{% endif %}" + ENDS,
    "{% set a = '1' * 500000 %}" + LOOPS + "{% if a is lower %}{% endif %}" + ENDS,
    "{% set a = '1' * 500000 %}" + LOOPS + "{% if '1111111112' in a %}{% endif %}" + ENDS,
    "{% set a = '1' * 500000 %}{% set b = a ~ '' %}" + LOOPS + "{% if a == b %}{% endif %}" * 100 + ENDS,
    "{% for a in 'a' * 1000000 %}{% for b in 'b' * 1000000 %}{% endfor %}{% endfor %}",
    "{{ ('a' * 1000000)|map('upper')|map('lower')|list|length }}",
    "{% for i in range(1000) %}{{ ('b' * 10000)|list|sort|length }}{% endfor %}",
    "{% for i in range(1000) %}{{ customer.long|striptags|urlencode|length }}{% endfor %}",
    "{% for i in range(1000) recursive %}{{ loop(range(1000)) }}{% endfor %}",
    "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "{{ " + "+".join(["1"] * 60_000) + " }}",
    "{{ " + "not " * 50_000 + "1 }}",
    "{{ " + "[" * 50_000 + "]" * 50_000 + " }}",
    "{{ " + "9" * 100_000 + " }}",
    "{{ a" + ".a" * 60_000 + " }}",
    "{{ 'x'" + "|upper" * 40_000 + " }}",
    "{% if 1 %}" * 20_000,
    "{% for i in range(9) %}" * 200 + "x" + "{% endfor %}" * 200,
    "{{ x }}" * 30_000,
    "{#" * 120_000,
    "{{ '" + "\\" * 200_000,
    "{% raw %}" * 25_000,
    "x" * 200_000,
    "{{ 'é' * 1000000 }}",
]  # fmt: skip

LIMITED = """
import resource, sys
from pathlib import Path
from channels.render import Renderer, RenderError
import jinja2.sandbox

folder, names = Path(sys.argv[1]), sys.argv[2:]
customer = {"long": "<b>x</b>" * 8000, "name": "Ann", "no": False}
Renderer([folder]).render("sms", "warm", {})
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 200 * 2**20,) * 2)
for name in names:
    try:
        Renderer([folder / name]).render("sms", "t", {"customer": customer, "x": "y", "a": {}})
    except RenderError as error:
        assert "MemoryError" not in str(error), (name, str(error))
    else:
        raise SystemExit(f"{name} was rendered")
print("stopped", len(names))
"""

CUSTOMER = {"long": "<b>x</b>" * 8_000, "name": "Ann", "no": False}


@pytest.mark.parametrize("text", HOSTILE, ids=[f"{number}-{text[:40]}" for number, text in enumerate(HOSTILE)])
def test_a_hostile_template_is_stopped_in_a_second(templates: Callable[..., Renderer], text: str) -> None:
    renderer = templates({"sms/t.txt.j2": text, "partials/big.j2": "x" * 100_000})
    started = time.process_time()

    with pytest.raises(RenderError) as caught:
        renderer.render("sms", "t", {"customer": CUSTOMER, "x": "y", "a": {}})

    assert time.process_time() - started < 1.0
    assert len(str(caught.value)) < 400


def test_no_hostile_template_needs_200_mb(tmp_path: Path) -> None:
    """All of them in one process that may grow by 200 MB and no more."""
    (tmp_path / "sms").mkdir()
    (tmp_path / "sms/warm.txt.j2").write_text("x")
    for number, text in enumerate(HOSTILE):
        for name, content in {"sms/t.txt.j2": text, "partials/big.j2": "x" * 100_000}.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True)
            path.write_text(content)
    names = [str(number) for number in range(len(HOSTILE))]

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), *names], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, f"stopped {len(HOSTILE)}", "")


HOSTILE_HTML = [
    "<blockquote>" * 15_000,
    "<ul><li>" * 15_000,
    "<div>" * 40_000 + "x",
    "<a href='" + "x" * 200_000,
    "<!--" * 50_000,
    "&" * 200_000,
    "<pre>" * 40_000 + "x\n" * 10_000,
    "<![CDATA[" * 20_000,
    "<" * 200_000,
    "<table><tr><td>" * 12_000,
    "<a href='https://x.example/'>" * 8_000,
    "<a" * 100_000,
    "</" * 100_000,
    "<!" * 100_000,
    "<?" * 100_000,
    "&a" * 100_000,
    "&#x" * 80_000,
    "<a b='>" * 30_000,
    "<a b='" + "\">" * 60_000,
    "<script>" * 25_000,
    "<style>" * 25_000 + "</" * 10_000,
    "<title>" * 25_000,
    "<!-- -->" * 30_000,
    " " * 200_000,
    "\n" * 200_000,
    "<br>" * 50_000,
    "# " * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("html", HOSTILE_HTML, ids=[repr(html[:16]) for html in HOSTILE_HTML])
def test_hostile_html_becomes_plain_text_in_a_second(html: str) -> None:
    from channels.plain_text import to_plain_text

    started = time.process_time()

    text = to_plain_text(html)

    assert time.process_time() - started < 1.0
    assert len(text) < 1_000_000


HALVES = {
    "sms": {"sms/t.txt.j2": "Hi {{ '\\ud83d' }}"},
    "email": {"email/t.subject.j2": "Hi", "email/t.html.j2": "<p>Hi {{ '\\ud83d' }}</p>"},
    "push": {"push/t.json.j2": '{"title": "Hi", "body": "\\ud83d"}'},
}


@pytest.mark.parametrize("channel", HALVES)
def test_half_a_character_is_refused_before_anybody_tries_to_send_it(
    templates: Callable[..., Renderer], channel: Channel
) -> None:
    with pytest.raises(RenderError, match="half of a character"):
        templates(HALVES[channel]).render(channel, "t", {})


def test_json_that_is_nested_without_end_is_no_notification(templates: Callable[..., Renderer]) -> None:
    with pytest.raises(RenderError, match="is not JSON"):
        templates({"push/t.json.j2": "[" * 15_000}).render("push", "t", {})
