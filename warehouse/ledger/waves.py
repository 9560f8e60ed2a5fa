"""Waves: what one applied plan assigned and promised, recorded batch by batch, resumable after a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.ledger import dialect, frames, schema
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError, PlanConflictError
from warehouse.ledger.experiments import experiment
from warehouse.ledger.layers import Layer, held_by_rivals, lock_recorders
from warehouse.ledger.messages import message_key
from warehouse.ledger.programme_tables import withheld as withheld_table
from warehouse.ledger.types import instant_text

if TYPE_CHECKING:
    import pandas as pd

_T = schema.waves
_A = schema.assignments

ASSIGNMENT_COLUMNS: Final = ("customer_id", "arm")
ASSIGNMENT_OPTIONAL: Final[Mapping[str, Any]] = {"stratum": None, "unit": None}
WITHHELD_COLUMNS: Final = ("customer_id", "step", "channel", "zones", "at")
MESSAGE_COLUMNS: Final = (
    "customer_id", "step", "arm", "channel", "template", "not_before", "closes_at", "expires_at",
)  # fmt: skip
MESSAGE_OPTIONAL: Final[Mapping[str, Any]] = {
    "turn": 1,
    "fallback": "",
    "offer": None,
    "code": None,
    "locale": None,
    "unless": None,
    "zones": "",
    "place": "",
    "cost_micros": 0,
}
_NUMBERS: Final = ("step", "turn", "cost_micros")
_INSTANTS: Final = ("not_before", "closes_at", "expires_at")

NO_LAYER: Final = Layer()

BATCH_ROWS: Final = 50_000
"""Customers a transaction: large enough for bulk speed, small enough to keep other writers waiting under a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """One applied plan. `planned`: arm -> customers; `skipped`: reason -> customers left out before the draw.

    `weights`: arm -> share (0..1) that the draw aimed at; empty where nobody said (then those of the design). `layer`:
    whom the run must leave alone, looked up again as each batch is recorded.
    """

    experiment_id: str
    as_of: datetime
    assigned_at: datetime
    plan_hash: str
    config_hash: str
    facts_fingerprint: str
    planned: Mapping[str, int]
    skipped: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    tzdata: str = ""
    """The version of the time-zone rules the plan was made with."""
    layer: Layer = NO_LAYER

    @property
    def wave_id(self) -> str:
        """Its id: the experiment and the as-of instant."""
        return wave_id_of(self.experiment_id, self.as_of)


def wave_id_of(experiment_id: str, as_of: datetime) -> str:
    """Give the id of the wave of an as-of instant."""
    return f"{experiment_id}@{instant_text(as_of)}"


@dataclass(frozen=True, slots=True)
class WaveBatch:
    """Customers with all their messages, as columns (pandas frames, or mappings of sequences).

    `assignments`: customer_id, arm (control included); optionally stratum, unit (what was drawn, where that is not the
    customer). `withheld`: customer_id, step, channel, zones, at: what control would have been sent. `messages`:
    customer_id, step (whole number from 0), arm, channel, template, not_before, closes_at, expires_at (aware instants);
    optionally turn (from 1: the how-manieth message of its step), fallback (channels left to try, joined by commas),
    offer, code, locale, unless (reasons, one a line), zones (IANA names joined by commas), place (US-TX, FR or empty),
    cost_micros (expected cost in millionths of the currency unit).
    """

    assignments: pd.DataFrame | Mapping[str, Sequence[Any]]
    messages: pd.DataFrame | Mapping[str, Sequence[Any]] | None = None
    withheld: pd.DataFrame | Mapping[str, Sequence[Any]] | None = None


@dataclass(frozen=True, slots=True)
class WaveSummary:
    """What a wave holds, by arm.

    `already_assigned`: customers whom an earlier wave had given an arm; they were left alone. `resumed`: the wave had
    been begun, or completed, before this call. `taken`: customers whom another campaign of the layer took meanwhile.
    """

    wave_id: str
    assigned: Mapping[str, int]
    messages: Mapping[str, int]
    already_assigned: int
    resumed: bool
    taken: int = 0


@dataclass(frozen=True, slots=True)
class WaveRow:
    """One wave as recorded; `recorded` holds the counts of a complete one."""

    wave_id: str
    experiment_id: str
    as_of: datetime
    assigned_at: datetime
    plan_hash: str
    config_hash: str
    facts_fingerprint: str
    planned: Mapping[str, int]
    skipped: Mapping[str, int]
    weights: Mapping[str, float]
    tzdata: str
    recorded: Mapping[str, Any] | None
    status: str


def wave_batches(
    assignments: pd.DataFrame,
    messages: pd.DataFrame | None = None,
    withheld: pd.DataFrame | None = None,
    *,
    rows: int = BATCH_ROWS,
) -> Iterator[WaveBatch]:
    """Cut whole frames into batches by customer, in customer order, each customer with all that is of it.

    Frames that are sorted by customer_id already are not copied.
    """
    assignments = _in_order(assignments)
    others = [None if frame is None else _in_order(frame) for frame in (messages, withheld)]
    # once: searching an Arrow column converts it each time
    keys = [None if frame is None else frame["customer_id"].to_numpy(dtype=object) for frame in others]
    for start in range(0, len(assignments), rows):
        part = assignments.iloc[start : start + rows]
        first, last = part["customer_id"].iloc[0], part["customer_id"].iloc[-1]
        cut = [
            None if frame is None or of is None else frame.iloc[of.searchsorted(first) : of.searchsorted(last, "right")]
            for frame, of in zip(others, keys, strict=True)
        ]
        yield WaveBatch(part, *cut)


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    if frame["customer_id"].is_monotonic_increasing:
        return frame
    return frame.sort_values("customer_id", kind="stable", ignore_index=True)


def record_wave(
    ledger: Ledger,
    wave: Wave,
    batches: Iterable[WaveBatch],
    *,
    opening: Callable[[sa.Connection], None] | None = None,
) -> WaveSummary:
    """Record assignments and messages, one transaction a batch; idempotent per (experiment_id, as_of).

    Killed in the middle it leaves whole batches; a second call with the same rows completes the wave, a call on a
    complete wave changes nothing (the batches are not read). A customer who has an arm already, from an earlier wave,
    keeps it and gets no new message; one whom another campaign of the layer holds by now is left to that one.

    `opening` acts in the transaction that opens the wave, before its first row: what it refuses leaves nothing behind.

    Raises PlanConflictError when another plan was recorded for the same as-of instant; LedgerError when rows contradict
    what is recorded, name a customer twice, send to control, or when the counts are not those planned.
    """
    resumed, control = _open_wave(ledger, wave, opening)
    recorded = _recorded(ledger, wave.wave_id)
    if recorded is not None:
        return WaveSummary(wave.wave_id, resumed=True, **recorded)
    left_alone = LeftAlone()
    for batch in batches:
        _record_batch(ledger, wave, batch, control, left_alone)
    return _complete(ledger, wave, left_alone, resumed=resumed)


def waves(tx: sa.Connection, experiment_id: str) -> list[WaveRow]:
    """List the experiment's waves in order of as-of."""
    query = sa.select(_T).where(_T.c.experiment_id == experiment_id).order_by(_T.c.as_of)
    return [WaveRow(**row) for row in tx.execute(query).mappings()]


def find_wave(tx: sa.Connection, experiment_id: str, as_of: datetime) -> WaveRow | None:
    """Give the wave of an as-of instant, complete or not."""
    query = sa.select(_T).where(_T.c.experiment_id == experiment_id, _T.c.as_of == as_of)
    row = tx.execute(query).mappings().first()
    return None if row is None else WaveRow(**row)


def _open_wave(ledger: Ledger, wave: Wave, opening: Callable[[sa.Connection], None] | None) -> tuple[bool, str]:
    with ledger.begin() as tx:
        row = experiment(tx, wave.experiment_id)
        lock_recorders(tx, wave.experiment_id, ())
        control = str(row.design.get("control", "control"))
        found = find_wave(tx, wave.experiment_id, wave.as_of)
        if found is None:
            if row.status != "running":
                raise LedgerError(f"experiment {wave.experiment_id} has ended; no new wave can be recorded")
            mappings = ("planned", "skipped", "weights")
            values = {name: getattr(wave, name) for name in Wave.__slots__ if name not in (*mappings, "layer")}
            counts = {name: dict(getattr(wave, name)) for name in mappings}
            tx.execute(sa.insert(_T).values(wave_id=wave.wave_id, **values, **counts))
            if opening is not None:
                opening(tx)
            return False, control
        if found.plan_hash != wave.plan_hash:
            raise PlanConflictError(
                f"experiment {wave.experiment_id}: another plan ({found.plan_hash[:12]}) was recorded as of "
                f"{wave.as_of.isoformat()}, this one is {wave.plan_hash[:12]}; apply that one, or plan as of later"
            )
        return True, control


def _recorded(ledger: Ledger, wave_id: str) -> dict[str, Any] | None:
    with ledger.read() as tx:
        found: dict[str, Any] | None = tx.execute(sa.select(_T.c.recorded).where(_T.c.wave_id == wave_id)).scalar()
        return found


@dataclass(slots=True)
class LeftAlone:
    """Planned customers who were not recorded, by arm: with an arm of an earlier wave, or in a rival's by now."""

    already: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)

    def of(self, arm: str) -> int:
        """How many of an arm."""
        return self.already.get(arm, 0) + self.taken.get(arm, 0)


def _record_batch(ledger: Ledger, wave: Wave, batch: WaveBatch, control: str, left_alone: LeftAlone) -> None:
    """Write one batch, and count who is left alone."""
    people = frames.as_frame(
        batch.assignments, needed=ASSIGNMENT_COLUMNS, optional=ASSIGNMENT_OPTIONAL, name="assignments"
    ).sort_values("customer_id", kind="stable")
    if people.empty:
        return
    messages = frames.as_frame(
        {c: [] for c in MESSAGE_COLUMNS} if batch.messages is None else batch.messages,
        needed=MESSAGE_COLUMNS,
        optional=MESSAGE_OPTIONAL,
        name="messages",
    ).sort_values(["customer_id", "step", "turn"], kind="stable")
    _check_batch(people, messages, control)
    withheld = frames.as_frame(
        {c: [] for c in WITHHELD_COLUMNS} if batch.withheld is None else batch.withheld,
        needed=WITHHELD_COLUMNS,
        optional={},
        name="withheld",
    )
    with ledger.begin() as tx:
        lock_recorders(tx, wave.experiment_id, wave.layer.rivals)
        customers = people["customer_id"].tolist()
        existing = _existing(tx, wave.experiment_id, customers)
        if existing:
            _count(left_alone.already, _check_existing(existing, people, wave))
        taken = _taken(tx, wave, customers) - existing.keys()
        if taken:
            _count(left_alone.taken, Counter(people["arm"][people["customer_id"].isin(taken)].tolist()))
        if gone := {*existing, *taken}:
            people, messages, withheld = (
                frame[~frame["customer_id"].isin(gone)] for frame in (people, messages, withheld)
            )
        _insert(tx, wave, people, messages)
        _withhold(tx, wave, withheld)


def _count(total: dict[str, int], more: Mapping[str, int]) -> None:
    for arm, n in more.items():
        total[arm] = total.get(arm, 0) + int(n)


def _taken(tx: sa.Connection, wave: Wave, customers: Sequence[str]) -> set[str]:
    """Find those whom a rival holds by now, whatever a plan that was made before says."""
    if not wave.layer.rivals:
        return set()
    horizon = timedelta(days=float(experiment(tx, wave.experiment_id).design["horizon_days"]))
    return held_by_rivals(tx, wave.layer, customers, start=wave.assigned_at, horizon=horizon)


def _check_batch(people: pd.DataFrame, messages: pd.DataFrame, control: str) -> None:
    """Refuse a customer named twice, and a message without assignment, of another arm, or to control."""
    twice = people["customer_id"].duplicated()
    if twice.any():
        raise LedgerError(f"assignments: customer {people['customer_id'][twice].iloc[0]} is named twice in one batch")
    if messages.empty:
        return
    arms = messages["customer_id"].map(people.set_index("customer_id")["arm"])
    stray = arms.isna()
    if stray.any():
        raise LedgerError(
            f"messages: customer {messages['customer_id'][stray].iloc[0]} has no assignment in the same batch; "
            "a batch holds customers with all their messages"
        )
    wrong = (arms != messages["arm"]) | (arms == control)
    if wrong.any():
        row = messages[wrong].iloc[0]
        raise LedgerError(
            f"messages: customer {row['customer_id']} of arm {arms[wrong].iloc[0]} has a message of arm {row['arm']}; "
            f"messages go to the customer's own arm, and never to {control}"
        )


def _existing(tx: sa.Connection, experiment_id: str, customers: list[str]) -> dict[str, tuple[str, str]]:
    """Find those of `customers` (sorted, so a range will do) who have an arm: customer -> (wave, arm)."""
    query = sa.select(_A.c.customer_id, _A.c.wave_id, _A.c.arm).where(
        _A.c.experiment_id == experiment_id, _A.c.customer_id >= customers[0], _A.c.customer_id <= customers[-1]
    )
    wanted = set(customers)
    return {row[0]: (row[1], row[2]) for row in tx.execute(query) if row[0] in wanted}


def _check_existing(existing: Mapping[str, tuple[str, str]], people: pd.DataFrame, wave: Wave) -> dict[str, int]:
    already: dict[str, int] = {}
    for customer, arm in zip(people["customer_id"], people["arm"], strict=True):
        if customer not in existing:
            continue
        wave_id, recorded_arm = existing[customer]
        if wave_id != wave.wave_id:
            already[arm] = already.get(arm, 0) + 1
        elif recorded_arm != arm:
            raise LedgerError(
                f"wave {wave.wave_id}: customer {customer} is recorded in arm {recorded_arm}, this call says {arm}; "
                "resume with the same rows"
            )
    return already


def _insert(tx: sa.Connection, wave: Wave, people: pd.DataFrame, messages: pd.DataFrame) -> None:
    of_wave = {
        "experiment_id": wave.experiment_id,
        "wave_id": wave.wave_id,
        "assigned_at": instant_text(wave.assigned_at),
    }
    columns = {name: frames.texts(people[name]) for name in ("customer_id", "arm", "stratum", "unit")}
    dialect.insert_rows(tx, _A, columns | {name: [value] * len(people) for name, value in of_wave.items()})
    dialect.insert_rows(tx, schema.outbox, _message_columns(wave, messages))


def _message_columns(wave: Wave, messages: pd.DataFrame) -> dict[str, Sequence[Any]]:
    """Write a batch's messages as columns of the outbox."""
    columns: dict[str, Sequence[Any]] = {}
    for name in (*MESSAGE_COLUMNS, *MESSAGE_OPTIONAL):
        write = frames.integers if name in _NUMBERS else frames.instants if name in _INSTANTS else frames.texts
        columns[name] = write(messages[name])
    places = zip(columns["customer_id"], columns["step"], columns["turn"], strict=True)
    columns["message_key"] = [message_key(wave.experiment_id, *place) for place in places]
    columns["experiment_id"] = [wave.experiment_id] * len(messages)
    columns["updated_at"] = [instant_text(wave.assigned_at)] * len(messages)
    return columns


def _withhold(tx: sa.Connection, wave: Wave, withheld: pd.DataFrame) -> None:
    dialect.insert_rows(
        tx,
        withheld_table,
        {
            "customer_id": frames.texts(withheld["customer_id"]),
            "experiment_id": [wave.experiment_id] * len(withheld),
            "step": frames.integers(withheld["step"]),
            "channel": frames.texts(withheld["channel"]),
            "zones": frames.texts(withheld["zones"]),
            "at": frames.instants(withheld["at"]),
        },
    )


def _complete(ledger: Ledger, wave: Wave, left_alone: LeftAlone, *, resumed: bool) -> WaveSummary:
    """Count what the wave holds, compare with the plan, and close it."""
    with ledger.begin() as tx:
        lock_recorders(tx, wave.experiment_id, ())
        assigned = _count_by_arm(tx, wave, sa.select(_A.c.arm, sa.func.count()).select_from(_A))
        for arm in sorted({*wave.planned, *assigned, *left_alone.already}):
            planned, found = wave.planned.get(arm, 0), assigned.get(arm, 0) + left_alone.of(arm)
            if found != planned:
                raise LedgerError(
                    f"wave {wave.wave_id}: planned {planned} customers in arm {arm}, recorded {found}; "
                    "the wave stays open: call again with all rows of the plan"
                )
        o = schema.outbox
        joined = _A.join(o, (o.c.experiment_id == _A.c.experiment_id) & (o.c.customer_id == _A.c.customer_id))
        messages = _count_by_arm(tx, wave, sa.select(_A.c.arm, sa.func.count()).select_from(joined))
        recorded: dict[str, Any] = {
            "assigned": assigned,
            "messages": messages,
            "already_assigned": sum(left_alone.already.values()),
        }
        if left_alone.taken:
            recorded["taken"] = sum(left_alone.taken.values())
        done = sa.update(_T).where(_T.c.wave_id == wave.wave_id, _T.c.status == "open")
        tx.execute(done.values(status="complete", recorded=recorded))
        return WaveSummary(wave.wave_id, resumed=resumed, **recorded)


def _count_by_arm(tx: sa.Connection, wave: Wave, query: sa.Select[Any]) -> dict[str, int]:
    query = query.where(_A.c.experiment_id == wave.experiment_id, _A.c.wave_id == wave.wave_id)
    return {arm: int(n) for arm, n in tx.execute(query.group_by(_A.c.arm).order_by(_A.c.arm))}
