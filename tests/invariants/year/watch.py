"""What must be true at the end of every day: read off the ledger's file by plain SQL, and off the oracle."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.invariants.year.outside import TOPICS, Sent, Truth, fraction, same_day, same_week, sends_within
from tests.invariants.year.shop import DAY

LAYER: Final = {"winback": timedelta(days=30), "slipping": timedelta(days=21)}
REST: Final = {"winback": timedelta(days=7), "slipping": timedelta(0)}
REENTRY: Final = {"winback": 120, "birthday": 300, "care": 60, "best": 150}
COST: Final = {"sms": 20_000, "email": 10_000, "push": 0}
PREFIXES: Final = {"coupon": "CP", "hello": "HI", "cake": "BD", "morning": "SHIPFREE", "night": "SHIPFREE"}
ASIDE: Final = """
    CREATE TABLE seen.assigned (
        experiment_id TEXT, customer_id TEXT, arm TEXT, assigned_at TEXT, PRIMARY KEY (experiment_id, customer_id)
    ) WITHOUT ROWID;
    CREATE TABLE seen.taken (message_key TEXT PRIMARY KEY, channel TEXT) WITHOUT ROWID;
    CREATE TABLE seen.final (message_key TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID;
"""


class Watch:
    """Looks at the ledger from outside, by a connection of its own, and remembers what it saw the day before."""

    def __init__(self, ledger: Path, truth: Truth) -> None:
        self.truth = truth
        self.db = sqlite3.connect(ledger, isolation_level=None)
        self.db.execute("PRAGMA cache_size = -65536")  # every evening the whole ledger is read
        self.db.execute("ATTACH ':memory:' AS seen")
        self.db.executescript(ASIDE)
        self.codes: dict[str, tuple[str, str]] = {}
        self.code_of: dict[tuple[str, str], str] = {}
        self.held: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
        self.controls: dict[str, set[str]] = defaultdict(set)
        self.limits: dict[str, tuple[int | None, int | None]] = {"winback": (6500, 120_000_000)}
        self.days = 0
        self.pseudonyms: dict[str, str] = {}

    def close(self) -> None:
        self.db.close()

    def check(self) -> None:
        """Assert all of it for the day that ends, and begin a new one."""
        self.note_failures()
        self.check_arms()
        self.check_sums()
        self.check_fates()
        self.check_caps()
        self.check_budgets()
        self.check_codes()
        self.truth.today.clear()
        self.days += 1

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.db.execute(query, values).fetchall()

    def none(self, what: str, query: str) -> None:
        """No row answers the query."""
        found = self.ask(query + " LIMIT 5")
        assert not found, f"{what}: {found}"

    def note_failures(self) -> None:
        """Of what did not arrive: when the ledger came to know, be it later than the receipt or under a new name."""
        for key, sent in list(self.truth.bounced.items()):
            name = self.named(key, sent.customer)
            for (at,) in self.ask("SELECT settled_at FROM outbox WHERE message_key = ? AND state = 'failed'", name):
                sent.failed_at = datetime.fromisoformat(at)
                del self.truth.bounced[key]

    def check_arms(self) -> None:
        """Nobody changes arm or loses it; nobody is in two campaigns of the layer at once, or comes back too soon."""
        kept = "SELECT s.*, a.arm FROM seen.assigned s LEFT JOIN assignments a USING (experiment_id, customer_id)"
        self.none("changed or lost an arm", f"{kept} WHERE a.arm IS NOT s.arm")
        new = self.ask(
            "SELECT a.experiment_id, a.customer_id, a.arm, a.assigned_at FROM assignments a "
            "LEFT JOIN seen.assigned s USING (experiment_id, customer_id) WHERE s.arm IS NULL "
            "ORDER BY a.assigned_at, a.experiment_id"
        )
        for experiment, customer, arm, at in new:
            self._admit(experiment, customer, arm, datetime.fromisoformat(at))
        self.db.executemany("INSERT INTO seen.assigned VALUES (?, ?, ?, ?)", new)
        stray = "SELECT o.message_key FROM outbox o JOIN assignments a USING (experiment_id, customer_id)"
        self.none("a message of another arm, or of control", f"{stray} WHERE o.arm <> a.arm OR a.arm = 'control'")

    def _admit(self, experiment: str, customer: str, arm: str, at: datetime) -> None:
        campaign, _, epoch = experiment.rpartition(":")
        if customer not in self.truth.people:
            return  # erased on the very day of the assignment: the row bears the pseudonym
        assert not self.truth.people[customer].erased, f"{customer} was erased and takes part in {experiment}"
        for other, then in self.held[customer]:
            if campaign in LAYER and other in LAYER and other != campaign:
                free = then + LAYER[other] + REST[campaign]
                assert at >= free, f"{customer} is in {other} until {free} and in {campaign} from {at}"
            if other == campaign:
                again = then + REENTRY.get(campaign, 10_000) * DAY
                assert at >= again, f"{customer} is in {campaign} at {then} and again at {at}"
        self.held[customer].append((campaign, at))
        if arm == "control":
            self.controls[experiment].add(customer)
        elif (campaign, epoch) == ("winback", "2") and customer in self.controls["winback:1"]:
            stays = fraction("the year.holdback.winback", customer) < 0.1 / 0.3
            assert not stays, f"{customer} is of the holdback, and was given the winner"

    def check_sums(self) -> None:
        """Planned = sent + failed + skipped + in doubt + pending in every arm; states only go forward."""
        planned: dict[tuple[str, str], int] = defaultdict(int)
        for experiment, arm, n in self.ask(
            "SELECT experiment_id, j.key, sum(j.value) FROM waves, json_each(waves.recorded, '$.messages') j GROUP BY 1, 2"
        ):
            planned[experiment, arm] += n
        found: dict[tuple[str, str], int] = defaultdict(int)
        for experiment, arm, _, follows, n in self.ask(
            "SELECT experiment_id, arm, state, hop > 0, count(*) FROM outbox GROUP BY 1, 2, 3, 4"
        ):
            found[experiment, arm] += n
            planned[experiment, arm] += n if follows else 0
        assert {k: n for k, n in planned.items() if n} == dict(found)
        self.none("the books", _BOOKS)
        back = "SELECT f.message_key, f.state, o.state FROM seen.final f LEFT JOIN outbox o USING (message_key) WHERE "
        gone = "o.state IS NULL OR o.state NOT IN ('sent', 'delivered', 'failed', 'skipped')"
        forward = "f.state IN ('failed', 'skipped') AND o.state <> f.state"
        self.none("went back", back + f"{gone} OR ({forward}) OR (f.state = 'delivered' AND o.state = 'sent')")
        self.ask(
            "INSERT OR REPLACE INTO seen.final SELECT o.message_key, o.state FROM outbox o "
            "LEFT JOIN seen.final f USING (message_key) "
            "WHERE o.state IN ('sent', 'delivered', 'failed', 'skipped') AND f.state IS NOT o.state"
        )

    def check_fates(self) -> None:
        """What a provider took the ledger does not deny, and what it calls sent a provider took."""
        taken = [(self.named(sent.key, sent.customer), sent.channel) for sent in self.truth.today]
        self.db.executemany("INSERT INTO seen.taken VALUES (?, ?)", taken)
        denied = "SELECT t.message_key, o.state FROM seen.taken t LEFT JOIN outbox o USING (message_key) WHERE "
        # only where a key is honoured may a message that was taken wait to be sent once more
        self.none("denied", denied + "o.state IS NULL OR (t.channel <> 'email' AND o.state IN ('pending', 'skipped'))")
        self.none(
            "made up",
            "SELECT o.message_key FROM outbox o LEFT JOIN seen.taken t USING (message_key) "
            "WHERE o.state IN ('sent', 'delivered') AND t.message_key IS NULL",
        )

    def check_caps(self) -> None:
        """Counted anew, over all campaigns, by what really reached each customer."""
        for sent in self.truth.today:
            mine = self.truth.of_customer[sent.customer]
            zone = self.truth.people[sent.customer].zone
            week = sends_within(mine, sent.at, 8 * DAY)
            lately = sends_within(week, sent.at, 7 * DAY)
            text = f"{sent.key} at {sent.at}: {[(s.key, s.at.isoformat()) for s in week]}"
            assert len(lately) <= 4, f"more than 4 in 7 days: {text}"
            assert len(sends_within(week, sent.at, timedelta(hours=20))) <= 1, f"no 20 hours between: {text}"
            assert sent.channel != "sms" or sum(_is_text_of(s, sent, zone) for s in week) <= 1, (
                f"two texts a day: {text}"
            )
            offers = [s for s in week if TOPICS.get(s.campaign) == "offers" and same_week(s.at, sent.at, zone)]
            assert TOPICS.get(sent.campaign) != "offers" or len(offers) <= 2, f"more than 2 offers a week: {text}"
            if sent.campaign == "winback":
                assert len(lately) <= 3, f"more than 3 in 7 days for winback: {text}"
            if sent.campaign == "best":
                assert len(sends_within(mine, sent.at, 3 * DAY)) <= 1, f"no 3 days between: {text}"

    def check_budgets(self) -> None:
        """No campaign has used up more than it may, by what was taken."""
        for campaign, (messages, cost) in self.limits.items():
            taken = [s for s in self.truth.of_campaign[campaign] if s.failed_at is None]
            assert messages is None or len(taken) <= messages
            assert cost is None or sum(COST[s.channel] for s in taken) <= cost
        promised = self.ask("SELECT coalesce(sum(cost_micros), 0) FROM promises WHERE campaign = 'best'")[0][0]
        assert promised <= 1_200_000_000

    def check_codes(self) -> None:
        """A code of one's own, the same in every message of an experiment."""
        for sent in self.truth.today:
            owner = (sent.experiment, sent.customer)
            assert self.code_of.setdefault(owner, sent.code) == sent.code, f"{sent.key}: another code than before"
            if sent.code in ("-", "SHIPFREE"):
                assert (sent.code == "SHIPFREE") == (sent.campaign == "slipping"), f"{sent.key}: {sent.code}"
                continue
            assert self.codes.setdefault(sent.code, owner) == owner, f"{sent.code} was given to two"
            assert sent.code.startswith(PREFIXES.get(sent.arm, ("GO", "SI"))), f"{sent.key}: {sent.code}"  # type: ignore[arg-type]

    def named(self, key: str, customer: str) -> str:
        """The key that a message has by now."""
        return key.replace(f"/{customer}/", f"/{self.pseudonyms.get(customer, customer)}/")

    def forget(self, customer: str, pseudonym: str) -> None:
        """After an erasure: the rows bear the pseudonym from now on."""
        self.pseudonyms[customer] = pseudonym
        self.ask("UPDATE seen.assigned SET customer_id = ? WHERE customer_id = ?", pseudonym, customer)
        for table in ("taken", "final"):
            keys = self.ask(f"SELECT message_key FROM seen.{table} WHERE message_key LIKE ?", f"%/{customer}/%")
            for (key,) in keys:
                renamed = key.replace(f"/{customer}/", f"/{pseudonym}/")
                self.ask(f"UPDATE seen.{table} SET message_key = ? WHERE message_key = ?", renamed, key)

    def check_forgotten(self, customer: str) -> None:
        """No row of any table names an erased customer, in any column."""
        for (table,) in self.ask("SELECT name FROM main.sqlite_master WHERE type = 'table'"):
            columns = [row[1] for row in self.ask(f"PRAGMA main.table_info({table})")]
            named = " || ' ' || ".join(f"coalesce({column}, '')" for column in columns)
            self.none(f"{customer} stands in {table}", f"SELECT 1 FROM main.{table} WHERE instr({named}, '{customer}')")

    def states(self, keys: list[str]) -> list[tuple[Any, ...]]:
        """The state of some messages, and what their campaigns have used up."""
        marks = ",".join("?" * len(keys))
        rows = self.ask(
            f"SELECT message_key, state, reason FROM outbox WHERE message_key IN ({marks}) ORDER BY 1", *keys
        )
        return rows + self.ask("SELECT * FROM budgets ORDER BY campaign")

    def reasons(self) -> set[str]:
        """Every reason that stands in the ledger."""
        return {row[0] for row in self.ask("SELECT DISTINCT reason FROM outbox WHERE reason IS NOT NULL")} | {
            row[0] for row in self.ask("SELECT DISTINCT reason FROM message_events WHERE reason IS NOT NULL")
        }


def _is_text_of(sent: Sent, other: Sent, zone: str) -> bool:
    return sent.channel == "sms" and same_day(sent.at, other.at, zone)


_BOOKS: Final = """
    SELECT b.campaign, b.messages, b.cost_micros, found.n, found.cost FROM budgets b LEFT JOIN (
        SELECT e.campaign AS campaign, count(*) AS n, sum(o.cost_micros) AS cost FROM outbox o
        JOIN experiments e USING (experiment_id)
        WHERE o.state IN ('claimed', 'sending', 'sent', 'delivered', 'in_doubt') GROUP BY 1
    ) found USING (campaign)
    WHERE b.messages <> coalesce(found.n, 0) OR b.cost_micros <> coalesce(found.cost, 0)
"""
