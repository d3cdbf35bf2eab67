"""Contacts: which values are which, how HubSpot is asked, and who is picked (D31, rules C5, C8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hubspot_hitl import errors
from flask_hubspot_hitl.domain import Contact
from flask_hubspot_hitl.hubspot import phones
from flask_hubspot_hitl.hubspot.contacts import SEARCH_PROPERTIES, identifier_of, parse_contact, pick, searches
from flask_hubspot_hitl.testing import strategies


@pytest.mark.parametrize(
    ("value", "phone"),
    [
        ("+14155552671", "+14155552671"),
        (" +1 (415) 555-2671 ", "+14155552671"),
        ("+34 911 222 333", "+34911222333"),
        ("＋34 911 222 333", "+34911222333"),
        ("+44 (0) 20 7946 0958", "+442079460958"),
        ("+39 06 6982", "+39066982"),
        ("0034911222333", "+34911222333"),
        ("tel:+34-911-222-333", "+34911222333"),
        ("+5215512345678", "+5215512345678"),
        ("+22997123456", "+22997123456"),
    ],
)
def test_phone_numbers(value: str, phone: str) -> None:
    assert parse_contact(value) == Contact(phone=phone)
    assert parse_contact(Contact(phone=value)) == Contact(phone=phone)
    # The seed's rule: an e-mail field that holds a phone number.
    assert parse_contact(Contact(email=value)) == Contact(phone=phone)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        "rosa",
        "14155552671",
        "00999123456",
        "911 222 333",
        "+1",
        "+999123456",
        "+1625555",
        "+1 800 FLOWERS",
        "rosa +14155552671",
        "+" + "1" * 300,
        "\ud800",
        "+1415\x005552671",
        "@",
        "a@",
        "@b.example",
        "a b@example.com",
        "a@@example.com",
        "a@localhost",
        "a@x.test",
        "a@x\ud800.com",
        Contact(),
        Contact(email="", phone=""),
        Contact(phone="+14155552671", email="+14155552672"),
        Contact(whatsapp="rosa"),
        Contact(whatsapp="0034911222333"),
        Contact(whatsapp="+14155552671", phone="whatsapp:+14155552672"),
        Contact(extension="12"),
        Contact(email="rosa@example.com", extension="12"),
        Contact(phone="+14155552671", extension="twelve"),
        None,
        415,
        b"+14155552671",
    ],
)
def test_not_a_contact(value: Any) -> None:
    with pytest.raises(errors.ContactInvalid) as raised:
        parse_contact(value)
    given_text = value if isinstance(value, str) else (value.value if isinstance(value, Contact) else None)
    if given_text and len(given_text.strip()) > 3:
        assert given_text.strip() not in str(raised.value)


def test_email_addresses() -> None:
    assert parse_contact(" Rosa.Vidal@Example.COM ") == Contact(email="Rosa.Vidal@example.com")
    assert parse_contact(Contact(phone="rosa@example.com")) == Contact(email="rosa@example.com")
    both = Contact(phone="+34 911 222 333", email="rosa@example.com")
    assert parse_contact(both) == Contact(phone="+34911222333", email="rosa@example.com")


@pytest.mark.parametrize("address", ["a@x.test", "a@localhost", "a@bot.localhost", "a@x.invalid", "a@example.com"])
def test_special_domains_for_a_stand_in(address: str) -> None:
    assert parse_contact(address, allow_special_domains=True) == Contact(email=address)


def test_special_domains_are_no_excuse_for_nonsense() -> None:
    for value in ("a b@x.test", "@x.test", "a@", "a@x..test", "a@-x.test"):
        with pytest.raises(errors.ContactInvalid):
            parse_contact(value, allow_special_domains=True)


@given(st.one_of(st.text(st.characters(exclude_categories=[])), st.from_regex(r"\+[0-9 ()@.-]{1,20}")), st.booleans())
def test_parse_gives_a_contact_or_says_invalid(value: str, special: bool) -> None:
    try:
        found = parse_contact(value, allow_special_domains=special)
    except errors.ContactInvalid:
        return
    assert parse_contact(found, allow_special_domains=special) == found


def test_what_a_messenger_delivered_and_an_extension() -> None:
    assert parse_contact(Contact(whatsapp="34911222333")) == Contact(whatsapp="+34911222333")
    assert parse_contact("whatsapp:+5215512345678") == Contact(whatsapp="+5215512345678")
    extended = Contact(phone="+14155550123", extension="12")
    assert parse_contact("+1 (415) 555-0123 ext. 12") == extended
    assert parse_contact(Contact(phone="+14155550123", extension="12")) == extended
    assert Contact(whatsapp="+34911222333", email="a@example.com").value == "+34911222333"
    assert "911" not in repr(Contact(whatsapp="34911222333", extension="911"))


@given(strategies.contacts())
def test_the_kit_generates_contacts_that_are_taken(contact: Contact) -> None:
    found = parse_contact(contact)
    assert parse_contact(found) == found
    assert identifier_of(found)["value"]
    is_known = found.email is not None or any(phones.is_possible(phones.dialable(one)) for one in found.numbers)
    # An old number that its country has in no form now is a name that HubSpot does not look into.
    assert (identifier_of(found)["type"] == "CHANNEL_SPECIFIC_OPAQUE_ID") is not is_known


def test_what_no_country_has_is_an_opaque_name() -> None:
    """HubSpot is not asked to believe a number that its country does not have."""
    unknown = parse_contact(Contact(whatsapp="999123456789"))
    assert identifier_of(unknown) == {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "+999123456789"}


@pytest.mark.parametrize(
    ("given_as", "stored", "value"),
    [
        ("+5215512345678", None, "+525512345678"),
        ("+5215512345678", "+52 1 55 1234 5678", "+525512345678"),
        ("+5491123456789", None, "+5491123456789"),
        ("+5491123456789", "+54 11 2345-6789", "+541123456789"),
        ("+541123456789", None, "+541123456789"),
        ("+551187654321", None, "+5511987654321"),
        ("+551187654321", "+55 11 8765-4321", "+551187654321"),
    ],
)
def test_the_sender_is_written_as_hubspot_has_it(given_as: str, stored: str | None, value: str) -> None:
    record = None if stored is None else person("1", phone=stored)
    assert identifier_of(Contact(phone=given_as), record) == {"type": "HS_PHONE_NUMBER", "value": value}


def filters(contact: Contact) -> list[dict[str, tuple[str, Any]]]:
    found = searches(contact)
    for groups in found:
        assert len(groups) <= 5
        assert all(len(group["filters"]) == 1 for group in groups)
        body = {"filterGroups": groups, "properties": SEARCH_PROPERTIES, "sorts": ["createdate"], "limit": 100}
        assert len(json.dumps(body)) < 3000
    return [
        {one["propertyName"]: (one["operator"], one.get("value", one.get("values"))) for group in groups
         for one in group["filters"]}
        for groups in found
    ]  # fmt: skip


def test_searches() -> None:
    typed = ("IN", ["+34911222333", "34911222333", "+34 911 22 23 33"])
    by_phone = {
        "phone": typed,
        "mobilephone": typed,
        "hs_whatsapp_phone_number": typed,
        "hs_searchable_calculated_phone_number": ("IN", ["911222333"]),
        "hs_searchable_calculated_mobile_number": ("IN", ["911222333"]),
    }
    by_email = {
        "email": ("EQ", "rosa@example.com"),
        "hs_additional_emails": ("CONTAINS_TOKEN", "rosa@example.com"),
    }
    assert filters(Contact(phone="+34911222333")) == [by_phone]
    assert filters(Contact(whatsapp="+34911222333")) == [by_phone]
    assert filters(Contact(email="Rosa@example.com")) == [by_email]
    assert filters(Contact(phone="+34911222333", email="rosa@example.com")) == [by_email, by_phone]


@given(strategies.contacts())
def test_searches_stay_within_hubspots_limits(contact: Contact) -> None:
    for found in filters(parse_contact(contact)):
        for operator, values in found.values():
            assert operator != "IN" or all(one == one.lower() for one in values), "IN compares in lower case"


def person(identity: str, created: str | None = "2025-01-01T00:00:00Z", **properties: Any) -> dict[str, Any]:
    return {"id": identity, "properties": {"createdate": created, **properties}}


@pytest.mark.parametrize(
    ("stored", "same"),
    [
        ("+14155552671", True),
        ("+1 (415) 555-2671", True),
        ("(415) 555-2671", True),
        ("1-415-555-2671", True),
        ("+44 4155552671", False),
        ("+34 415 555 2671", False),
        ("555-2671", False),
        ("", False),
        (None, False),
        (14155552671, False),
        ("not a number", False),
        ("x" * 400, False),
        ("\ud800", False),
    ],
)
def test_same_phone(stored: object, same: bool) -> None:
    """The search by national number finds people of other countries; they are not the user."""
    wanted = Contact(phone="+14155552671")
    assert (pick([person("1", phone=stored)], wanted) is not None) is same
    assert (pick([person("1", mobilephone=stored)], wanted) is not None) is same


def test_pick_is_deterministic() -> None:
    old, young = person("9", "2024-01-01T00:00:00.5Z"), person("10", "2025-01-01T00:00:00Z")
    millis, undated = person("7", "1600000000000"), person("1", None)
    assert pick([young, old, undated]) == pick([undated, old, young]) == old
    assert pick([young, old, millis]) == millis
    assert pick([person("10", None), person("9", None)]) == person("9", None)
    assert pick([]) is None
    assert pick([{}, "x", None, {"id": "5", "archived": True}, {"id": "4", "properties": None}]) == {
        "id": "4",
        "properties": None,
    }


def test_the_surest_comes_first() -> None:
    by_email = person("9", "2025-01-01T00:00:00Z", email="ROSA@example.com")
    exact = person("8", "2024-01-01T00:00:00Z", phone="+52 1 55 1234 5678")
    renumbered = person("7", "2023-01-01T00:00:00Z", mobilephone="+52 55 1234 5678")
    local = person("6", "2022-01-01T00:00:00Z", phone="55 1234 5678")
    further = person("5", "2021-01-01T00:00:00Z", hs_additional_emails="x@example.com;rosa@example.com")
    strangers = [
        person("4", "2020-01-01T00:00:00Z", email="rosa@example.com.evil.example"),
        person("3", "2020-01-01T00:00:00Z", phone="+1 551 234 5678"),
        person("2", "2020-01-01T00:00:00Z", phone="1234 5678"),
    ]
    wanted = Contact(phone="+5215512345678", email="rosa@example.com")
    there = [by_email, exact, renumbered, local, further]
    while there:
        assert pick([*strangers, *reversed(there)], wanted) == there[0]
        del there[0]
    assert pick(strangers, wanted) is None


def test_hubspot_knows_the_country_of_what_was_typed_without_it() -> None:
    wanted = Contact(phone="+5215512345678")
    in_the_states = person("1", phone="551 234 5678", hs_calculated_phone_number="+15512345678")
    in_mexico = person("2", phone="55 1234 5678", hs_calculated_phone_number="+525512345678")
    assert pick([in_the_states], wanted) is None
    assert pick([in_the_states, in_mexico], wanted) == in_mexico


def test_the_messengers_number_finds_the_contact() -> None:
    known = person("1", phone="+34 600 111 222", hs_whatsapp_phone_number="525512345678")
    assert pick([known], Contact(whatsapp="+5215512345678")) == known
    assert pick([known], Contact(phone="+525512345678")) == known
    assert pick([known], Contact(whatsapp="+5215512345679")) is None
