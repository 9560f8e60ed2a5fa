"""The plain-text part of an e-mail."""

from __future__ import annotations

import pytest

from channels.plain_text import to_plain_text

CASES = [
    ("words", "Hello", "Hello"),
    ("white space folds", "<p>\n  Hello\n  <b>dear</b>  friend  </p>", "Hello dear friend"),
    ("marks inside a word join", "<p>re<b>tain</b></p>", "retain"),
    ("paragraphs are set apart by an empty line", "<h1>A</h1><p>B</p><p></p><p>C</p>", "A\n\nB\n\nC"),
    ("lines", "a<br>b<br/>c<div>d</div>e", "a\nb\nc\nd\ne"),
    ("two breaks make an empty line, more do not make more", "a<br><br><br><br>b", "a\n\nb"),
    ("lists", "<p>x</p><ul><li>one</li><li><b>two</b></li></ul><p>y</p>", "x\n\n- one\n- two\n\ny"),
    ("rows and cells", "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
    ("a link says where it leads", "<a href='https://a.example/?x=1&amp;y=2'>Shop</a> now", "Shop <https://a.example/?x=1&y=2> now"),
    ("a link without quotes", "<a class=x href=https://a.example/>Shop</a>", "Shop <https://a.example/>"),
    ("a link that shows its address says it once", '<a href="https://a.example">https://a.example</a>', "https://a.example"),
    ("a link around a picture", '<a href="https://a.example"><img src="x.png" alt="x"></a>', "<https://a.example>"),
    ("a link to nowhere", "<a href='#top'>Top</a> <a>x</a>", "Top x"),
    ("entities", "&lt;b&gt; &amp; &eacute; &#8364; &nbsp;x", "<b> & é € \xa0x"),
    ("what is not seen", "<!doctype html><head><title>t</title></head><style>p {}</style><script>1 < 2</script><!-- c -->x<!-- never", "x"),
    ("an unclosed style", "x<style>y", "x"),
    ("half tags are text", "1 < 2 and <3", "1 < 2 and <3"),
    ("a list item first", "<li>one", "- one"),
    ("nothing", "<p> </p>", ""),
    ("closing a link that was not opened", "a</a>b", "ab"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_html_becomes_plain_text(source: str, text: str) -> None:
    assert to_plain_text(source) == text
