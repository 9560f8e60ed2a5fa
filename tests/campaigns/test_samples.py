"""The sample campaigns are ones a marketer would use: valid, complete, short, lawful, in the languages they claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from campaigns.book import Book, CampaignFile, load_book
from campaigns.features import FEATURES
from campaigns.lint import lint_campaign
from campaigns.offers import offer_code, offer_facts
from campaigns.segment import names
from channels.message import Channel, Email, Push, Sms
from channels.render import Renderer
from channels.sms_length import measure_sms
from channels.variables import sample_context

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
SAMPLES = ("complaint-care", "early-warning", "high-value-care", "second-purchase", "winback-90d")
SENT_AT = datetime(2026, 9, 1, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def book() -> Book:
    """The book of the tree."""
    return load_book(ROOT)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    """The templates of the tree."""
    return Renderer([TEMPLATES])


@dataclass(frozen=True)
class Sent:
    """One message as a customer would get it."""

    where: str
    channel: Channel
    locale: str | None
    content: Any
    context: dict[str, Any]


def messages(file: CampaignFile, renderer: Renderer, first_name: str | None = "Ana") -> Iterator[Sent]:
    """Every message of a campaign on every channel in every language."""
    for arm_name, arm in file.campaign.arms.items():
        context = sample_context({"first_name": first_name})
        context["campaign"] = {"name": file.campaign.name, "arm": arm_name}
        for step in arm.steps:
            for channel in step.channels:
                for locale in renderer.locales(channel, step.template):
                    context["offer"] = offer_of(file, arm.offer, locale)
                    content = renderer.render(channel, step.template, context, locale=locale)
                    yield Sent(f"{channel}/{step.template}/{locale}", channel, locale, content, dict(context))


def offer_of(file: CampaignFile, name: str | None, locale: str | None) -> dict[str, str]:
    if name is None:
        return {}
    offer = file.offers[name]
    code = offer_code(offer, secret="a secret of the tests, long enough", experiment_id="e:1", customer_id="c1")
    return offer_facts(offer, locale=locale, as_of=SENT_AT, code=code)


def test_the_samples_are_those_that_were_promised(book: Book) -> None:
    assert tuple(book.campaigns) == SAMPLES


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_has_neither_an_error_nor_a_warning(book: Book, name: str) -> None:
    assert lint_campaign(book.campaigns[name], offers=book.offers, templates=TEMPLATES) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_asks_only_for_features_of_the_catalogue(book: Book, name: str) -> None:
    assert names(book.campaigns[name].segment) <= set(FEATURES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_can_be_measured(book: Book, name: str) -> None:
    campaign = book.campaigns[name].campaign
    assert campaign.experiment.control >= 0.2
    assert campaign.experiment.guardrails
    assert campaign.experiment.hypothesis
    assert sum(weight for _, weight in campaign.weights) == pytest.approx(1.0, abs=1e-12)
    assert campaign.description
    assert campaign.owner


def test_the_samples_address_the_moments_they_are_named_after(book: Book) -> None:
    texts = {name: file.segment_text for name, file in book.campaigns.items()}
    assert texts["winback-90d"] == "recency_days >= 90 and orders >= 2"
    assert texts["second-purchase"] == "orders == 1 and 45 <= recency_days < 60"
    assert "overdue_ratio" in texts["early-warning"]
    assert names(book.campaigns["high-value-care"].segment) >= {"value_tier", "overdue_ratio"}
    assert book.campaigns["second-purchase"].campaign.experiment.horizon == timedelta(days=45)


def test_timing_is_tested_like_any_other_difference(book: Book) -> None:
    campaign = book.campaigns["early-warning"].campaign
    morning, evening = campaign.arms["free-shipping-morning"], campaign.arms["free-shipping-evening"]
    assert (morning.offer, morning.steps) == (evening.offer, evening.steps)
    hours = [
        campaign.timing_of(arm, campaign.arms[arm].steps[0]).window.opens.hour
        for arm in ("free-shipping-morning", "free-shipping-evening")
    ]
    assert hours == [8, 17]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sms_is_one_segment_and_says_how_to_stop(book: Book, renderer: Renderer, name: str) -> None:
    for sent in messages(book.campaigns[name], renderer):
        if sent.channel == "sms":
            assert isinstance(sent.content, Sms)
            assert measure_sms(sent.content.body).segments == 1, sent.where
            end = "拒收请回复R" if sent.locale == "zh" else "Reply STOP to opt out"
            assert sent.content.body.endswith(end), sent.where
            if sent.locale == "zh":
                assert sent.content.body.startswith(f"【{sent.context['company']['name']}】")
            else:
                assert sent.content.body.startswith(f"{sent.context['company']['name']}: ")


@pytest.mark.parametrize("name", SAMPLES)
def test_every_email_shows_the_way_out_and_the_postal_address_in_both_parts(
    book: Book, renderer: Renderer, name: str
) -> None:
    for sent in messages(book.campaigns[name], renderer):
        if sent.channel == "email":
            assert isinstance(sent.content, Email)
            for part in (sent.content.html, sent.content.text):
                assert sent.context["unsubscribe_url"] in part, sent.where
                assert sent.context["company"]["postal_address"] in part, sent.where
            assert len(sent.content.subject) <= 60, sent.where


@pytest.mark.parametrize("name", SAMPLES)
def test_every_email_is_well_formed_and_names_its_language(book: Book, renderer: Renderer, name: str) -> None:
    for sent in messages(book.campaigns[name], renderer):
        if sent.channel == "email":
            assert isinstance(sent.content, Email)
            page = Page(sent.content.html)
            assert page.flaws == [], sent.where
            assert page.language == (sent.locale or "en")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_push_notification_fits_a_lock_screen(book: Book, renderer: Renderer, name: str) -> None:
    for sent in messages(book.campaigns[name], renderer):
        if sent.channel == "push":
            assert isinstance(sent.content, Push)
            assert len(sent.content.title) <= 40, sent.where
            assert len(sent.content.body) <= 120, sent.where
            assert sent.content.data["campaign"] == name


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_reads_well_for_customers_without_a_name(book: Book, renderer: Renderer, name: str) -> None:
    for sent in messages(book.campaigns[name], renderer, first_name=None):
        assert "None" not in str(sent.content), sent.where


@pytest.mark.parametrize("name", SAMPLES)
def test_a_hostile_name_stays_text(book: Book, renderer: Renderer, name: str) -> None:
    for sent in messages(book.campaigns[name], renderer, first_name='<b onclick="x">'):
        if sent.channel == "email":
            assert isinstance(sent.content, Email)
            assert "<b onclick" not in sent.content.html, sent.where
            assert Page(sent.content.html).flaws == []


def test_the_win_back_is_written_in_english_and_chinese_throughout(book: Book, renderer: Renderer) -> None:
    for arm in book.campaigns["winback-90d"].campaign.arms.values():
        for step in arm.steps:
            for channel in step.channels:
                assert renderer.locales(channel, step.template) == (None, "zh"), f"{channel}/{step.template}"


def test_every_template_and_every_offer_of_the_tree_is_used(book: Book, renderer: Renderer) -> None:
    arms = [arm for file in book.campaigns.values() for arm in file.campaign.arms.values()]
    used = {(channel, step.template) for arm in arms for step in arm.steps for channel in step.channels}
    channels: tuple[Channel, ...] = ("sms", "email", "push")
    assert used == {(channel, name) for channel in channels for name in renderer.names(channel)}
    assert {arm.offer for arm in arms if arm.offer} == set(book.offers)


class Page(HTMLParser):
    """The flaws of a page's nesting, and its language."""

    VOID = ("meta", "br", "img", "hr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.flaws: list[str] = []
        self.language = ""
        self._open: list[str] = []
        self.feed(html)
        self.flaws += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "html":
            self.language = dict(attrs).get("lang") or ""
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.flaws.append(f"</{tag}> closes nothing")
