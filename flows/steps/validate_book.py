"""Checks the marketers' files: keys, offers, segments, and the words of every template a campaign uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.book import OFFERS, SEGMENTS, CampaignFile
from campaigns.content_rules import ContentPolicy, company_hosts
from campaigns.lint import lint_campaign
from campaigns.problems import BookErrors, Problem, in_order
from channels.tokens import TOKEN_CHARACTERS
from flows.steps.settings_agreement import check_agreement
from flows.steps.unsubscribe import unsubscribe_url

if TYPE_CHECKING:
    from flows.wiring import Workspace


_SAMPLE_TOKEN: Final = "A" * TOKEN_CHARACTERS


@dataclass(frozen=True, slots=True)
class Checked:
    """The campaigns looked at and every problem found, errors and warnings, in order of file and line."""

    campaigns: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def n_errors(self) -> int:
        """How many problems must be mended."""
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def n_warnings(self) -> int:
        """How many problems may stay."""
        return len(self.problems) - self.n_errors

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "campaigns": list(self.campaigns),
            "errors": self.n_errors,
            "warnings": self.n_warnings,
            "problems": [asdict(problem) for problem in self.problems],
        }


def validate_book(ws: Workspace, campaign: str | None) -> Checked:
    """Check one campaign, or the whole book. Problems are values here, not exceptions.

    Raises CampaignError where the book has no such campaign.
    """
    found: tuple[Problem, ...] = ()
    try:
        files = [ws.campaign(campaign)] if campaign else list(ws.book.campaigns.values())
    except BookErrors as error:
        files, found = [] if campaign else _usable(ws), error.problems
    problems = [*found, *(problem for file in files for problem in lint(ws, file))]
    names = {file.campaign.name for file in files} | ({campaign} if campaign else _broken(found))
    return Checked(tuple(sorted(names)), in_order(problems))


def _usable(ws: Workspace) -> list[CampaignFile]:
    """The campaigns without problems: a mistake in one file must not hide those in the words of another."""
    try:
        return list(ws.usable_book[0].campaigns.values())
    except BookErrors:  # in offers.yaml or segments.yaml, on which all lean
        return []


def _broken(problems: Iterable[Problem]) -> set[str]:
    """The campaigns whose own files have problems, by file name."""
    return {Path(problem.file).stem for problem in problems} - {Path(name).stem for name in (OFFERS, SEGMENTS)}


def lint(ws: Workspace, file: CampaignFile) -> list[Problem]:
    """Every problem of the words of a campaign, and of what contradicts the settings."""
    words = lint_campaign(
        file,
        offers=file.offers,
        templates=ws.root / "templates",
        known_customer_fields=ws.facts.attributes(),
        policy=content_policy(ws),
    )
    return list(in_order([*words, *check_agreement(ws, file)]))


def content_policy(ws: Workspace) -> ContentPolicy:
    """What the workspace asks of its messages' words."""
    settings, company = ws.settings, ws.settings.company
    return ContentPolicy(
        brand=settings.content.brand or company.name,
        link_hosts=company_hosts(company.website, company.unsubscribe_url, settings.public_url)
        | frozenset(settings.content.link_hosts),
        max_sms_segments=settings.content.max_sms_segments,
        languages=settings.content.languages,
        unsubscribe_url=unsubscribe_url(settings, _SAMPLE_TOKEN),
        company={"name": company.name, "postal_address": company.postal_address, "website": company.website},
    )


def refuse_broken_words(ws: Workspace, file: CampaignFile) -> list[str]:
    """The warnings about a campaign's words. Raises BookErrors where there is an error among them."""
    problems = lint(ws, file)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise BookErrors(errors)
    return [str(problem).replace("warning: ", "") for problem in problems]
