"""docs/marketers/offers.md: its offers are accepted, every kind and key is on it, and the setting it names exists."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import get_args

from campaigns.book import load_book
from campaigns.offer_terms import Code, Promise, Tiered
from campaigns.offers import promises_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "marketers" / "offers.md").read_text(encoding="utf-8")


def test_the_offers_of_the_page_are_accepted_and_are_of_every_kind(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    book = tmp_path / "campaigns" / "book"
    book.mkdir(parents=True)
    (book / "offers.yaml").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "campaigns" / "book" / "segments.yaml", book)
    offers = load_book(tmp_path).offers
    kinds = {type(offer.terms) for offer in offers.values()}
    assert kinds == {*get_args(Promise), Tiered}
    codes = {type(promise.terms.code) for offer in offers.values() for promise in promises_of(offer)}
    assert codes >= set(get_args(get_args(Code)[0]))


def test_every_key_of_an_offer_is_on_the_page() -> None:
    keys = {key for model in (*get_args(Promise), Tiered) for key in model.model_fields}
    assert sorted(key for key in keys if f"{key}:" not in PAGE) == []
