"""codes and points on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.retain.conftest import AS_OF, CAMPAIGN, RIPE, Cli


@pytest.fixture
def codes(shop: Path, retain: Cli) -> Path:
    """A file of three codes, one of them twice."""
    path = shop / "codes.csv"
    path.write_text("code\nSPRING-1\nSPRING-2\nspring-1\nSPRING-3\n", encoding="utf-8")
    return path


def test_codes_are_imported_once_and_listed(codes: Path, retain: Cli) -> None:
    assert retain("codes", "list").out == "no pools yet; next: retain codes import POOL FILE\n"
    first = retain("codes", "import", "spring", codes, "--expires", "2026-12-31", "--json")
    assert first.json == {"pool": "spring", "added": 3, "known": 0, "repeated": 1}
    again = retain("codes", "import", "spring", codes, "--expires", "2026-12-31")
    assert again.out == "spring: 0 codes added, 3 known already, 1 twice in the file\n"
    listed = retain("codes", "list", "--now", AS_OF, "--json").json
    assert listed == {"pools": [{"pool": "spring", "free": 3, "reserved": 0, "expired": 0, "low": False}]}
    assert retain("codes", "list", "--now", "2027-01-01", "--json").json["pools"][0]["expired"] == 3
    assert retain("status", "--now", AS_OF, "--json").json["pools"] == listed["pools"]
    assert "spring" in retain("codes", "list", "--now", AS_OF).out


def test_a_file_that_cannot_be_used_is_an_error_that_names_no_code(codes: Path, retain: Cli) -> None:
    codes.write_text("GOOD-1\nTWO WORDS\n", encoding="utf-8")
    refused = retain("codes", "import", "spring", codes)
    assert refused.code == 1
    assert "codes.csv:2: expected a code" in refused.err
    assert "TWO" not in refused.err
    assert retain("codes", "import", "spring", codes, "--expires", "soon").code == 1
    assert retain("codes", "import", "Spring!", codes).code == 1


def test_a_till_can_ask_about_a_code(codes: Path, retain: Cli) -> None:
    retain("codes", "import", "spring", codes, "--expires", "2026-12-31")
    good = retain("codes", "check", "spring-2", "--now", AS_OF)
    assert (good.code, good.out) == (0, "a pool code of no offer of the book\n")
    over = retain("codes", "check", "spring-2", "--now", "2027-01-02")
    assert over.code == 1
    assert "it ended 2027-01-01" in over.out
    unknown = retain("codes", "check", "NOTHING", "--json")
    assert (unknown.code, unknown.json["known"]) == (1, False)
    assert retain("codes", "check", "COMEBACK35", "--json").json["kind"] == "shared"
    assert retain("codes", "release", "spring", "--json").json == {"pool": "spring", "released": 0}


def test_codes_of_a_pool_that_nobody_knows_are_not_released(codes: Path, retain: Cli) -> None:
    early = retain("codes", "release", "spring")
    assert (early.code, early.out) == (1, "")
    assert (
        early.err == 'error: no pool "spring"; pools there: none; bring codes in with `retain codes import POOL FILE`\n'
    )
    retain("codes", "import", "spring", codes)
    slip = retain("codes", "release", "sprnig")
    assert (slip.code, slip.out) == (1, "")
    assert slip.err == 'error: no pool "sprnig" (did you mean "spring"?); pools there: spring\n'


def test_a_pool_that_an_offer_draws_on_is_known_before_its_first_codes(bare: Path, retain: Cli) -> None:
    offers = bare / "campaigns" / "book" / "offers.yaml"
    samples = offers.read_text(encoding="utf-8")
    offers.write_text(samples.replace("{kind: shared, value: SHIPFREE}", "{kind: pool, pool: fall}"), encoding="utf-8")
    assert retain("codes", "release", "fall").out == "fall: 0 codes are free again\n"


def test_points_of_the_demonstration_are_posted_shown_frozen_and_handed_on(shop: Path, retain: Cli) -> None:
    posted = retain("points", "post", "--now", RIPE, "--json").json
    assert posted["new"]["multiplier"] > 0
    assert retain("points", "post", "--now", RIPE).out == "0 points posted\n"
    done = retain("points", "export", shop / "points.csv", "--now", RIPE, "--json").json
    assert done["points"] == posted["points"]
    assert done["postings"] == sum(posted["new"].values())
    customer = (shop / "points.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1]
    found = retain("points", "balance", customer, "--now", RIPE, "--json").json
    assert found["not_exported"] == 0
    assert found["balance"] == sum(row["points"] for row in found["postings"])
    assert f"{customer}: {found['balance']:,} points" in retain("points", "balance", customer, "--now", RIPE).out
    assert retain("points", "freeze", customer).out == f"{customer}: points are frozen\n"
    assert retain("points", "freeze", customer, "--json").json["changed"] is False
    assert ", frozen" in retain("points", "balance", customer, "--now", RIPE).out
    assert retain("points", "freeze", customer, "--release").out == f"{customer}: points go on\n"
    assert retain("points", "export", shop / "points.csv", "--now", RIPE).code == 1


def test_a_measurement_shows_what_became_of_the_offers(shop: Path, retain: Cli) -> None:
    measured = retain("measure", CAMPAIGN, "--now", RIPE, "--json").json["redemptions"]
    by_offer = {row["offer"]: row for row in measured["offers"]}
    assert by_offer["thirty-five-percent"]["redeemed"] > 0
    assert by_offer["double-points"]["basis"] == "orders"
    assert "thirty-five-percent" in retain("measure", CAMPAIGN, "--now", RIPE).out
