"""Bad input: each mistake gets one clear message with its place and the next step, exit code 1, and changes nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from retain.cli import run
from tests.retain.conftest import Cli, retain

__all__ = ["retain"]

MONDAY = "2026-03-02T09:00:00+00:00"
BOOK = Path("campaigns", "book")
WINBACK = BOOK / "winback-90d.yaml"
SMS = Path("templates", "sms", "winback_ten_percent.txt.j2")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of the samples with 60 customers, two thirds of them quiet for 100 days."""
    root = tmp_path_factory.mktemp("bad") / "shop"
    people = ["customer_id,created_at,email,phone,consent_email,consent_sms,time_zone"]
    orders = ["order_id,customer_id,ordered_at,amount"]
    for n in range(60):
        people.append(f"C{n:02d},2024-01-01,c{n}@example.com,+4420794600{n:02d},true,true,Europe/London")
        last = "2025-11-22" if n % 3 else "2026-02-20"
        orders += [f"{n}a,C{n:02d},2025-06-01,20", f"{n}b,C{n:02d},{last},30"]
    assert run(["init", str(root)]) == 0
    (root / "customers.csv").write_text("\n".join(people) + "\n", encoding="utf-8")
    (root / "orders.csv").write_text("\n".join(orders) + "\n", encoding="utf-8")
    for table in ("customers", "orders"):
        assert run(["load", table, str(root / f"{table}.csv"), "--workspace", str(root)]) == 0
    assert run(["status", "--workspace", str(root)]) == 0  # makes the empty ledger
    return root


@pytest.fixture
def shop(loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which commands take for theirs."""
    root = tmp_path / "shop"
    shutil.copytree(loaded, root)
    monkeypatch.setenv("RETAIN_WORKSPACE", str(root))
    return root


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def snapshot(root: Path) -> dict[str, bytes | str]:
    """Every byte of the workspace; of the ledger, whose file moves when it is opened, every row."""
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("ledger.db") and ".loading" not in path.parts
    }
    with contextlib.closing(sqlite3.connect(root / "data" / "ledger.db")) as ledger:
        return {**files, "ledger": "\n".join(ledger.iterdump())}


def refused(retain: Cli, root: Path, *words: object) -> str:
    """What the command says; it must be an error that changes nothing and prints nothing else."""
    before = snapshot(root)
    said = retain(*words)
    assert said.code == 1, said
    assert said.out == ""
    assert snapshot(root) == before
    assert said.err.count("error: ") + said.err.count("Error: ") == 1, said.err
    assert "unexpected" not in said.err, said.err
    assert "Traceback" not in said.err
    return said.err


COMMANDS = (("plan", "winback-90d", "--as-of", MONDAY), ("run", "winback-90d", "--as-of", MONDAY))


@pytest.mark.parametrize("command", COMMANDS, ids=["plan", "run"])
@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        pytest.param(
            WINBACK, "segment: lapsing ", "segment: recency_dais >= 90 ",
            ["campaigns/book/winback-90d.yaml:13:12: audience.segment: unknown feature", 'did you mean "recency_days"?'],
            id="unknown feature",
        ),
        pytest.param(
            WINBACK, "{channel: sms, template: winback_ten", "{chanel: sms, template: winback_ten",
            ["winback-90d.yaml:38:10: arms.ten-percent-sms.steps[0].chanel: unknown key", 'did you mean "channel"?'],
            id="misspelt key in a list",
        ),
        pytest.param(
            WINBACK, "weight: 40%", "weight: 50%",
            ["winback-90d.yaml:33:1: arms: weights and control make 110%, not 100%"],
            id="weights that do not sum",
        ),
        pytest.param(
            WINBACK, "primary: repurchase ", "primary: repurchase: twice ",
            ["campaigns/book/winback-90d.yaml:23:", "is not YAML"],
            id="no YAML",
        ),
        pytest.param(
            WINBACK, "offer: ten-percent", "offer: ten-precent",
            ["arms.ten-percent-sms.offer: unknown offer", 'did you mean "ten-percent"?', "offers.yaml has"],
            id="unknown offer",
        ),
        pytest.param(
            WINBACK, "unit: customer", "unit: family", ["experiment.unit:", "expected customer or household"],
            id="unknown unit",
        ),
        pytest.param(
            SMS, "{{ offer.text }}", "{{ offer.txet }}",
            ["templates/sms/winback_ten_percent.txt.j2:1:", 'offer.txet', 'did you mean "offer.text"?'],
            id="unknown variable in a template",
        ),
        pytest.param(
            SMS, "{{ offer.text }}", "{% if %}", ["templates/sms/winback_ten_percent.txt.j2:1:"],
            id="broken template",
        ),
        pytest.param(
            Path("retain.toml"), "[holdout]", "[holdout", ["retain.toml: not valid TOML", "line", "correct the file"],
            id="broken retain.toml",
        ),
        pytest.param(
            Path("retain.toml"), 'share = "0%"', 'shear = "0%"',
            ["retain.toml:", "holdout.shear: unknown setting", 'did you mean "share"?'],
            id="unknown setting",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named_with_its_place(
    file: Path, old: str, new: str, said: list[str], command: tuple[str, ...], shop: Path, retain: Cli
) -> None:
    rewrite(shop / file, old, new)
    err = refused(retain, shop, *command)
    for words in said:
        assert words in err


def test_all_mistakes_of_all_files_are_told_at_once(shop: Path, retain: Cli) -> None:
    rewrite(shop / WINBACK, "weight: 40%", "weigth: 40%")
    rewrite(shop / BOOK / "segments.yaml", "orders >= 2", "order >= 2")
    rewrite(shop / BOOK / "offers.yaml", "percent: 10%", "percent: ten")
    err = refused(retain, shop, *COMMANDS[0])
    files = [line.removeprefix("error: ").split(":")[0] for line in err.splitlines()]
    assert files == [f"campaigns/book/{name}.yaml" for name in ("offers", "segments", "winback-90d")]


def test_a_file_of_the_book_that_is_no_text_is_named(shop: Path, retain: Cli) -> None:
    (shop / WINBACK).write_bytes(b"campaign: winback-90d\nowner: \xff\xfe\n")
    assert "campaigns/book/winback-90d.yaml:2:1: the file is not UTF-8" in refused(retain, shop, *COMMANDS[0])


def test_a_file_of_the_book_that_cannot_be_opened_is_named(shop: Path, retain: Cli) -> None:
    (shop / WINBACK).unlink()
    (shop / WINBACK).mkdir()
    err = refused(retain, shop, "validate")
    assert str(shop / WINBACK) in err


def test_a_missing_template_is_named_with_the_file_expected(shop: Path, retain: Cli) -> None:
    for path in (shop / SMS).parent.glob("winback_ten_percent*"):
        path.unlink()
    err = refused(retain, shop, *COMMANDS[0])
    assert "campaigns/book/winback-90d.yaml:38:" in err
    assert f"expected {SMS.as_posix()}" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"order_id,customer_id,ordered_at,amount\n1,C01,2026-01-01,5\n2,\"C02,2026-01-02,6\n3,C03,2026-01-03,7\n",
         ["orders2.csv:3:", "quote", "nothing was loaded"]),
        (b"order_id,customer_id,ordered_at,amount\n1,C01,2026-01-01,5\n2,C02,2026-01-02,6,7,8\n",
         ["orders2.csv:3:", "6 columns; expected 4", "nothing was loaded"]),
        (b"order_id,buyer,ordered_at,amount\n1,C01,2026-01-01,5\n",
         ["orders2.csv:1:", "no column customer_id", "--map "]),
        (b"", ["orders2.csv:1:", "no header"]),
    ],
    ids=["open quote", "too many columns", "missing column", "empty file"],
)  # fmt: skip
def test_a_broken_file_is_refused_as_a_whole_with_its_line(
    content: bytes, said: list[str], shop: Path, retain: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "orders2.csv"
    path.write_bytes(content)
    err = refused(retain, shop, "load", "orders", path)
    for words in said:
        assert words in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("load", "orders", "nowhere.csv"), ["nowhere.csv: file not found", "Check the path"]),
        (("apply", "nowhere.json"), ["nowhere.json: no such file", "retain plan CAMPAIGN"]),
        (
            ("analyze", "nowhere.csv", "--arm", "a", "--control", "b", "--metric", "m:mean"),
            ["nowhere.csv: no such file"],
        ),
        (("plan", "winback-9d"), ['no campaign "winback-9d"', 'did you mean "winback-90d"?', "campaigns there: "]),
        (("run", "winback"), ['no campaign "winback"']),
        (("status", "winbak-90d"), ['did you mean "winback-90d"?']),
        (("measure", "winback-90d"), ["no run was applied yet", "retain plan winback-90d"]),
        (("pause", "winbak-90d"), ['did you mean "winback-90d"?']),
        (("preview", "winback-90d", "--customer", "X"), ["no customer X"]),
        (("suppress", "C01", "--reason", "because"), ['reason "because": expected one of']),
        (("plan", "winback-90d", "--now", "yesterday"), ['"yesterday" is no date or time; expected ISO 8601']),
        (("run", "winback-90d", "--now", "2026-02-30"), ["2026-02-30", "expected ISO 8601"]),
        (("deliver", "--now", "25:00"), ["25:00", "expected ISO 8601"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_word_on_the_command_line_is_answered_with_the_right_one(
    words: tuple[str, ...], said: list[str], shop: Path, retain: Cli
) -> None:
    err = refused(retain, shop, *words)
    for expected in said:
        assert expected in err


@pytest.mark.parametrize("command", COMMANDS, ids=["plan", "run"])
def test_an_empty_segment_is_a_warning_and_nothing_is_done(command: tuple[str, ...], shop: Path, retain: Cli) -> None:
    rewrite(shop / WINBACK, "segment: lapsing ", "segment: orders >= 99 ")
    before = snapshot(shop)["ledger"]
    said = retain(*command)
    assert said.code == 0
    assert "warning: campaigns/book/winback-90d.yaml:" in said.err
    assert "the segment of winback-90d is empty as of 2026-03-02; check its expression" in said.err
    assert snapshot(shop)["ledger"] == before
    assert "retain deliver" not in said.out
    assert "retain apply" not in said.out


@pytest.fixture
def planned(shop: Path, retain: Cli, tmp_path: Path) -> Path:
    """A plan for the quiet customers of the shop."""
    assert retain(*COMMANDS[0], "--out", tmp_path / "plan").code == 2
    return tmp_path / "plan" / "plan.json"


def test_a_plan_whose_campaign_was_edited_is_stale(shop: Path, planned: Path, retain: Cli) -> None:
    rewrite(shop / WINBACK, "minimum_effect: 1.5pp", "minimum_effect: 2pp")
    err = refused(retain, shop, "apply", planned)
    assert "plan.json: stale: the campaign, an offer, a segment or a template changed since" in err
    assert f"retain plan winback-90d --as-of {MONDAY}" in err


def test_a_plan_whose_words_were_edited_is_stale(shop: Path, planned: Path, retain: Cli) -> None:
    rewrite(shop / SMS, "we miss you", "come back")
    assert "stale: the campaign, an offer, a segment or a template changed" in refused(retain, shop, "apply", planned)


def test_a_plan_whose_audience_moved_is_stale(shop: Path, planned: Path, retain: Cli, tmp_path: Path) -> None:
    moved = ["order_id,customer_id,ordered_at,amount", *(f"{n}c,C{n:02d},2026-02-25,9" for n in range(30))]
    (tmp_path / "more.csv").write_text("\n".join(moved) + "\n", encoding="utf-8")
    assert retain("load", "orders", tmp_path / "more.csv").code == 0
    err = refused(retain, shop, "apply", planned)
    assert "of the planned audience moved since, more than measurement.drift allows (5.0%)" in err
    assert f"retain plan winback-90d --as-of {MONDAY}" in err


@pytest.mark.parametrize("content", ["no JSON", "{}", "[]"])
def test_a_file_that_is_no_plan_is_refused(content: str, shop: Path, retain: Cli, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content, encoding="utf-8")
    assert "not a plan" in refused(retain, shop, "apply", tmp_path / "plan.json")


@pytest.mark.parametrize("words", [("status",), ("plan", "x"), ("load", "orders", "x.csv"), ("doctor",), ("serve",)])
def test_a_directory_that_is_no_workspace_is_left_as_it_is(words: tuple[str, ...], retain: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    said = retain(*words, "--workspace", tmp_path / "photos")
    assert (said.code, said.out) == (1, "")
    assert "not a workspace, it has no campaigns/book; make one with `retain init" in said.err
    assert list((tmp_path / "photos").iterdir()) == []
    missing = retain(*words, "--workspace", tmp_path / "nowhere")
    assert missing.code == 1
    assert "no such directory; expected a workspace" in missing.err
    assert not (tmp_path / "nowhere").exists()


EXECUTABLE = Path(sys.executable).with_name("retain")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("plan", "winback-9d"), 1, 'did you mean "winback-90d"?'),
        (("load", "orders", "nowhere.csv"), 1, "nowhere.csv: file not found"),
        (("plan",), 1, "Missing argument 'CAMPAIGN'"),
    ],
    ids=["unknown campaign", "missing file", "usage"],
)
def test_the_real_executable_says_and_exits_the_same(words: tuple[str, ...], code: int, said: str, shop: Path) -> None:
    before = snapshot(shop)
    done = subprocess.run([EXECUTABLE, *words], capture_output=True, text=True, env={**os.environ})
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert snapshot(shop) == before
