"""The book: the campaign files, offers and named segments of a workspace, read together and checked together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from campaigns.audience_terms import EVERYBODY
from campaigns.checks import check_campaign
from campaigns.errors import CampaignError
from campaigns.features import Kind
from campaigns.journey_checks import conditions_of
from campaigns.journey_terms import SIGNALS
from campaigns.model import Campaign
from campaigns.nearest import did_you_mean
from campaigns.offer_terms import Terms, check_offers
from campaigns.offers import AnyOffer, make_offer
from campaigns.problems import BookErrors, Location, Problem, in_order, show_path
from campaigns.segment import Expression, SegmentError
from campaigns.segment_file import SegmentDefinition, SegmentName, Segments
from campaigns.units import show
from campaigns.validation import Issue, validate
from campaigns.words import Slug
from campaigns.yaml_source import Source, read_yaml

BOOK: Final = Path("campaigns", "book")
"""Where the files stand in a workspace."""
OFFERS: Final = "offers.yaml"
SEGMENTS: Final = "segments.yaml"


@dataclass(frozen=True, slots=True)
class CampaignFile:
    """One campaign with everything its file refers to. `text_sha256` is of the file's bytes."""

    campaign: Campaign
    path: Path
    text_sha256: str
    segment: Expression
    segment_text: str
    offers: Mapping[str, AnyOffer] = field(default_factory=dict)
    """The offers its arms make, by name."""
    segment_place: str = ""
    """Where the file names its segment: file:line:column."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """What the conditions of its steps that are no signals mean: each as written, with named segments written out."""


@dataclass(frozen=True, slots=True)
class Book:
    """All campaigns by name, all offers by name, all named segments by name."""

    campaigns: Mapping[str, CampaignFile]
    offers: Mapping[str, AnyOffer]
    segments: Mapping[str, Expression]
    segment_texts: Mapping[str, str] = field(default_factory=dict)


def load_book(workspace: Path, *, attributes: Mapping[str, Kind] | None = None) -> Book:
    """Read every file of the book. `attributes` are the company's own customer columns, with their kinds.

    Raises BookErrors with every problem of every file.
    """
    shelf = _Shelf(workspace, attributes)
    files = [shelf.read_campaign(path) for path in shelf.campaign_paths()]
    shelf.check_names()
    shelf.check_endings()
    shelf.raise_problems()
    return shelf.book([file for file in files if file is not None])


def load_usable(workspace: Path, *, attributes: Mapping[str, Kind] | None = None) -> tuple[Book, tuple[Problem, ...]]:
    """The campaigns that can be used, and every problem of the others: a mistake in one file must not stop them all.

    A name that two files claim is not usable. Raises BookErrors where offers.yaml or segments.yaml has a problem, since
    every campaign may lean on them.
    """
    shelf = _Shelf(workspace, attributes)
    shelf.raise_problems()
    paths = shelf.campaign_paths()
    claims = Counter(shelf.name_of(path) for path in paths)
    files = [shelf.read_campaign(path) for path in paths]
    shelf.check_names()
    usable = [file for file in files if file is not None and claims[file.campaign.name] == 1]
    return shelf.book(usable), shelf.problems


def load_campaign(workspace: Path, name: str, *, attributes: Mapping[str, Kind] | None = None) -> CampaignFile:
    """Read one campaign with the offers and segments; mistakes in other campaigns' files do not matter.

    Raises BookErrors when one of these files has problems, CampaignError when no file has that campaign.
    """
    shelf = _Shelf(workspace, attributes)
    named = {shelf.name_of(path): path for path in reversed(shelf.campaign_paths())}
    if name not in named:
        known = ", ".join(sorted(named)) or "none"
        raise CampaignError(
            f'no campaign "{name}" in {BOOK.as_posix()}{did_you_mean(name, named)}; campaigns there: {known}'
        )
    file = shelf.read_campaign(named[name])
    shelf.check_names(only=name)
    shelf.raise_problems()
    assert file is not None, "a file that cannot be used has problems"
    return file


class _Shelf:
    """The files while they are read: their sources, what is shared between them, and the problems so far."""

    def __init__(self, workspace: Path, attributes: Mapping[str, Kind] | None) -> None:
        self._workspace = workspace
        self._folder = workspace / BOOK
        self._attributes = attributes
        self._problems: list[Problem] = []
        self._sources: dict[Path, Source] = {}
        self.offers: dict[str, AnyOffer] = {}
        self.offer_names: list[str] = []
        if not self._folder.is_dir():
            self._add(self._folder, 1, 1, "", "no such folder; `retain init` makes a workspace with one")
        self._read_offers()
        self.segments = self._read_segments(attributes)

    def campaign_paths(self) -> list[Path]:
        """Every campaign file, by name."""
        return [path for path in sorted(self._folder.glob("*.yaml")) if path.name not in (OFFERS, SEGMENTS)]

    def name_of(self, path: Path) -> str:
        """The campaign a file says it is (or the file's own name where it does not say)."""
        values = self._source(path).values
        name = values.get("campaign") if isinstance(values, Mapping) else None
        return name if isinstance(name, str) else path.stem

    def read_campaign(self, path: Path) -> CampaignFile | None:
        """One campaign, or None when it has problems (which are noted)."""
        source = self._source(path)
        before = len(self._problems)
        campaign, issues = validate(Campaign, source.values)
        issues += [*check_campaign(source.values, attributes=self._attributes), *self._check_offers_of(source.values)]
        self._note(path, source, issues)
        segment = self._segment_of(path, source)
        conditions = self._conditions_of(path, source)
        if len(self._problems) > before or campaign is None or segment is None:
            return None
        text = campaign.audience.segment.strip()
        made = {arm.offer for arm in campaign.arms.values() if arm.offer}
        return CampaignFile(
            campaign,
            path,
            source.sha256,
            segment,
            self.segments.texts.get(text, text).strip(),
            {name: offer for name, offer in self.offers.items() if name in made},
            self._show_place(path, source, ("audience", "segment")),
            conditions,
        )

    def _show_place(self, path: Path, source: Source, location: Location) -> str:
        place = source.place_of(location)
        return f"{path.relative_to(self._workspace).as_posix()}:{place.line}:{place.column}"

    def check_names(self, only: str | None = None) -> None:
        """Note every campaign name that two files claim."""
        first: dict[str, Path] = {}
        for path in self.campaign_paths():
            name = self.name_of(path)
            if name in first and only in (None, name):
                place = self._source(path).place_of(("campaign",))
                message = f'"{name}" is the campaign of {first[name].name} already; names are unique'
                self._add(path, place.line, place.column, "campaign", message)
            first.setdefault(name, path)

    def check_endings(self) -> None:
        """Note every file that looks as if it were read."""
        for stray in sorted(self._folder.glob("*.yml")):
            self._add(stray, 1, 1, "", "is not read; rename it to end in .yaml")

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was noted so far."""
        return in_order(self._problems)

    def book(self, files: Iterable[CampaignFile]) -> Book:
        """These campaigns with the offers and segments."""
        texts = self.segments.texts
        return Book(
            MappingProxyType({file.campaign.name: file for file in sorted(files, key=lambda f: f.campaign.name)}),
            MappingProxyType(self.offers),
            MappingProxyType({name: self.segments[name] for name in texts}),
            MappingProxyType(dict(texts)),
        )

    def raise_problems(self) -> None:
        """Raises BookErrors when anything was noted."""
        if self._problems:
            raise BookErrors(self._problems)

    def _read_offers(self) -> None:
        path = self._folder / OFFERS
        if not path.exists():
            return
        source = self._source(path)
        offers, issues = validate(dict[Slug, Terms], source.values)
        self._note(path, source, [*issues, *check_offers(source.values)])
        self.offer_names = list(source.values) if isinstance(source.values, Mapping) else []
        self.offers = {name: make_offer(name, terms) for name, terms in (offers or {}).items()}

    def _read_segments(self, attributes: Mapping[str, Kind] | None) -> Segments:
        path = self._folder / SEGMENTS
        if not path.exists():
            return Segments({}, attributes)
        source = self._source(path)
        _, issues = validate(dict[SegmentName, SegmentDefinition], source.values)
        for name in sorted(set(_texts(source.values)) & set(attributes or {})):
            message = f'"{name}" is a column of the customers already; give the segment another name'
            issues.append(Issue((name,), message, at_key=True))
        self._note(path, source, issues)
        segments = Segments(_texts(source.values), attributes)
        for issue in segments.issues:
            location = (issue.name, "where")
            place = source.place_in(location, issue.offset)
            self._add(path, place.line, place.column, show_path(location), issue.message)
        return segments

    def _segment_of(self, path: Path, source: Source) -> Expression | None:
        location = ("audience", "segment")
        if "segment" not in (_at(source.values, ("audience",)) or {}):
            return self.segments.parse(EVERYBODY)  # the checks have said so, where nothing else brings customers in
        text = _at(source.values, location)
        if not isinstance(text, str) or not text:
            return None  # the model has said so
        return self._parse(path, source, location, text)

    def _conditions_of(self, path: Path, source: Source) -> dict[str, str]:
        """The conditions of the steps that are no signals, and what they mean."""
        found = {}
        for location, text in conditions_of(source.values):
            if text in SIGNALS or text == "unsubscribed":
                continue
            if self._parse(path, source, location, text, SIGNALS) is not None:
                found[text.replace("\n", " ").strip()] = self.segments.texts.get(text, text).strip()
        return found

    def _parse(
        self, path: Path, source: Source, location: Location, text: str, words: Collection[str] = ()
    ) -> Expression | None:
        """The tree of a text, or None with its mistake noted; `words` might have been meant as well."""
        try:
            return self.segments.parse(text)
        except SegmentError as error:
            meant = did_you_mean(text, words)
            message = f"unknown condition {show(text)}{meant}" if meant else error.text
            place = source.place_in(location, 0 if meant else error.column - 1)
            self._add(path, place.line, place.column, show_path(location), message)
            return None

    def _check_offers_of(self, raw: object) -> Iterable[Issue]:
        arms = _at(raw, ("arms",))
        for name in arms if isinstance(arms, Mapping) else ():
            offer = _at(arms, (name, "offer"))
            if isinstance(offer, str) and offer not in self.offer_names:
                known = f"; {OFFERS} has {', '.join(self.offer_names) or 'none'}"
                yield Issue(
                    ("arms", name, "offer"), f'unknown offer "{offer}"{did_you_mean(offer, self.offer_names)}{known}'
                )

    def _source(self, path: Path) -> Source:
        if path not in self._sources:
            self._sources[path] = read_yaml(path)
        return self._sources[path]

    def _note(self, path: Path, source: Source, issues: Iterable[Issue]) -> None:
        """Note the file's flaws and the issues, except those of values that the flaws explain."""
        for flaw in source.flaws:
            self._add(path, flaw.place.line, flaw.place.column, show_path(flaw.location), flaw.message)
        if source.values is None:
            return
        flawed = {flaw.location for flaw in source.flaws}
        for issue in issues:
            if issue.location in flawed:
                continue
            place = (source.place_of_key if issue.at_key else source.place_of)(issue.location)
            self._add(path, place.line, place.column, show_path(issue.location), issue.message)

    def _add(self, path: Path, line: int, column: int, where: str, message: str) -> None:
        shown = path.relative_to(self._workspace).as_posix()
        self._problems.append(Problem(shown, line, column, where, message))


def _texts(raw: object) -> dict[str, str]:
    if not isinstance(raw, Mapping):
        return {}
    texts = {name: _at(definition, ("where",)) for name, definition in raw.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str) and text}


def _at(raw: object, location: Location) -> Any:
    for part in location:
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw
