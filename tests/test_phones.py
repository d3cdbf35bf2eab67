"""When two phone numbers are one person's: a table of pairs by country, and strangers, who never match (rules C8)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import phonenumbers
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flask_hubspot_hitl.errors import ContactInvalid
from flask_hubspot_hitl.hubspot import phones
from flask_hubspot_hitl.hubspot.phones import RENUMBERINGS, Same
from flask_hubspot_hitl.testing import strategies

from .phone_pairs import PAIRS, SOURCES


def test_every_pair_has_a_source_and_every_rule_a_pair() -> None:
    assert len(PAIRS) >= 40
    assert {pair.country for pair in PAIRS} == set(SOURCES)
    for rule in RENUMBERINGS:
        assert rule.source
        assert re.fullmatch(r"(\d{4}-\d\d-\d\d)?", rule.since)
        country = rule.country.partition(" (")[0]
        assert country in SOURCES
        for is_same in (True, False):
            assert any(pair.country == country and pair.is_same == is_same for pair in PAIRS)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_pair_is_one_person_or_two(pair: Any) -> None:
    for given_as, stored in ((pair.old, pair.new), (pair.new, pair.old)):
        value = phones.read(given_as).value
        assert (phones.compare(value, stored) is not None) == pair.is_same
        assert phones.compare(value, given_as) == Same.EXACT
        same = phones.newest(value) == phones.newest(phones.read(stored).value)
        assert same == pair.is_same
        assert phones.is_possible(phones.dialable(value)), "HubSpot takes what we write"


def test_the_surest_is_said() -> None:
    assert phones.compare("+5215512345678", "+52 1 55 1234 5678") == Same.EXACT
    assert phones.compare("+5215512345678", "+52 (55) 1234-5678") == Same.RENUMBERED
    assert phones.compare("+5215512345678", "55 1234 5678") == Same.LOCAL
    assert phones.compare("+5215512345678", "525512345678") == Same.LOCAL
    assert phones.compare_messenger_id("+5215512345678", "525512345678") == Same.RENUMBERED
    assert phones.compare_messenger_id("+5215512345678", "5215512345678") == Same.EXACT
    assert phones.compare("+5511987654321", "98765-4321") is None, "which area?"
    assert phones.compare("+22507123456", "07 07 12 34 56") == Same.LOCAL
    for nothing in (None, "", "  ", 17, "ring the bell", "+", "00", "x" * 500, "\ud800"):
        assert phones.compare("+14155552671", nothing) is None


@pytest.mark.parametrize(
    ("text", "value", "extension"),
    [
        ("tel:+34-911-222-333", "+34911222333", None),
        ("TEL:+34911222333;ext=5", "+34911222333", "5"),
        ("+1 (415) 555-0123 ext. 12", "+14155550123", "12"),
        ("+1 415 555 0123 extension 007", "+14155550123", "007"),
        ("+14155550123x9", "+14155550123", "9"),
        ("+14155550123 #12", "+14155550123", "12"),
        ("0034 911 222 333", "+34911222333", None),
        ("0022997123456", "+22997123456", None),
        ("+54 11 15 2345-6789", "+5491123456789", None),
    ],
)
def test_spellings_are_read(text: str, value: str, extension: str | None) -> None:
    assert phones.read(text) == (value, extension)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("34911222333", r"Contact\(whatsapp=…\)"),
        ("911 222 333", r"does not say its country; write it with \+"),
        ("5215512345678", r"Contact\(whatsapp=…\)"),
        ("00999123456", "begins with 00"),
        ("00123", "begins with 00|can't be read"),
        ("+52155123456789", "too long"),
        ("+1 800 FLOWERS", "letters"),
        ("tel:7042;phone-context=+1", "letters"),
    ],
)
def test_what_is_ambiguous_is_refused_with_the_right_form(text: str, hint: str) -> None:
    with pytest.raises(ContactInvalid, match=hint) as raised:
        phones.read(text)
    assert not re.search(r"[0-9]{3}", str(raised.value).replace("+14155550123", "")), "never the number itself"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("34911222333", "+34911222333"),
        ("+5215512345678", "+5215512345678"),
        ("whatsapp:+34911222333", "+34911222333"),
        ("5215512345678@s.whatsapp.net", "+5215512345678"),
        ("5215512345678:12@s.whatsapp.net", "+5215512345678"),
        ("2250712345", "+2250712345"),
        ("999123456789", "+999123456789"),
    ],
)
def test_what_a_messenger_delivered_is_never_refused(text: str, value: str) -> None:
    assert phones.read_messenger_id(text) == value


@pytest.mark.parametrize("text", ["", "123456", "0034911222333", "1" * 16, "rosa", "user@example.com", "+"])
def test_what_is_no_messenger_id_is_refused(text: str) -> None:
    with pytest.raises(ContactInvalid, match="7 to 15 digits"):
        phones.read_messenger_id(text)


# Strangers -----------------------------------------------------------------------------------------------


def spelled(value: str) -> list[str]:
    """A number in every form and usual spelling, all with the country code."""
    return [one if one.startswith("+") else f"+{one}" for one in phones.spellings([value])]


@given(strategies.phone_numbers(), strategies.phone_numbers())
@example("+22505123456", "+2250705123456")
@example("+22507123456", "+2250507123456")
@example("+551187654321", "+5511887654321")
@example("+5215512345678", "+15512345678")
def test_strangers_never_match(one: str, other: str) -> None:
    """Who is one person is said by the digits that stayed and the rule, not by the product's comparison."""
    assume(identity(one) != identity(other))
    for given_as in phones.forms(one):
        for stored in spelled(other):
            assert phones.compare(given_as, stored) is None
            assert phones.compare_messenger_id(given_as, stored) is None


@given(strategies.phone_numbers())
def test_a_person_is_found_in_every_form(number: str) -> None:
    for given_as in phones.forms(number):
        for stored in spelled(number):
            assert phones.compare(given_as, stored) in (Same.EXACT, Same.RENUMBERED)
            assert phones.compare(phones.read(stored).value, given_as) in (Same.EXACT, Same.RENUMBERED)
    assert len(phones.forms(number)) <= 2, "one change at most, there and back"


def identity(value: str) -> str:
    """Whose number it is: of one that was changed country, place and what stayed of it, else the number."""
    for rule in RENUMBERINGS:
        for middle in (rule.old, rule.new):
            found = re.fullmatch(rf"\+{rule.code}({rule.head}){middle}({rule.tail})", value, re.ASCII)
            if found is not None:
                return f"{rule.code} {rule.old}>{rule.new} {found[1]} {found[2]}"
    return value


REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)


@given(st.sampled_from(REGIONS), st.sampled_from(KINDS), st.integers(0, 9), st.integers(1, 9))
def test_a_wrong_digit_is_somebody_else_in_every_country(region: str, kind: int, place: int, by: int) -> None:
    number = phonenumbers.example_number_for_type(region, kind)
    assume(number is not None)
    assert number is not None
    value = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    at = len(value) - 1 - place
    assume(at > len(str(number.country_code)))
    other = f"{value[:at]}{(int(value[at]) + by) % 10}{value[at + 1 :]}"
    assert phones.compare(value, value) == Same.EXACT
    assert phones.compare(value, other) is None
    assert phones.compare(other, value) is None


def test_no_number_is_in_two_rules() -> None:
    for rule in RENUMBERINGS:
        for other in RENUMBERINGS:
            if other.code != rule.code:
                continue
            for middle in (rule.old, rule.new):
                sample = _sample(rule, middle)
                hits = [one for one in (other.renumbered(sample), other.before(sample)) if one]
                assert len(hits) == (1 if other is rule else 0)


def _sample(rule: phones.Renumbering, middle: str) -> str:
    pair = next(one for one in PAIRS if one.is_same and phones.read(one.old).value.startswith(f"+{rule.code}"))
    heads = re.match(rf"\+{rule.code}({rule.head})", phones.read(pair.old).value)
    assert heads is not None
    tail = next(one for one in _tails() if re.fullmatch(rule.tail, one))
    return f"{rule.code}{heads[1]}{middle}{tail}"


@cache
def _tails() -> list[str]:
    starts = [f"{first}{second}" for first in range(10) for second in range(10)]
    return [f"{start}{'4' * length}" for length in range(5, 9) for start in starts]
