"""Words and tables: how values read, on a terminal and elsewhere."""

from __future__ import annotations

import pytest

from retain.printing import cell, percent, print_json, print_table, progress_bar


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (True, "yes"), (False, "no"), (12345, "12,345"), (0.123456, "0.1235"), ("text", "text")],
)
def test_values_read_as_people_write_them(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_shares_are_percentages() -> None:
    assert (percent(None), percent(0.1234), percent(0.05, signed=True)) == ("–", "12.34%", "+5.00%")


def test_json_is_sorted_and_knows_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": 1, "a": "ü"})
    assert capsys.readouterr().out == '{\n  "a": "ü",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"a": float("nan")})


def test_a_table_stands_whole_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "n"), [("x" * 120, 1000), ("y", None)], title="Things")
    out = capsys.readouterr().out
    assert "x" * 120 in out
    assert "1,000" in out
    assert out.startswith("Things")


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("load") as progress:
        assert progress is not None
        progress("reading", 1, 3)
        progress(3, 3)
    assert "3/3" in capsys.readouterr().err


def test_progress_is_one_line_elsewhere_and_nothing_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("load", quiet=True) as progress:
        assert progress is None
    assert capsys.readouterr().err == ""
    with progress_bar("load") as progress:
        assert progress is None
    assert capsys.readouterr().err == "load: done\n"
