"""The targets of short links: a number once given stays, and only pages over TLS are kept."""

from __future__ import annotations

import pytest

from tests.warehouse.ledger.story import keys_of, record, start, take
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.short_links import number_targets, target_of


def test_a_number_once_given_stays_and_leads_to_the_newest_page(ledger: Ledger) -> None:
    record(ledger, start(ledger))
    one, other = keys_of(take(ledger))[:2]
    page = "https://shop.example/a"
    first = number_targets(ledger, [(one, 0, page), (one, 2, page), (other, 0, page), (other, 0, page)])
    assert first.keys() == {(one, 0), (one, 2), (other, 0)}
    assert len(set(first.values())) == 3
    again = number_targets(ledger, [(one, 0, "https://shop.example/b")])
    assert again == {(one, 0): first[one, 0]}
    with ledger.read() as tx:
        found = target_of(tx, first[one, 0])
        assert target_of(tx, 10_000) is None
    assert found is not None
    assert (found.message_key, found.position, found.url, found.channel) == (one, 0, "https://shop.example/b", "sms")
    assert number_targets(ledger, []) == {}


@pytest.mark.parametrize("url", ["http://shop.example/", "javascript:alert(1)", ""])
def test_the_database_keeps_pages_over_tls_only(ledger: Ledger, url: str) -> None:
    record(ledger, start(ledger))
    key = keys_of(take(ledger))[0]
    with pytest.raises(LedgerError):
        number_targets(ledger, [(key, 0, url)])


def test_a_link_belongs_to_a_message_that_there_is(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        number_targets(ledger, [("winback:1/nobody/1", 0, "https://shop.example/")])
