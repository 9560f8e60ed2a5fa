"""The words of a campaign are checked before anybody reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from campaigns.book import load_book
from campaigns.content_rules import ContentPolicy
from campaigns.features import Kind
from campaigns.lint import lint_campaign

Make = Callable[..., Path]
Lint = Callable[..., list[str]]

GOOD_SMS = (
    "{{ company.name }}: {{ offer.text }} with {{ offer.code }} until {{ offer.expires_on }}. Reply STOP to opt out"
)
GOOD_HTML = "<p>Hello</p><p>{{ unsubscribe_url }} {{ company.postal_address }}</p>"


@pytest.fixture
def lint(workspace: Make, smallest: str) -> Lint:
    """Lint the smallest campaign (changed by replacements) with these templates; the problems as lines."""

    def run(
        templates: Mapping[str, str],
        *changes: tuple[str, str],
        fields: Mapping[str, Kind] | tuple[str, ...] = (),
        files: Mapping[str, str] | None = None,
        policy: ContentPolicy | None = None,
    ) -> list[str]:
        text = smallest
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        named = {f"templates/{name}": words for name, words in templates.items()}
        root = workspace({"a.yaml": text, "templates/sms/.keep": "", **named, **(files or {})})
        book = load_book(root)
        file = book.campaigns["winback-90d"]
        found = lint_campaign(
            file, offers=book.offers, templates=root / "templates", known_customer_fields=fields, policy=policy
        )
        return [str(problem) for problem in found]

    return run


EMAIL = ("channel: sms", "channel: email")


def test_good_words_have_no_problem(lint: Lint) -> None:
    assert lint({"sms/winback.txt.j2": GOOD_SMS}) == []
    assert lint({"email/winback.html.j2": GOOD_HTML, "email/winback.subject.j2": "Hello"}, EMAIL) == []


def test_a_missing_template_is_named_where_the_step_names_it(lint: Lint) -> None:
    assert lint({"sms/winbak.txt.j2": GOOD_SMS}) == [
        'campaigns/book/a.yaml:13:34: arms.ten-percent.steps[0].template: no sms template "winback" (did you mean "winbak"?);'
        " expected templates/sms/winback.txt.j2"
    ]


def test_a_missing_template_of_a_fallback_is_named_at_the_fallback(lint: Lint) -> None:
    found = lint({"sms/winback.txt.j2": GOOD_SMS}, ("template: winback}", "template: winback, fallback: [push]}"))
    assert found == [
        'campaigns/book/a.yaml:13:54: arms.ten-percent.steps[0].fallback[0]: no push template "winback"; expected'
        " templates/push/winback.json.j2"
    ]


def test_an_unknown_variable_is_named_with_its_line_and_the_nearest_known_one(lint: Lint) -> None:
    text = "{{ company.name }}\n{{ customer.tierr }} {{ offer.txt }}\n{{ xyzzy }}"
    assert lint({"sms/winback.txt.j2": text}) == [
        'templates/sms/winback.txt.j2:2:1: unknown variable "customer.tierr" (did you mean "customer.tier"?)',
        'templates/sms/winback.txt.j2:2:1: unknown variable "offer.txt" (did you mean "offer.text"?)',
        'templates/sms/winback.txt.j2:3:1: unknown variable "xyzzy"',
    ]


def test_the_company_s_own_columns_are_known_variables(lint: Lint) -> None:
    text = "Hi {% if customer.points is defined %}{{ customer.points + 1 }}{% endif %}"
    assert lint({"sms/winback.txt.j2": text}, fields={"points": "number"}) == []
    assert lint({"sms/winback.txt.j2": "{{ customer.pet | default('cat') }}"}, fields=("pet",)) == []
    assert 'unknown variable "customer.points"' in lint({"sms/winback.txt.j2": text})[0]


def test_a_variable_that_the_offer_does_not_have_is_refused(lint: Lint) -> None:
    no_code = {"campaigns/book/offers.yaml": "ten-percent: {kind: none, text: thanks}\n"}
    assert lint({"sms/winback.txt.j2": "{{ offer.text }} {{ offer.code }}"}, files=no_code) == [
        "templates/sms/winback.txt.j2:1:1: offer.code is used by arm ten-percent, but offer ten-percent has no code"
    ]
    without = ("    offer: ten-percent\n", "")
    assert lint({"sms/winback.txt.j2": "{{ offer.text }}"}, without) == [
        "templates/sms/winback.txt.j2:1:1: offer.text is used by arm ten-percent, but the arm makes no offer"
    ]


def test_an_email_without_a_way_out_or_an_address_is_refused(lint: Lint) -> None:
    words = {"email/winback.html.j2": "<p>Hello</p>", "email/winback.subject.j2": "{{ unsubscribe_url }}"}
    assert lint(words, EMAIL) == [
        "templates/email/winback.html.j2:1:1: the e-mail does not show how to unsubscribe; put {{ unsubscribe_url }} in it,"
        " or extend partials/layout.html.j2",
        "templates/email/winback.html.j2:1:1: the e-mail does not show the company's postal address; put"
        " {{ company.postal_address }} in it, or extend partials/layout.html.j2",
    ]


def test_the_footer_of_a_partial_counts(lint: Lint) -> None:
    words = {
        "email/winback.html.j2": '<p>Hello</p>{% include "partials/footer.html.j2" %}',
        "email/winback.subject.j2": "Hello",
        "partials/footer.html.j2": GOOD_HTML,
    }
    assert lint(words, EMAIL) == []


def test_a_plain_text_part_must_show_the_way_out_too(lint: Lint) -> None:
    words = {
        "email/winback.html.j2": GOOD_HTML,
        "email/winback.subject.j2": "Hello",
        "email/winback.text.j2": "Hello",
    }
    assert lint(words, EMAIL) == [
        "templates/email/winback.text.j2:1:1: the plain-text part does not show how to unsubscribe; put"
        " {{ unsubscribe_url }} in it, or remove the file: a text is made from the HTML"
    ]


def test_an_email_without_a_subject_is_refused(lint: Lint) -> None:
    found = lint({"email/winback.html.j2": GOOD_HTML}, EMAIL)
    assert found == ["templates/email/winback.subject.j2:1:1: no such template; email/winback.html.j2 needs it"]


def test_a_template_that_does_not_parse_is_named_with_its_line(lint: Lint) -> None:
    (found,) = lint({"sms/winback.txt.j2": "a\n{% if %}"})
    assert found.startswith("templates/sms/winback.txt.j2:2:1: ")


def test_a_template_that_fails_when_filled_in_is_named_with_its_line(lint: Lint) -> None:
    (found,) = lint({"sms/winback.txt.j2": "a\n{{ 1 / 0 }}"})
    assert found.startswith("templates/sms/winback.txt.j2:2:1: ")


def test_a_value_that_may_be_missing_wants_a_default(lint: Lint) -> None:
    (found,) = lint({"sms/winback.txt.j2": "Hi {{ customer.first_name }}"})
    assert found.startswith(
        "templates/sms/winback.txt.j2:1:1: warning: fails for customers of whom we know little: unknown field 'first_name'"
    )
    assert lint({"sms/winback.txt.j2": 'Hi {{ customer.first_name | default("you", true) }}'}) == []


def test_an_sms_of_more_than_one_segment_is_a_warning_with_the_count(lint: Lint) -> None:
    assert lint({"sms/winback.txt.j2": "x" * 161}) == [
        "templates/sms/winback.txt.j2:1:1: warning: is billed as 2 SMS (161 characters in GSM-7) with the values of an"
        " example in arm ten-percent; shorten it"
    ]
    assert lint({"sms/winback.txt.j2": "x" * 70 + "…"}) == [
        'templates/sms/winback.txt.j2:1:1: warning: is billed as 2 SMS (71 characters in UCS-2, because of "…") with the'
        " values of an example in arm ten-percent; shorten it"
    ]
    (found,) = lint({"sms/winback.txt.j2": "一二三四五六" * 20})
    assert "because" not in found


def test_each_language_is_checked(lint: Lint) -> None:
    found = lint({"sms/winback.txt.j2": "Hi", "sms/winback.zh.txt.j2": "{{ compny.name }}"})
    assert found == [
        'templates/sms/winback.zh.txt.j2:1:1: unknown variable "compny.name" (did you mean "company.name"?)'
    ]


def test_a_template_without_a_text_for_everybody_else_is_refused(lint: Lint) -> None:
    (found,) = lint({"sms/winback.zh.txt.j2": "Hi"})
    assert "sms template winback is written in zh only; add one without a language" in found


def test_a_language_that_only_some_words_of_the_campaign_have_is_a_warning(lint: Lint) -> None:
    offers = {
        "campaigns/book/offers.yaml": "ten-percent: {kind: none, text: {en: thanks, zh: 谢谢}}\n",
    }
    two_steps = ("template: winback}", "template: winback}\n      - {channel: sms, template: again}")
    words = {
        "sms/winback.txt.j2": "Hi",
        "sms/again.txt.j2": "Hi",
        "sms/again.zh-TW.txt.j2": "Hi",
        "sms/again.fr.txt.j2": "Hi",
    }
    assert lint(words, two_steps, files=offers) == [
        "campaigns/book/a.yaml:11:12: warning: arms.ten-percent.offer: the text of offer ten-percent is not written in fr,"
        " as templates of this campaign are",
        "campaigns/book/a.yaml:13:34: warning: arms.ten-percent.steps[0].template: sms template winback is not written in"
        " fr, zh-TW, as others of this campaign are",
    ]


def test_a_step_after_the_horizon_or_after_its_offer_is_named(lint: Lint) -> None:
    late = ("template: winback}", "template: winback}\n      - {channel: sms, template: winback, after: 31 days}")
    assert lint({"sms/winback.txt.j2": "Hi"}, late) == [
        "campaigns/book/a.yaml:14:50: arms.ten-percent.steps[1].after: leaves after offer ten-percent has ended, so nobody"
        " could take part",
        "campaigns/book/a.yaml:14:50: warning: arms.ten-percent.steps[1].after: leaves after the horizon has ended; nothing"
        " it does is measured",
    ]


def test_an_offer_in_another_currency_than_its_budget_is_refused(lint: Lint) -> None:
    assert lint({"sms/winback.txt.j2": "Hi"}, ("arms:", "budget: {discounts: 100 GBP}\narms:")) == [
        "campaigns/book/a.yaml:12:12: arms.ten-percent.offer: offer ten-percent costs EUR, the budget for discounts is in GBP"
    ]


def test_templates_may_lie_elsewhere(workspace: Make, smallest: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "words"
    (elsewhere / "sms").mkdir(parents=True)
    book = load_book(workspace({"a.yaml": smallest}))
    (found,) = lint_campaign(book.campaigns["winback-90d"], offers=book.offers, templates=elsewhere)
    assert str(found).startswith("a.yaml:13:34: ")


def test_learnt_shares_in_a_campaign_that_runs_once_are_a_warning(lint: Lint) -> None:
    learnt = ("experiment:\n", "experiment:\n  allocation: thompson\n")
    (problem,) = lint({"sms/winback.txt.j2": GOOD_SMS}, learnt)
    assert "allocation: learns from run to run, but no schedule repeats this campaign" in problem
    assert "warning" in problem
    scheduled = ("experiment:\n", 'schedule: {cron: "0 9 * * 1", timezone: UTC}\nexperiment:\n  allocation: thompson\n')
    assert lint({"sms/winback.txt.j2": GOOD_SMS}, scheduled) == []


COMPANY = {"name": "Northwind", "postal_address": "1 High Street", "website": "https://northwind.example"}


def test_the_companys_rules_are_checked_in_every_language(lint: Lint) -> None:
    policy = ContentPolicy(brand="Northwind", company=COMPANY)
    assert lint({"sms/winback.txt.j2": GOOD_SMS}, policy=policy) == []
    (found,) = lint({"sms/winback.zh.txt.j2": "好久不见，{{ offer.text }}。拒收请回复R"}, policy=policy)
    assert found.startswith("templates/sms/winback.zh.txt.j2:1:1: must begin with 【Northwind】")


def test_languages_the_company_requires_must_be_there(lint: Lint) -> None:
    policy = ContentPolicy(brand="Northwind", company=COMPANY, languages=("en", "zh"))
    (template,) = lint({"sms/winback.txt.j2": GOOD_SMS}, policy=policy)
    assert "sms template winback is not written in zh; every message must be (content.languages" in template
    french = ContentPolicy(brand="Northwind", company=COMPANY, languages=("en", "fr"))
    offer, _ = lint({"sms/winback.txt.j2": GOOD_SMS}, policy=french)
    assert "the text of offer ten-percent is not written in fr" in offer
