"""The properties of contacts: their types, and how values of a type compare.

Source: docs/hubspot.rst (Contact properties).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

Key = tuple[int, Decimal, str]
"""How a value sorts: 0 for none, 1 for a number, 2 for a text; the number; the text in lower case."""
NONE: Key = (0, Decimal(0), "")


@dataclass(frozen=True, slots=True)
class Property:
    """A property of contacts, as HubSpot defines it."""

    name: str
    label: str
    type: str = "string"
    """``string``, ``number``, ``date``, ``datetime``, ``enumeration``, ``bool`` or ``phone_number``."""
    field_type: str = "text"
    is_unique: bool = False
    is_read_only: bool = False
    options: tuple[str, ...] = ()


_STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
)
_DEFINED = (
    Property("email", "Email", is_unique=True),
    Property("firstname", "First Name"),
    Property("lastname", "Last Name"),
    Property("phone", "Phone Number", field_type="phonenumber"),
    Property("mobilephone", "Mobile Phone Number", field_type="phonenumber"),
    Property("hs_whatsapp_phone_number", "WhatsApp Phone Number", field_type="phonenumber"),
    Property("fax", "Fax Number"),
    Property("company", "Company Name"),
    Property("jobtitle", "Job Title"),
    Property("website", "Website URL"),
    Property("address", "Street Address"),
    Property("city", "City"),
    Property("state", "State/Region"),
    Property("zip", "Postal Code"),
    Property("country", "Country/Region"),
    Property("hs_language", "Preferred language", "enumeration", "select"),
    Property("lifecyclestage", "Lifecycle Stage", "enumeration", "radio", options=(*_STAGES, "other")),
    Property("hs_lead_status", "Lead Status", "enumeration", "radio"),
    Property("hubspot_owner_id", "Contact owner", "enumeration", "select"),
    Property("date_of_birth", "Date of birth"),
    Property("closedate", "Close Date", "datetime", "date"),
    Property("annualrevenue", "Annual Revenue"),
    Property("hs_additional_emails", "Additional email addresses", "enumeration", "checkbox"),
    Property("num_associated_deals", "Number of Associated Deals", "number", "number", is_read_only=True),
    Property("num_notes", "Number of Sales Activities", "number", "number", is_read_only=True),
    Property("notes_last_contacted", "Last Contacted", "datetime", "date", is_read_only=True),
    Property("hs_calculated_phone_number", "Calculated Phone Number", is_read_only=True),
    Property("hs_calculated_mobile_number", "Calculated Mobile Number", is_read_only=True),
    Property("hs_searchable_calculated_phone_number", "Searchable Calculated Phone Number", is_read_only=True),
    Property("hs_searchable_calculated_mobile_number", "Searchable Calculated Mobile Number", is_read_only=True),
    Property("hs_object_id", "Record ID", "number", "number", is_unique=True, is_read_only=True),
    Property("createdate", "Create Date", "datetime", "date", is_read_only=True),
    Property("lastmodifieddate", "Last Modified Date", "datetime", "date", is_read_only=True),
)
OF_CONTACTS = {one.name: one for one in _DEFINED}
OF_ANY = {
    one.name: one
    for one in (
        Property("hs_createdate", "Object create date/time", "datetime", "date", is_read_only=True),
        Property("hs_lastmodifieddate", "Object last modified date/time", "datetime", "date", is_read_only=True),
        Property("hubspot_owner_id", "Owner", "enumeration", "select"),
        OF_CONTACTS["hs_object_id"],
    )
}
"""What objects of every other kind have at least."""


def sort_key(name: str, value: str | None) -> Key:
    """Return how a value of a property sorts: dates and numbers by what they mean, texts without regard to case.

    :raises ValueError: when the value is none of the property's type.
    """
    if not value:
        return NONE
    known = OF_CONTACTS.get(name)
    if known is not None and known.type in ("date", "datetime"):
        return 1, Decimal(_epoch_ms(value)), ""
    if known is not None and known.type == "number":
        return 1, _number(value), ""
    return 2, Decimal(0), value.lower()


def stored_key(name: str, value: str | None) -> Key:
    """Return how a stored value sorts; one that is none of its type, as a text."""
    try:
        return sort_key(name, value)
    except ValueError:
        return 2, Decimal(0), str(value).lower()


def _number(value: str) -> Decimal:
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        raise ValueError("is no number") from None
    if not number.is_finite():
        raise ValueError("is no number")
    return number


def _epoch_ms(value: str) -> int:
    text = value.strip()
    if text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) <= 15:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError("is no date: epoch milliseconds or ISO-8601") from None
