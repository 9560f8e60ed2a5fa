"""Local time: which moments a window, the quiet hours and every zone a customer may live in allow together.

The time-zone rules are those of the tzdata wheel, never the operating system's copy: the two differ, and a decision
must not depend on the machine it was taken on.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

import tzdata  # type: ignore[import-untyped]  # a data package without annotations

from campaigns.public_holidays import public_holidays

SEARCH_DAYS: Final = 28
"""How far ahead a slot is looked for; a weekly window whose hour falls into a clock change comes again well before."""

_LOOKS_DAYS: Final = (2, 8, SEARCH_DAYS)
"""Most slots open soon: so many days are looked through first, and more only where these do not tell."""

_DAY_S: Final = 86_400
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday
_NOT_A_PLACE: Final = frozenset({"Factory"})  # in tzdata, but it means "nobody has set the zone"

_Span = tuple[int, int]  # [opens, closes) in microseconds since 1970-01-01, UTC or local
_LocalSpans = Callable[[int, int], Iterable[_Span]]  # the openings of the local days first..last
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """Local hours of the week: on `days` (0 = Monday) from `opens` until just before `closes`.

    A window that closes no later than it opens runs over midnight and belongs to the day on which it opened; with both
    clock times equal it lasts until the same time of the next day. What counts is what the local calendar and clock
    show: an hour the clock skips never comes, an hour it repeats counts both times.
    """

    days: frozenset[int]
    opens: time
    closes: time

    def __post_init__(self) -> None:
        if not self.days <= frozenset(range(7)):
            raise ValueError(f"window days must be 0 (Monday) to 6 (Sunday), got {sorted(self.days)}")
        if self.opens.tzinfo is not None or self.closes.tzinfo is not None:
            raise ValueError("window clock times are the customer's local time and carry no time zone")

    @property
    def overnight(self) -> bool:
        """Whether the window runs over midnight."""
        return self.closes <= self.opens

    def holds(self, local: datetime) -> bool:
        """Whether the local wall-clock time `local` lies in the window."""
        clock, weekday = local.time(), local.weekday()
        if not self.overnight:
            return weekday in self.days and self.opens <= clock < self.closes
        opened_today = weekday in self.days and clock >= self.opens
        return opened_today or ((weekday - 1) % 7 in self.days and clock < self.closes)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What narrows a window whatever the campaign says: all of `hours` must allow a moment, `quiet` must not hold it.

    Each item of `hours` is a set of windows of which one must hold the moment. On the public holidays of the places in
    `closed` (FR, US-TX) nothing leaves.
    """

    hours: tuple[tuple[Window, ...], ...] = ()
    quiet: Window | None = None
    closed: tuple[str, ...] = ()

    def allow(self, local: datetime) -> bool:
        """Whether the local wall-clock time `local` is within the bounds."""
        if self.quiet is not None and self.quiet.holds(local):
            return False
        if any(local.date() in public_holidays(place, local.year) for place in self.closed):
            return False
        return all(any(window.holds(local) for window in windows) for windows in self.hours)

    def with_hours(self, *windows: Window) -> Bounds:
        """These bounds with further hours that must allow a moment; of `windows` one must hold it."""
        return Bounds((*self.hours, windows), self.quiet, self.closed)


UNBOUND: Final = Bounds()
"""No bounds: only the window counts."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A stretch of time in which a message may leave: from `opens_at` until just before `closes_at` (aware UTC)."""

    opens_at: datetime
    closes_at: datetime


def use_wheel_tzdata() -> None:
    """Make the whole process read time zones from the tzdata wheel; calling it again changes nothing.

    This module reads the wheel in any case; the call brings every other user of `zoneinfo` to the same rules.
    """
    if zoneinfo.TZPATH:
        zoneinfo.reset_tzpath(())
        ZoneInfo.clear_cache()


def tzdata_version() -> str:
    """The version of the time-zone rules in use, such as "2026f"; recorded beside every plan."""
    return str(tzdata.IANA_VERSION)


def candidate_zones(time_zone: str | None, country: str | None) -> tuple[str, ...]:
    """Every zone in which a customer may live: the profile's own, else all zones of the country, else none.

    `country` is an ISO 3166 code of two letters. A zone name the rules do not know is treated as absent.
    """
    if time_zone and is_zone(time_zone):
        return (time_zone,)
    return zones_by_country().get((country or "").strip().upper(), ())


@lru_cache(maxsize=1)
def zones_by_country() -> Mapping[str, tuple[str, ...]]:
    """Country code -> its zones in the order of tzdata's zone.tab."""
    zones: dict[str, list[str]] = {}
    for line in files("tzdata.zoneinfo").joinpath("zone.tab").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            country, _, name, *_ = line.split("\t")
            zones.setdefault(country, []).append(name)
    return MappingProxyType({country: tuple(names) for country, names in zones.items()})


def canonical_zone(name: str) -> str:
    """The name under which tzdata keeps a zone's rules: two names with the same answer are one zone."""
    return _links().get(name, name)


def is_zone(name: str) -> bool:
    """Whether `name` is a time zone of the tzdata wheel, spelt exactly."""
    return name in _zone_names()


def utc_offset(zone: str, at: datetime) -> timedelta:
    """How far a zone's clocks are ahead of UTC at an instant."""
    return timedelta(seconds=_offset_s(_zone(zone), _aware(at)))


def allows(
    window: Window, zones: Sequence[str], *, at: datetime, quiet: Window | None = None, bounds: Bounds = UNBOUND
) -> bool:
    """Whether a message may leave at this very instant: inside the window and the bounds, not quiet, in every zone.

    No zone at all allows nothing.
    """
    instant = _aware(at)
    local_times = [instant.astimezone(_zone(name)) for name in zones]
    return bool(local_times) and all(
        window.holds(local) and bounds.allow(local) and not (quiet is not None and quiet.holds(local))
        for local in local_times
    )


def next_slot(
    window: Window, zones: Sequence[str], *, at: datetime, quiet: Window | None = None, bounds: Bounds = UNBOUND
) -> Slot | None:
    """The first slot that is open at `at` or opens after it, or None when the next four weeks have none.

    Every zone in `zones` must allow every instant of the slot: inside `window`, within `bounds` and outside `quiet`,
    the hours in which nobody is disturbed. Clock changes, repeated and skipped hours and skipped days are exact. The
    close of a window that never closes is cut at `SEARCH_DAYS` after `at`. Without a zone there is no slot.

    Raises ValueError for a naive `at` and KeyError for a zone name the tzdata wheel does not have.
    """
    return _next_slot(window, tuple(zones), _aware(at), quiet, bounds)


@lru_cache(maxsize=65_536)
def _next_slot(
    window: Window, zones: tuple[str, ...], at: datetime, quiet: Window | None, bounds: Bounds
) -> Slot | None:
    start = _microseconds(at)
    for days in _LOOKS_DAYS if zones else ():
        end = start + days * _DAY_S * _US
        spans = _permitted(window, zones, start, end, quiet, bounds)
        if spans and (spans[0][1] < end or days == SEARCH_DAYS):  # else it may go on after what was looked through
            return Slot(_instant(spans[0][0]), _instant(spans[0][1]))
    return None


def _permitted(
    window: Window, zones: Sequence[str], start: int, end: int, quiet: Window | None, bounds: Bounds
) -> list[_Span]:
    """Everything between two instants that every zone allows: sorted, disjoint, touching ones joined."""
    spans: list[_Span] = [(start, end)]
    for name in zones:
        spans = _intersect(spans, _open_spans(window, name, start, end))
        for windows in bounds.hours:
            allowed = [span for one in windows for span in _open_spans(one, name, start, end)]
            spans = _intersect(spans, _joined(allowed))
        for still in (quiet, bounds.quiet):
            if still is not None:
                spans = _subtract(spans, _open_spans(still, name, start, end))
        if bounds.closed:
            spans = _subtract(spans, _spans(_closed_days(bounds.closed), name, start, end))
    return spans


@lru_cache(maxsize=8_192)
def _open_spans(window: Window, name: str, start: int, end: int) -> tuple[_Span, ...]:
    """When `window` is open in one zone between two instants: sorted, disjoint, touching ones joined."""
    return tuple(_spans(lambda first_day, last_day: _local_spans(window, first_day, last_day), name, start, end))


def _closed_days(places: Sequence[str]) -> _LocalSpans:
    """The public holidays of the places as whole local days."""

    def spans(first_day: int, last_day: int) -> Iterable[_Span]:
        for day in range(first_day, last_day + 1):
            local = date.fromordinal(_EPOCH.toordinal() + day)
            if any(local in public_holidays(place, local.year) for place in places):
                yield day * _DAY_S * _US, (day + 1) * _DAY_S * _US

    return spans


def _spans(local_spans: _LocalSpans, name: str, start: int, end: int) -> list[_Span]:
    """Local openings of one zone as spans of UTC between two instants: sorted, disjoint, touching ones joined."""
    spans: list[_Span] = []
    for since, until, offset_s in _offsets(name, start, end):
        offset = offset_s * _US
        first_day = (since + offset) // (_DAY_S * _US) - 1
        last_day = (until + offset) // (_DAY_S * _US)
        for opens, closes in local_spans(first_day, last_day):
            opens_at, closes_at = max(opens - offset, since), min(closes - offset, until)
            if opens_at < closes_at:
                spans.append((opens_at, closes_at))
    return _joined(spans)


def _local_spans(window: Window, first_day: int, last_day: int) -> Iterable[_Span]:
    """The window's openings of the local days first..last (days since 1970-01-01), as local microseconds."""
    opens, closes = _since_midnight(window.opens), _since_midnight(window.closes)
    length = closes - opens + (_DAY_S * _US if window.overnight else 0)
    for day in range(first_day, last_day + 1):
        if (day + _EPOCH_WEEKDAY) % 7 in window.days:
            midnight = day * _DAY_S * _US
            yield midnight + opens, midnight + opens + length


def _offsets(name: str, start: int, end: int) -> list[tuple[int, int, int]]:
    """The zone's constant stretches between two instants: (since, until, UTC offset in seconds)."""
    first, last = _instant(start), _instant(end)
    changes: list[tuple[int, int]] = []
    for year in range(first.year, last.year + 1):
        changes.extend(_changes(name, year))
    stretches: list[tuple[int, int, int]] = []
    for (since, offset_s), (until, _) in zip(changes, [*changes[1:], (end, 0)], strict=True):
        low, high = max(since, start), min(until, end)
        if low < high:
            stretches.append((low, high, offset_s))
    return stretches


@lru_cache(maxsize=8_192)
def _changes(name: str, year: int) -> tuple[tuple[int, int], ...]:
    """The zone's UTC offset at the start of a UTC year and after each change: (since in microseconds, seconds).

    Days are compared and a day that differs is bisected: no zone in tzdata changes twice within a day.
    """
    zone = _zone(name)
    day = datetime(year, 1, 1, tzinfo=UTC)
    changes = [(_microseconds(day), _offset_s(zone, day))]
    while day.year == year:
        following = day + _DAY
        if _offset_s(zone, following) != changes[-1][1]:
            moment = _bisect(zone, day, following)
            changes.append((_microseconds(moment), _offset_s(zone, moment)))
        day = following
    return tuple(changes)


def _bisect(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first whole second in (before, after] at which the zone has the offset it has at `after`."""
    old = _offset_s(zone, before)
    low, high = 0, round((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, before + timedelta(seconds=middle)) == old:
            low = middle
        else:
            high = middle
    return before + timedelta(seconds=high)


def _offset_s(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None  # a ZoneInfo always knows the offset of an instant
    return round(offset.total_seconds())


def _joined(spans: list[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    for opens, closes in sorted(spans):
        if joined and opens <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(closes, joined[-1][1]))
        else:
            joined.append((opens, closes))
    return joined


def _intersect(left: Sequence[_Span], right: Sequence[_Span]) -> list[_Span]:
    both: list[_Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        opens, closes = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if opens < closes:
            both.append((opens, closes))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return both


def _subtract(spans: Sequence[_Span], holes: Sequence[_Span]) -> list[_Span]:
    rest: list[_Span] = []
    for opens, closes in spans:
        for hole_opens, hole_closes in holes:
            if hole_closes <= opens or hole_opens >= closes:
                continue
            if opens < hole_opens:
                rest.append((opens, hole_opens))
            opens = max(opens, hole_closes)
        if opens < closes:
            rest.append((opens, closes))
    return rest


def _since_midnight(clock: time) -> int:
    return ((clock.hour * 60 + clock.minute) * 60 + clock.second) * _US + clock.microsecond


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("an instant must carry its time zone (aware UTC), got a naive datetime")
    return at.astimezone(UTC)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def zone_of(name: str) -> ZoneInfo:
    """The zone of that name with the wheel's rules. Raises KeyError for a name the wheel does not have."""
    return _zone(name)


@lru_cache(maxsize=1_024)
def _zone(name: str) -> ZoneInfo:
    """The zone read from the wheel itself, whatever the process's search path says."""
    if not is_zone(name):
        raise KeyError(
            f"{name!r} is not a time zone of tzdata {tzdata_version()} (expected a name such as Europe/London)"
        )
    with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    names = files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(names) - _NOT_A_PLACE


@lru_cache(maxsize=1)
def _links() -> dict[str, str]:
    lines = files("tzdata.zoneinfo").joinpath("tzdata.zi").read_text(encoding="utf-8").splitlines()
    return {link: target for _, target, link in (line.split() for line in lines if line.startswith("L "))}
