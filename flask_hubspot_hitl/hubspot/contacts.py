"""Read what a host calls a contact, and find its owner in HubSpot.

Pure functions. Of ours it may import ``domain``, ``errors`` and ``phones``, which knows numbers; no Flask, no database,
no HTTP. ``email_validator`` costs more to import than the rest of the package: only on first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from ..domain import Contact
from ..errors import ContactInvalid
from . import phones
from .phones import Same

#: Properties to ask for in a contact search, so that :func:`pick` can check its candidates.
SEARCH_PROPERTIES = (
    "email",
    "hs_additional_emails",
    "phone",
    "mobilephone",
    "hs_whatsapp_phone_number",
    "hs_calculated_phone_number",
    "hs_calculated_mobile_number",
    "firstname",
    "lastname",
    "createdate",
)
PHONES = {"phone": "hs_calculated_phone_number", "mobilephone": "hs_calculated_mobile_number"}
"""Where a contact has phone numbers, each with what HubSpot makes of it: with the country code."""
WHATSAPP = "hs_whatsapp_phone_number"


def parse_contact(value: str | Contact, *, allow_special_domains: bool = False) -> Contact:
    """Return the contact with its phone number in E.164 and its e-mail address normalised.

    A value with an ``@`` is an e-mail address, one without is a phone number with its country code, whichever
    of the two fields of a ``Contact`` it stands in. What is given as ``whatsapp``, or begins with ``whatsapp:``, is
    taken as the messenger delivered it. ``allow_special_domains`` lets ``.test``, ``localhost`` and other
    special-use domains pass, for use with a HubSpot stand-in. Nothing is looked up in DNS.
    Raises ``ContactInvalid``; its text says what would be right and never holds the value.
    """
    given = value if isinstance(value, Contact) else Contact(phone=value)
    found: dict[str, str] = {}
    for name in ("phone", "email", "whatsapp"):
        item = getattr(given, name)
        if item is None or item == "":
            continue
        if not isinstance(item, str):
            raise ContactInvalid(f"A contact must be text or a Contact, not {type(item).__name__}.")
        for kind, read in _read(name, item, allow_special_domains):
            _note(found, kind, read)
    if given.extension:
        if not re.fullmatch("[0-9]{1,7}", str(given.extension)):
            raise ContactInvalid("The extension is not 1 to 7 digits.")
        _note(found, "extension", str(given.extension))
    if "extension" in found and "phone" not in found:
        raise ContactInvalid("The contact has an extension and no phone number; give both.")
    if not found:
        raise ContactInvalid("The contact is empty; give a phone number with country code or an e-mail address.")
    return Contact(**found)


def _read(field: str, text: str, allow_special_domains: bool) -> Iterator[tuple[str, str]]:
    """Return what a text in a field of a contact is, with its normal form."""
    if field == "whatsapp" or phones.is_messenger_id(text):
        yield "whatsapp", phones.read_messenger_id(text)
    elif "@" in text:
        yield "email", _email(text.strip(), allow_special_domains)
    else:
        number = phones.read(text)
        yield "phone", number.value
        if number.extension is not None:
            yield "extension", number.extension


def _note(found: dict[str, str], name: str, value: str) -> None:
    """Keep a value; refuse a second one that is another."""
    if found.setdefault(name, value) != value:
        raise ContactInvalid(f"The contact has two different {_KINDS[name]}; give one.")


_KINDS = {
    "phone": "phone numbers",
    "email": "e-mail addresses",
    "whatsapp": "WhatsApp ids",
    "extension": "extensions",
}


def identifier_of(contact: Contact, record: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the delivery identifier a parsed contact writes from: its phone number, else its e-mail address.

    A number is written as ``record``, HubSpot's contact, has it, or as its country writes it today: HubSpot matches
    identifiers by itself, too. One that no country has now is an opaque name.

    Source: docs/hubspot.rst (Contact matching). Raises ``ContactInvalid`` for an empty one.
    """
    for number in contact.numbers:
        stored = (form for form in phones.forms(number) if record is not None and _has_exactly(record, form))
        value = next((one for one in stored if phones.is_possible(one)), phones.dialable(number))
        if phones.is_possible(value):
            return {"type": "HS_PHONE_NUMBER", "value": value}
    if contact.email:
        return {"type": "HS_EMAIL_ADDRESS", "value": contact.email}
    if contact.numbers:
        return {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": contact.numbers[0]}
    raise ContactInvalid("The contact is empty; give a phone number with country code or an e-mail address.")


def searches(contact: Contact) -> list[list[dict[str, Any]]]:
    """Return the ``filterGroups`` (joined by OR) of the CRM searches for a parsed contact, at most five in each.

    Source: docs/hubspot.rst (Contact search). The calculated properties leave the country code out, so the answer
    holds people of other countries too; :func:`pick` sorts them out.
    """
    found: list[list[dict[str, Any]]] = []
    if contact.email:
        email = contact.email.lower()
        found.append(
            [_filter("email", "EQ", value=email), _filter("hs_additional_emails", "CONTAINS_TOKEN", value=email)]
        )
    if contact.numbers:
        typed, national = phones.spellings(contact.numbers), phones.national_forms(contact.numbers)
        groups = [_filter(name, "IN", values=typed) for name in ("phone", "mobilephone", WHATSAPP)]
        calculated = ("hs_searchable_calculated_phone_number", "hs_searchable_calculated_mobile_number")
        found.append(groups + [_filter(name, "IN", values=national) for name in calculated if national])
    return found


def _filter(name: str, operator: str, **values: Any) -> dict[str, Any]:
    return {"filters": [{"propertyName": name, "operator": operator, **values}]}


class Rank(IntEnum):
    """How surely a contact of HubSpot's is the one that was asked for; the lowest is the surest."""

    EMAIL = 0
    """It has the e-mail address."""
    EXACT = Same.EXACT.value
    RENUMBERED = Same.RENUMBERED.value
    LOCAL = Same.LOCAL.value
    ADDITIONAL = 4
    """It has the e-mail address among its further ones."""


def rank(record: Mapping[str, Any], contact: Contact) -> Rank | None:
    """Return how surely a contact of HubSpot's, read with :data:`SEARCH_PROPERTIES`, is a parsed contact.

    :returns: None when it is somebody else, or nothing tells that it is not.
    """
    properties = _properties(record)
    found: list[Rank] = []
    if contact.email:
        email = contact.email.lower()
        if str(properties.get("email") or "").strip().lower() == email:
            found.append(Rank.EMAIL)
        further = str(properties.get("hs_additional_emails") or "").split(";")
        if email in (item.strip().lower() for item in further):
            found.append(Rank.ADDITIONAL)
    found += [Rank(same) for number in contact.numbers for same in _same(properties, number)]
    return min(found, default=None)


def pick(results: Iterable[object], contact: Contact | None = None) -> dict[str, Any] | None:
    """Choose among matching contacts: the surest by :func:`rank`, then the oldest.

    ``results`` are HubSpot's contact objects, read with :data:`SEARCH_PROPERTIES`. With ``contact`` given, somebody
    else is never chosen.
    """
    ranked = []
    for result in results:
        if not isinstance(result, Mapping) or not result.get("id") or result.get("archived") is True:
            continue
        how = Rank.EXACT if contact is None else rank(result, contact)
        if how is not None:
            created = _properties(result).get("createdate") or result.get("createdAt")
            identity = str(result["id"])
            ranked.append(((how, _created(created), len(identity), identity), dict(result)))
    return min(ranked, key=lambda item: item[0])[1] if ranked else None


def _properties(record: Mapping[str, Any]) -> Mapping[str, Any]:
    found = record.get("properties")
    return found if isinstance(found, Mapping) else {}


def _same(properties: Mapping[str, Any], number: str) -> Iterator[Same]:
    for name, calculated in PHONES.items():
        same = phones.compare(number, properties.get(name))
        # HubSpot may know the country of what was typed without its code.
        if same is Same.LOCAL and properties.get(calculated):
            same = phones.compare(number, properties[calculated])
        if same is not None:
            yield same
    same = phones.compare_messenger_id(number, properties.get(WHATSAPP))
    if same is not None:
        yield same


def _has_exactly(record: Mapping[str, Any], number: str) -> bool:
    return Same.EXACT in _same(_properties(record), number)


def _email(value: str, allow_special_domains: bool) -> str:
    from email_validator import EmailNotValidError, validate_email

    try:
        return validate_email(value, check_deliverability=False).normalized
    except EmailNotValidError:
        pass
    except ValueError:  # a lone surrogate
        allow_special_domains = False
    if allow_special_domains:
        # Under ``test_environment`` the library lets .test pass and nothing else that is special: borrow it.
        try:
            checked = validate_email(f"{value}.test", check_deliverability=False, test_environment=True)
        except ValueError:
            pass
        else:
            return checked.normalized.removesuffix(".test")
    raise ContactInvalid("The e-mail address is not valid; write it such as ada@example.com.")


def _created(value: object) -> float:
    """Return when a contact was made, in epoch seconds; the unknown sorts last."""
    if isinstance(value, str):
        try:
            if value.isdecimal():
                return int(value) / 1000
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    return float("inf")
