"""Short links from the text that leaves to the page that opens: signed, counted once, never anywhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from flows.settings import Settings, read_settings
from flows.wiring import Workspace, open_workspace
from tests.web.sent import CUSTOMERS, make_sent_shop
from warehouse.ledger.engagement import engaged
from warehouse.ledger.history import customer_history
from web.app import create_app
from web.receiving import WithReceiving

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PUBLIC = "https://n.shop.example"
PAGE = "https://northwind.example/winback?utm_source=sms&utm_campaign=back-in-spring"
TEXT = (
    f"Northwind Coffee: {PAGE} or https://northwind.example/me?m={{{{ customer.nick }}}} "
    "or https://elsewhere.example/a/long/way/from/here. Reply STOP to end"
)


def settings_of(root: Path, **content: Any) -> Settings:
    content = {"short_links": True, "link_hosts": ["elsewhere.example"], "max_sms_segments": 5, **content}
    return read_settings(root, overrides={"secret": "a key for tests only", "public_url": PUBLIC, "content": content})


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose texts have left with short links. Each customer's nick is, oddly, the e-mail address."""
    nicks = [f"c{n}@mail.example" for n in range(CUSTOMERS)]
    root = tmp_path_factory.mktemp("links") / "shop"
    return make_sent_shop(root, TEXT, settings_of=settings_of, column=("nick", nicks), now=NOW)


@pytest.fixture
def ws(delivered: Path) -> Iterator[Workspace]:
    with open_workspace(settings_of(delivered)) as opened:
        yield opened


@pytest.fixture
def client(delivered: Path) -> Callable[..., TestClient]:
    def make(**content: Any) -> TestClient:
        settings = settings_of(delivered, **content)
        app = WithReceiving(create_app(settings), settings, clock=lambda: NOW + timedelta(hours=1))
        return TestClient(app, base_url=PUBLIC, follow_redirects=False)

    return make


def texts(root: Path) -> list[str]:
    """What left, one text a customer."""
    return [path.read_text(encoding="utf-8") for path in sorted((root / "outbox").rglob("*")) if path.is_file()]


def links(root: Path) -> list[str]:
    """The paths of all short links that left."""
    return sorted({path for text in texts(root) for path in re.findall(rf"{PUBLIC}(/l/[\w-]{{20}})", text)})


def events(ws: Workspace, customer: str) -> list[str]:
    with ws.ledger.read() as tx:
        story = customer_history(tx, customer)
    return [str(message["state"]) for message in story.messages]


def test_links_to_the_companys_hosts_are_short_and_others_and_those_that_name_somebody_are_not(
    delivered: Path,
) -> None:
    everything = "\n".join(texts(delivered))
    assert PAGE not in everything
    assert "https://elsewhere.example/a/long" not in everything  # allow-listed in content.link_hosts
    assert re.search(r"https://northwind\.example/me\?m=c\d+(@|%40)mail\.example", everything)
    ledger = b"".join(path.read_bytes() for path in (delivered / "data").glob("ledger.db*"))
    assert b"mail.example" not in ledger
    assert PAGE.encode() in ledger


def test_a_click_leads_to_the_page_and_counts_once_for_unless_clicked(
    delivered: Path, ws: Workspace, client: Callable[..., TestClient]
) -> None:
    path = links(delivered)[0]
    with client() as browser:
        answers = [browser.get(path) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {302}
    (target,) = {answer.headers["location"] for answer in answers}
    assert target in (PAGE, "https://elsewhere.example/a/long/way/from/here")
    assert answers[0].headers["cache-control"] == "no-store"
    with ws.ledger.read() as tx:
        (who,) = engaged(tx, "back:1", [f"C{n}" for n in range(12)], "click")
    assert events(ws, who) == ["delivered"]


def test_no_other_token_opens_anything(delivered: Path, client: Callable[..., TestClient]) -> None:
    path = links(delivered)[1]
    wrong = [
        path[:-1] + ("A" if path[-1] != "A" else "B"),
        "/l/" + "A" * 20,
        "/l/x",
        path + "A",
        "/l/https:%2F%2Fevil.example",
    ]
    with client() as browser:
        for other in wrong:
            answer = browser.get(other)
            assert (answer.status_code, "location" in answer.headers) == (404, False)
        assert browser.post(path).status_code == 405


def test_a_host_that_is_no_longer_allowed_is_led_to_no_more(delivered: Path, client: Callable[..., TestClient]) -> None:
    with client() as browser:
        away = [p for p in links(delivered) if "elsewhere" in browser.get(p).headers["location"]]
    with client(link_hosts=[]) as browser:
        assert {browser.get(path).status_code for path in away} == {404}


def test_without_the_setting_links_stay_as_they_are(tmp_path: Path, delivered: Path) -> None:
    from channels.message import Address, Outgoing, Sms
    from flows.steps.short_links import shorten_links

    with open_workspace(settings_of(delivered, short_links=False)) as plain:
        message = Outgoing("back:1/C1/1", "sms", "C1", Address("sms", "+15005550001"), Sms(PAGE))
        assert shorten_links(plain, [message], {}) == [message]
