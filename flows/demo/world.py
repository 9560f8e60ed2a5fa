"""A seeded, believable shop whose hidden truth is known: customers, orders and events up to an instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.demo.baskets import CURRENCY, Baskets, discount, fill_baskets, usual_amounts
from flows.demo.dirt import BAD_LINES
from flows.demo.happenings import Happenings, make_happenings
from flows.demo.people import make_people
from flows.demo.purchases import Buyers, Floats, Instants, Purchases, Rows, ShopTime, make_history

if TYPE_CHECKING:
    import pandas as pd

WELCOME_CODE, WELCOME_SHARE, WELCOME_TAKEN = "WELCOME10", 0.1, 0.3
SALE_CODE, SALE_SHARE, SALE_TAKEN, SALE_MONTH = "NOVEMBER15", 0.15, 0.35, 11
NEGATIVE_EVERY, REFUND_LAG = 250, np.timedelta64(6, "D")
PREMIER, PLUS = 0.08, 0.3
YEAR, SECOND = np.timedelta64(365, "D"), np.timedelta64(1, "s")
ID_DIGITS = 7


@dataclass(frozen=True)
class Latent:
    """What nobody in the shop can see, one entry per customer in the order of `World.customers`."""

    buyers: Buyers
    usual_amount: Floats


@dataclass(frozen=True)
class World:
    """The shop as of an instant: three canonical tables, all before `as_of`, and the truth behind them.

    Instants are aware UTC, amounts major units of one currency. Texts that are not known are missing values.
    """

    customers: pd.DataFrame
    orders: pd.DataFrame
    events: pd.DataFrame
    as_of: datetime
    seed: int
    shop_time: ShopTime
    latent: Latent

    def write(self, folder: Path, *, dirt: bool = True) -> dict[str, Path]:
        """customers.csv, orders.csv and events.csv in `folder` (made where missing), by table name.

        With `dirt` each file ends in the few bad lines that every real export holds (see BAD_LINES); a loader must put
        exactly these into quarantine.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"customers": self.customers, "orders": self.orders, "events": self.events}
        return {
            name: write_table(frame, folder / f"{name}.csv", bad_lines=BAD_LINES[name] if dirt else ())
            for name, frame in tables.items()
        }


def make_world(*, customers: int, seed: int, as_of: datetime) -> World:
    """A shop with so many customers and two and a half years of history before `as_of` (an aware instant).

    The same arguments give the same world, byte for byte. Raises ValueError for a number below 1 or a naive instant.
    """
    if customers < 1:
        raise ValueError(f"customers: at least 1 expected, got {customers}")
    if as_of.tzinfo is None:
        raise ValueError("as_of: an instant with a time zone expected, got a naive one; add tzinfo=UTC")
    people_rng, history_rng, basket_rng, event_rng = (np.random.default_rng([seed, stream]) for stream in range(4))
    now = to_second(as_of)
    shop_time = ShopTime.until(as_of)
    arrived, buyers, purchases = make_history(customers, float(shop_time.of(now)), history_rng)
    bought_at = np.minimum(shop_time.calendar(purchases.shop_time), now - SECOND)
    latent = Latent(buyers, usual_amounts(customers, basket_rng))
    baskets = _price(purchases, bought_at, latent, basket_rng)
    ids = numbered("C", customers)
    columns = {
        "customer_id": ids,
        "created_at": shop_time.calendar(arrived),
        **make_people(ids, people_rng),
        "tier": _tiers(purchases.customer, baskets.amount * (bought_at >= now - YEAR), customers),
    }
    return World(
        customers=to_frame(columns),
        orders=_orders(ids, purchases.customer, bought_at, baskets, now),
        events=_events(ids, make_happenings(buyers, purchases.customer, bought_at, now, event_rng)),
        as_of=as_of,
        seed=seed,
        shop_time=shop_time,
        latent=latent,
    )


def write_table(frame: pd.DataFrame, path: Path, *, bad_lines: Sequence[str] = ()) -> Path:
    """The frame as CSV (UTF-8, a header, instants in ISO 8601 with a Z), then the bad lines as they are."""
    with path.open("w", encoding="utf-8", newline="") as out:
        _as_text(frame).to_csv(out, index=False, lineterminator="\n")
        out.writelines(line + "\n" for line in bad_lines)
    return path


def numbered(prefix: str, n: int) -> NDArray[np.str_]:
    """The ids prefix0000001 ... of n things."""
    digits = (np.arange(1, n + 1)[:, None] // 10 ** np.arange(ID_DIGITS - 1, -1, -1)) % 10 + ord("0")
    return np.char.add(prefix, digits.astype(np.uint32).view(f"U{ID_DIGITS}").ravel())


def to_second(at: datetime) -> np.datetime64:
    """An aware instant as numpy's UTC seconds."""
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "s")


def to_frame(columns: Mapping[str, NDArray[np.generic]]) -> pd.DataFrame:
    """A table of columns: instants become aware UTC, the empty text becomes missing."""
    import pandas as pd

    frame = pd.DataFrame(dict(columns))
    for name, column in columns.items():
        if column.dtype.kind == "M":
            frame[name] = frame[name].dt.tz_localize("UTC")
        elif column.dtype.kind == "U":
            frame[name] = frame[name].mask(column == "", None)
    return frame


def order_columns(customer_id: NDArray[np.str_], at: Instants, baskets: Baskets) -> dict[str, NDArray[np.generic]]:
    """The canonical columns of orders except the id, in the given order."""
    return {
        "customer_id": customer_id,
        "ordered_at": at,
        "amount": baskets.amount,
        "currency": np.full(at.size, CURRENCY),
        "margin": baskets.margin,
        "units": baskets.units,
        "category": baskets.category,
        "discount_code": baskets.discount_code,
        "status": baskets.status,
    }


def _price(purchases: Purchases, at: Instants, latent: Latent, rng: np.random.Generator) -> Baskets:
    baskets = fill_baskets(latent.usual_amount[purchases.customer], rng)
    luck = rng.random(at.size)
    welcome = (purchases.serial == 1) & (luck < WELCOME_TAKEN)
    month = at.astype("datetime64[M]").astype(np.int64) % 12 + 1
    sale = (purchases.serial > 1) & (month == SALE_MONTH) & (luck < SALE_TAKEN)
    return discount(discount(baskets, welcome, WELCOME_SHARE, WELCOME_CODE), sale, SALE_SHARE, SALE_CODE)


def _orders(ids: NDArray[np.str_], customer: Rows, at: Instants, baskets: Baskets, now: np.datetime64) -> pd.DataFrame:
    """Orders ascending in time with ids in that order; some purchases have a negative row of their own days later."""
    columns = order_columns(ids[customer], at, baskets)
    back = np.arange(at.size) % NEGATIVE_EVERY == NEGATIVE_EVERY - 1
    back &= (baskets.status == "completed") & (at < now - REFUND_LAG)
    refunds = {name: column[back] for name, column in columns.items()}
    refunds |= {name: -columns[name][back] for name in ("amount", "margin", "units")}
    refunds["ordered_at"] = at[back] + REFUND_LAG
    both = {name: np.concatenate([columns[name], refunds[name]]) for name in columns}
    in_time = np.lexsort((both["customer_id"], both["ordered_at"]))
    return to_frame({"order_id": numbered("O", in_time.size), **{name: both[name][in_time] for name in both}})


def _tiers(customer: Rows, spent: Floats, n: int) -> NDArray[np.str_]:
    """The shop's own loyalty tier: the best spenders of the last year."""
    spend = np.bincount(customer, weights=spent, minlength=n)
    rank = 1 - np.argsort(np.argsort(spend, kind="stable"), kind="stable") / n
    return np.where(
        spend <= 0, "standard", np.where(rank <= PREMIER, "premier", np.where(rank <= PLUS, "plus", "standard"))
    )


def _events(ids: NDArray[np.str_], found: Happenings) -> pd.DataFrame:
    return to_frame(
        {
            "event_id": numbered("E", found.at.size),
            "customer_id": ids[found.customer],
            "occurred_at": found.at,
            "event": found.event,
            "value": found.value,
            "properties": found.properties,
        }
    )


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with instants in ISO 8601 with a Z, as exports write them."""
    instants = {
        str(name): np.char.add(np.datetime_as_string(column.to_numpy(dtype="datetime64[s]"), unit="s"), "Z")
        for name, column in frame.items()
        if column.dtype.kind == "M"
    }
    return frame.assign(**instants)
