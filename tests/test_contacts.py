"""Contacts: which values are which, how HubSpot is asked, and who is picked (D31, rules C5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hubspot_hitl import errors
from flask_hubspot_hitl.domain import Contact
from flask_hubspot_hitl.hubspot.contacts import parse_contact, pick, same_phone, search_filters


@pytest.mark.parametrize(
    ("value", "phone"),
    [
        ("+14155552671", "+14155552671"),
        (" +1 (415) 555-2671 ", "+14155552671"),
        ("+34 911 222 333", "+34911222333"),
        ("＋34 911 222 333", "+34911222333"),
        ("+44 (0) 20 7946 0958", "+442079460958"),
        ("+39 06 6982", "+39066982"),
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
        "0034911222333",
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


def names(contact: Contact) -> dict[str, tuple[str, str]]:
    groups = search_filters(contact)
    assert len(groups) <= 5
    assert all(len(group["filters"]) == 1 for group in groups)
    filters = [group["filters"][0] for group in groups]
    return {item["propertyName"]: (item["operator"], item["value"]) for item in filters}


def test_search_filters() -> None:
    assert names(Contact(phone="+34911222333")) == {
        "phone": ("EQ", "+34911222333"),
        "mobilephone": ("EQ", "+34911222333"),
        "hs_searchable_calculated_phone_number": ("EQ", "911222333"),
        "hs_searchable_calculated_mobile_number": ("EQ", "911222333"),
    }
    assert names(Contact(email="Rosa@example.com")) == {
        "email": ("EQ", "rosa@example.com"),
        "hs_additional_emails": ("CONTAINS_TOKEN", "rosa@example.com"),
    }
    both = names(Contact(phone="+34911222333", email="rosa@example.com"))
    assert len(both) == 5
    assert {"email", "phone", "hs_searchable_calculated_mobile_number"} <= set(both)


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
    assert same_phone("+14155552671", stored) is same
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


def test_owner_of_the_email_address_comes_first() -> None:
    by_phone = person("1", "2020-01-01T00:00:00Z", phone="+14155552671")
    by_email = person("2", email="ROSA@example.com")
    by_other_email = person("3", hs_additional_emails="x@example.com;rosa@example.com")
    wanted = Contact(phone="+14155552671", email="rosa@example.com")
    assert pick([by_phone, by_email], wanted) == by_email
    assert pick([by_phone, by_other_email], wanted) == by_other_email
    assert pick([by_phone], wanted) == by_phone
    assert pick([person("4", email="rosa@example.com.evil.example")], wanted) is None
