"""The check of a campaign's words: templates, variables, unsubscribe links, lengths, languages, delays, currencies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from campaigns.arm_terms import Arm, Step
from campaigns.book import CampaignFile
from campaigns.content_rules import ContentPolicy
from campaigns.features import Kind
from campaigns.nearest import did_you_mean
from campaigns.offers import AnyOffer, Offer, offer_code, offer_facts, promises_of
from campaigns.problems import Location, Problem, Severity, in_order, show_path
from campaigns.words import Channel
from campaigns.yaml_source import Source, read_yaml
from channels.message import Email, Sms
from channels.render import Reference, Renderer, RenderError
from channels.sms_length import measure_sms, outside_gsm7
from channels.variables import is_known, sample_context, suggest

MAIN_FILE: Final[Mapping[Channel, str]] = {"sms": "txt", "email": "html", "push": "json"}
_LEGAL: Final[Mapping[str, str]] = {
    "unsubscribe_url": "how to unsubscribe",
    "company.postal_address": "the company's postal address",
}
_SAMPLES: Final[Mapping[Kind, object]] = {"number": 12, "text": "example", "boolean": True, "instant": "2026-09-30"}
_LONG_DATE: Final = datetime(2026, 9, 30, tzinfo=UTC)  # as long as a date in English gets
_SAMPLE_SECRET: Final = "only for measuring lengths"  # noqa: S105  # codes of previews are not real
_TEXT_WITHOUT_WAY_OUT: Final = (
    "the plain-text part does not show how to unsubscribe; put {{ unsubscribe_url }} in it, or remove the file: a text "
    "is made from the HTML"
)
_FEW: Final = 5
_REQUIRED: Final = "every message must be (content.languages in retain.toml)"


@dataclass(frozen=True, slots=True)
class _Use:
    """One template as one step uses it: on which channel, in which arm, with which offer, said where in the file."""

    channel: Channel
    template: str
    arm: str
    offer: Offer | None
    location: Location


def lint_campaign(
    file: CampaignFile,
    *,
    offers: Mapping[str, AnyOffer],
    templates: Path,
    known_customer_fields: Mapping[str, Kind] | Collection[str] = (),
    policy: ContentPolicy | None = None,
) -> list[Problem]:
    """Every problem of the words of one campaign, in order of file and line; severity error or warning.

    `templates` is the workspace's folder of that name, `known_customer_fields` the company's own customer columns that
    templates may use beside the canonical ones (with their kinds, if known), `policy` what the company asks of its
    words (None: only what always holds). Raises OSError when the campaign's file is gone.
    """
    linter = _Linter(file, offers, templates, known_customer_fields, policy)
    problems = [
        *(problem for use in linter.uses for problem in linter.check_use(use)),
        *linter.check_languages(),
        *linter.check_delays(),
        *linter.check_currencies(),
        *linter.check_allocation(),
    ]
    return list(in_order(problems))


class _Linter:
    """One campaign with what its check needs: the positions in its file, a renderer, and its uses of templates."""

    def __init__(
        self,
        file: CampaignFile,
        offers: Mapping[str, AnyOffer],
        templates: Path,
        known_customer_fields: Mapping[str, Kind] | Collection[str],
        policy: ContentPolicy | None,
    ) -> None:
        self._file = file
        self._offers = offers
        self._policy = policy
        self._templates = templates
        kinds = known_customer_fields if isinstance(known_customer_fields, Mapping) else {}
        self._fields = frozenset(known_customer_fields)
        self._samples = {name: _SAMPLES[kinds.get(name, "text")] for name in sorted(self._fields)}
        self._renderer = Renderer([templates])
        self.uses = [
            _Use(channel, step.template, name, promise, (*location, *_channel_location(i)))
            for name, arm in file.campaign.arms.items()
            for promise in promises_of(offers.get(arm.offer or "")) or (None,)
            for location, step in _steps(name, arm)
            for i, channel in enumerate(step.channels)
        ]

    def check_use(self, use: _Use) -> Iterator[Problem]:
        """What is wrong with one template where one step uses it, in each of its languages."""
        if not self._renderer.exists(use.channel, use.template):
            wanted = f"{self._templates.name}/{use.channel}/{use.template}.{MAIN_FILE[use.channel]}.j2"
            meant = did_you_mean(use.template, self._renderer.names(use.channel))
            yield self._in_campaign(
                use.location, f'no {use.channel} template "{use.template}"{meant}; expected {wanted}'
            )
            return
        locales = self._renderer.locales(use.channel, use.template)
        if None not in locales:
            written = ", ".join(str(locale) for locale in locales)
            message = f"{use.channel} template {use.template} is written in {written} only; add one without a language"
            yield self._in_campaign(use.location, message)
        for locale in locales:
            yield from self._check_text(use, locale)

    def check_languages(self) -> Iterator[Problem]:
        """A language that some template of the campaign has and another, or an offer, lacks."""
        written = [(use, self._languages(use)) for use in self.uses]
        everywhere = sorted({language for _, languages in written for language in languages})
        yield from self._check_required(written)
        for use, languages in written:
            if self._renderer.exists(use.channel, use.template) and (missing := _missing(everywhere, languages)):
                message = (
                    f"{use.channel} template {use.template} is not written in {missing}, as others of this campaign are"
                )
                yield self._in_campaign(use.location, message, "warning")
        for name, arm in self._file.campaign.arms.items():
            for promise in promises_of(self._offers.get(arm.offer or "")):
                texts = set(promise.terms.text)
                if "" not in texts and (missing := _missing(everywhere, texts)):
                    message = (
                        f"the text of offer {promise.name} is not written in {missing}, "
                        "as templates of this campaign are"
                    )
                    yield self._in_campaign(("arms", name, "offer"), message, "warning")

    def _check_required(self, written: Iterable[tuple[_Use, set[str]]]) -> Iterator[Problem]:
        """A language the company wants everything written in, and some template or offer is not."""
        required = self._policy.languages[1:] if self._policy else ()  # the first is that of what has no tag
        for use, languages in written:
            if self._renderer.exists(use.channel, use.template) and (missing := _missing(required, languages)):
                message = f"{use.channel} template {use.template} is not written in {missing}; {_REQUIRED}"
                yield self._in_campaign(use.location, message)
        for name, arm in self._file.campaign.arms.items():
            for promise in promises_of(self._offers.get(arm.offer or "")):
                if missing := _missing(required, set(promise.terms.text)):
                    message = f"the text of offer {promise.name} is not written in {missing}; {_REQUIRED}"
                    yield self._in_campaign(("arms", name, "offer"), message)

    def check_delays(self) -> Iterator[Problem]:
        """Steps that leave when nothing is measured any more, or when their offer has ended."""
        horizon = self._file.campaign.experiment.horizon
        for name, arm in self._file.campaign.arms.items():
            offer, elapsed = self._offers.get(arm.offer or ""), timedelta(0)
            for location, step in _steps(name, arm):
                elapsed += step.after
                place = (*location, "after")
                if step.repeat is not None:
                    elapsed += step.repeat.every * (step.turns - 1)
                    place = (*location, "repeat", "at_most")
                if elapsed >= horizon:
                    message = "leaves after the horizon has ended; nothing it does is measured"
                    yield self._in_campaign(place, message, "warning")
                if offer and offer.valid_for and elapsed >= offer.valid_for:
                    message = f"leaves after offer {offer.name} has ended, so nobody could take part"
                    yield self._in_campaign(place, message)

    def check_currencies(self) -> Iterator[Problem]:
        """Offers whose cost is not in the currency of the budget they are counted against."""
        budget = self._file.campaign.budget.discounts
        for name, arm in self._file.campaign.arms.items():
            for promise in promises_of(self._offers.get(arm.offer or "")):
                cost = promise.terms.cost
                if budget and cost and cost.value.currency != budget.currency:
                    message = (
                        f"offer {promise.name} costs {cost.value.currency}, "
                        f"the budget for discounts is in {budget.currency}"
                    )
                    yield self._in_campaign(("arms", name, "offer"), message)

    def check_allocation(self) -> Iterator[Problem]:
        """Shares that are to follow outcomes, in a campaign that no schedule repeats."""
        campaign = self._file.campaign
        if campaign.experiment.allocation == "thompson" and campaign.schedule is None:
            message = (
                "learns from run to run, but no schedule repeats this campaign: its only run has the file's shares; "
                "give it a schedule, or use fixed"
            )
            yield self._in_campaign(("experiment", "allocation"), message, "warning")

    def _check_text(self, use: _Use, locale: str | None) -> Iterator[Problem]:
        try:
            references = self._renderer.references(use.channel, use.template, locale=locale)
        except RenderError as error:
            yield self._in_template(error.template, error.line, error.message)
            return
        found = [*self._check_variables(use, references), *self._check_legal(use, locale, references)]
        yield from found if found else self._check_rendered(use, locale)

    def _check_variables(self, use: _Use, references: Iterable[Reference]) -> Iterator[Problem]:
        # what one tier lacks another may have: the text is filled in for each of them, which finds what is not guarded
        arm = self._file.campaign.arms[use.arm]
        able = frozenset[str]().union(*map(_offer_fields, promises_of(self._offers.get(arm.offer or ""))))
        for reference in references:
            group, _, field = reference.path.partition(".")
            if not is_known(reference.path, self._fields):
                meant = suggest(reference.path, self._fields)
                message = f'unknown variable "{reference.path}"' + (f' (did you mean "{meant}"?)' if meant else "")
            elif group == "offer" and field and field not in able:
                what = f"offer {use.offer.name} has no {field}" if use.offer else "the arm makes no offer"
                message = f"{reference.path} is used by arm {use.arm}, but {what}"
            else:
                continue
            yield self._in_template(reference.file, reference.line, message)

    def _check_legal(self, use: _Use, locale: str | None, references: Iterable[Reference]) -> Iterator[Problem]:
        """Every e-mail carries the way out and the postal address in its HTML."""
        if use.channel != "email":
            return
        said = {r.path for r in references if not r.file.endswith((".subject.j2", ".text.j2"))}
        for variable, what in _LEGAL.items():
            if variable not in said:
                remedy = f"put {{{{ {variable} }}}} in it, or extend partials/layout.html.j2"
                message = f"the e-mail does not show {what}; {remedy}"
                yield self._in_template(_file_name(use, locale), 1, message)

    def _check_rendered(self, use: _Use, locale: str | None) -> Iterator[Problem]:
        """What only shows when the template is filled in: mistakes in its logic, values that may be missing, length."""
        context = self._context(use, locale)
        try:
            content = self._renderer.render(use.channel, use.template, context, locale=locale)
        except RenderError as error:
            yield self._in_template(error.template, error.line, error.message)
            return
        if isinstance(content, Sms):
            yield from self._check_length(use, locale, content.body)
        if self._policy:
            for message, severity in self._policy.check(content, locale):
                yield self._in_template(_file_name(use, locale), 1, message, severity)
        if isinstance(content, Email) and str(context["unsubscribe_url"]) not in content.text:
            yield self._in_template(_file_name(use, locale, "text"), 1, _TEXT_WITHOUT_WAY_OUT)
        try:
            known_least = {**context, "customer": {"customer_id": "C-1"}}
            self._renderer.render(use.channel, use.template, known_least, locale=locale)
        except RenderError as error:
            message = f'fails for customers of whom we know little: {error.message}; use | default("...", true)'
            yield self._in_template(error.template, error.line, message, "warning")

    def _check_length(self, use: _Use, locale: str | None, body: str) -> Iterator[Problem]:
        length = measure_sms(body)
        if length.segments > 1:
            special = outside_gsm7(body)
            blame = f', because of "{special}"' if len(special) <= _FEW and special else ""
            message = (
                f"is billed as {length.segments} SMS ({length.units} characters in {length.encoding}{blame}) "
                f"with the values of an example in arm {use.arm}; shorten it"
            )
            yield self._in_template(_file_name(use, locale), 1, message, "warning")

    def _context(self, use: _Use, locale: str | None) -> dict[str, object]:
        context = sample_context(self._samples)
        context["campaign"] = {"name": self._file.campaign.name, "arm": use.arm}
        context["offer"] = {}
        if self._policy:
            context |= {"company": dict(self._policy.company), "unsubscribe_url": self._policy.unsubscribe_url}
        if use.offer:
            code = offer_code(use.offer, secret=_SAMPLE_SECRET, experiment_id="sample", customer_id="sample")
            context["offer"] = offer_facts(use.offer, locale=locale, as_of=_LONG_DATE, code=code)
        return context

    @cached_property
    def _source(self) -> Source:
        return read_yaml(self._file.path)

    def _languages(self, use: _Use) -> set[str]:
        return {locale for locale in self._renderer.locales(use.channel, use.template) if locale}

    def _in_campaign(self, location: Location, message: str, severity: Severity = "error") -> Problem:
        place = self._source.place_of(location)
        file = self._file.path
        root = self._templates.parent
        shown = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
        return Problem(shown, place.line, place.column, show_path(location), message, severity)

    def _in_template(self, file: str, line: int | None, message: str, severity: Severity = "error") -> Problem:
        return Problem(f"{self._templates.name}/{file}", line or 1, 1, "", message, severity)


def _steps(arm_name: str, arm: Arm) -> Iterator[tuple[Location, Step]]:
    for i, step in enumerate(arm.steps):
        yield ("arms", arm_name, "steps", i), step


def _channel_location(number: int) -> Location:
    """Where a step names its channel number `number`: the first with its template, the others as fallbacks."""
    return ("template",) if number == 0 else ("fallback", number - 1)


def _file_name(use: _Use, locale: str | None, part: str | None = None) -> str:
    tag = f".{locale}" if locale else ""
    return f"{use.channel}/{use.template}{tag}.{part or MAIN_FILE[use.channel]}.j2"


def _offer_fields(offer: Offer) -> frozenset[str]:
    """What templates may say of this offer."""
    return frozenset(offer_facts(offer, locale=None, as_of=_LONG_DATE, code="x" if offer.terms.code else None))


def _missing(wanted: Iterable[str], have: Collection[str]) -> str:
    """The languages of `wanted` that no more general one of `have` covers, as a list in words."""
    covered = {locale.lower() for locale in have}
    return ", ".join(w for w in wanted if w.lower() not in covered and w.lower().split("-")[0] not in covered)
