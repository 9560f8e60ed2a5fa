"""Whom a message or an unsubscribe link belongs to (customers by id, never by address), and how the message stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from campaigns.words import EVERY_TOPIC
from warehouse.ledger import dialect, schema
from warehouse.ledger.engine import Ledger

_L = schema.unsubscribe_links
_O = schema.outbox


def customers_of_messages(tx: sa.Connection, keys: Iterable[str]) -> dict[str, str]:
    """Give the customer of each of these messages by key; keys of no message are left out."""
    query = sa.select(_O.c.message_key, _O.c.customer_id).where(dialect.among(tx, _O.c.message_key, keys))
    return {row.message_key: row.customer_id for row in tx.execute(query)}


def keys_of_customer(tx: sa.Connection, customer_id: str) -> list[str]:
    """Give the keys of all messages to a customer, sorted."""
    query = sa.select(_O.c.message_key).where(_O.c.customer_id == customer_id).order_by(_O.c.message_key)
    return list(tx.execute(query).scalars())


def standing_of_message(tx: sa.Connection, message_key: str) -> tuple[str, int] | None:
    """Give the state and the fence of a message, None where there is no such message."""
    row = tx.execute(sa.select(_O.c.state, _O.c.fence).where(_O.c.message_key == message_key)).first()
    return None if row is None else (row.state, row.fence)


def number_links(ledger: Ledger, customer_ids: Sequence[str], topic: str = EVERY_TOPIC) -> dict[str, int]:
    """Give each customer the number of his or her unsubscribe link of a topic, from 1 on; a number once given stays."""
    wanted = sorted(set(customer_ids))
    with ledger.read() as tx:
        found = _numbers(tx, wanted, topic)
    missing = [customer for customer in wanted if customer not in found]
    if missing:
        with ledger.begin(durable=False) as tx:  # a durable intent follows before any link leaves
            rows = [{"customer_id": customer, "topic": topic} for customer in missing]
            tx.execute(
                sa.text(
                    "INSERT INTO unsubscribe_links (customer_id, topic) VALUES (:customer_id, :topic) "
                    "ON CONFLICT DO NOTHING"
                ),
                rows,
            )
            found |= _numbers(tx, missing, topic)
    return found


def customer_of_link(tx: sa.Connection, link_id: int) -> str | None:
    """Give the customer whose unsubscribe link has this number, None where there is none."""
    customer: str | None = tx.execute(sa.select(_L.c.customer_id).where(_L.c.link_id == link_id)).scalar()
    return customer


def topic_of_link(tx: sa.Connection, link_id: int) -> str:
    """Give the topic of the messages an unsubscribe link stands in, "all" where none is known."""
    topic: str | None = tx.execute(sa.select(_L.c.topic).where(_L.c.link_id == link_id)).scalar()
    return topic or EVERY_TOPIC


def _numbers(tx: sa.Connection, customer_ids: Sequence[str], topic: str) -> dict[str, int]:
    query = sa.select(_L.c.customer_id, _L.c.link_id).where(
        dialect.among(tx, _L.c.customer_id, customer_ids), _L.c.topic == topic
    )
    return {row.customer_id: row.link_id for row in tx.execute(query)}
