"""Parse phone numbers and e-mail addresses, and find their owner in HubSpot.

Pure functions. Of ours it may import ``domain`` and ``errors`` only; no Flask, no database, no HTTP. ``phonenumbers``
and ``email_validator`` cost more to import than the rest of the package: only on first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..domain import Contact
from ..errors import ContactInvalid

#: Properties to ask for in a contact search, so that :func:`pick` can check its candidates.
SEARCH_PROPERTIES = (
    "email",
    "hs_additional_emails",
    "phone",
    "mobilephone",
    "firstname",
    "lastname",
    "createdate",
)


def parse_contact(value: str | Contact, *, allow_special_domains: bool = False) -> Contact:
    """Return the contact with its phone number in E.164 and its e-mail address normalised.

    A value with an ``@`` is an e-mail address, one without is a phone number with its country code, whichever
    field of a ``Contact`` it stands in. ``allow_special_domains`` lets ``.test``, ``localhost`` and other
    special-use domains pass, for use with a HubSpot stand-in. Nothing is looked up in DNS.
    Raises ``ContactInvalid``; its text never holds the value.
    """
    if isinstance(value, Contact):
        values: tuple[object, ...] = (value.phone, value.email)
    else:
        values = (value,)
    phone: str | None = None
    email: str | None = None
    for item in values:
        if item is None or item == "":
            continue
        if not isinstance(item, str):
            raise ContactInvalid(f"A contact must be text or a Contact, not {type(item).__name__}.")
        if "@" in item:
            normal = _email(item.strip(), allow_special_domains)
            if email not in (None, normal):
                raise ContactInvalid("The contact has two different e-mail addresses; give one.")
            email = normal
        else:
            normal = _phone(item.strip())
            if phone not in (None, normal):
                raise ContactInvalid("The contact has two different phone numbers; give one.")
            phone = normal
    if phone is None and email is None:
        raise ContactInvalid("The contact is empty; give a phone number with country code or an e-mail address.")
    return Contact(phone=phone, email=email)


def identifier_of(contact: Contact) -> dict[str, str]:
    """Return the delivery identifier a parsed contact writes from: its phone number, else its e-mail address.

    HubSpot OpenAPI, custom channels, ``PublicDeliveryIdentifier``. Raises ``ContactInvalid`` for an empty one.
    """
    if contact.phone:
        return {"type": "HS_PHONE_NUMBER", "value": contact.phone}
    if contact.email:
        return {"type": "HS_EMAIL_ADDRESS", "value": contact.email}
    raise ContactInvalid("The contact is empty; give a phone number with country code or an e-mail address.")


def search_filters(contact: Contact) -> list[dict[str, Any]]:
    """Return the ``filterGroups`` (joined by OR) of a CRM search for a parsed contact; at most five.

    HubSpot docs, "CRM search": calculated phone properties leave the country code out, so the answer holds
    people of other countries too; :func:`pick` sorts them out.
    """
    groups: list[tuple[str, str, str]] = []
    if contact.email:
        groups += [
            ("email", "EQ", contact.email.lower()),
            ("hs_additional_emails", "CONTAINS_TOKEN", contact.email.lower()),
        ]
    if contact.phone:
        import phonenumbers

        number = phonenumbers.parse(contact.phone)
        national = phonenumbers.national_significant_number(number)
        groups += [
            ("hs_searchable_calculated_phone_number", "EQ", national),
            ("hs_searchable_calculated_mobile_number", "EQ", national),
            ("phone", "EQ", contact.phone),
            ("mobilephone", "EQ", contact.phone),
        ]
    return [
        {"filters": [{"propertyName": name, "operator": operator, "value": value}]}
        for name, operator, value in groups[:5]
    ]


def pick(results: Iterable[object], contact: Contact | None = None) -> dict[str, Any] | None:
    """Choose among matching contacts: the owner of the e-mail address, then the oldest.

    ``results`` are HubSpot's contact objects, read with :data:`SEARCH_PROPERTIES`. With ``contact`` given, a candidate
    must have its e-mail address, or a phone number that is the same and not of another country.
    """
    ranked = []
    for result in results:
        if not isinstance(result, Mapping) or not result.get("id") or result.get("archived") is True:
            continue
        properties = result.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        by_email = contact is not None and _has_email(properties, contact.email)
        if contact is None or by_email or _has_phone(properties, contact.phone):
            created = properties.get("createdate") or result.get("createdAt")
            identity = str(result["id"])
            ranked.append(((not by_email, _created(created), len(identity), identity), dict(result)))
    return min(ranked, key=lambda item: item[0])[1] if ranked else None


def same_phone(wanted: str, stored: object) -> bool:
    """Return True when ``stored``, as somebody typed it, is the E.164 number ``wanted``.

    One typed without its country code counts; one with another country code does not.
    """
    if not isinstance(stored, str) or not stored.strip():
        return False
    import phonenumbers

    same = (phonenumbers.MatchType.EXACT_MATCH, phonenumbers.MatchType.NSN_MATCH)
    return phonenumbers.is_number_match(phonenumbers.parse(wanted), stored) in same


def _phone(value: str) -> str:
    import phonenumbers

    # phonenumbers reads letters as a keypad does ("+1 800 FLOWERS"): here that would be a guess.
    if any(character.isalpha() for character in value):
        raise ContactInvalid("The contact has letters but no @; give a phone number or an e-mail address.")
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        raise ContactInvalid(
            "The phone number can't be read; write it with its country code, such as +14155550123."
        ) from None
    if not phonenumbers.is_possible_number(number):
        raise ContactInvalid(
            "The phone number is too short or too long for its country code; write it such as +14155550123."
        )
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


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


def _has_email(properties: Mapping[str, Any], email: str | None) -> bool:
    if not email:
        return False
    stored = [str(properties.get("email") or "")]
    stored += str(properties.get("hs_additional_emails") or "").split(";")
    return email.lower() in (item.strip().lower() for item in stored)


def _has_phone(properties: Mapping[str, Any], phone: str | None) -> bool:
    if not phone:
        return False
    return any(same_phone(phone, properties.get(name)) for name in ("phone", "mobilephone"))


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
