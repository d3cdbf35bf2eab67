"""Who a phone number, an e-mail address or an actor id stands for in a portal (facts §3.6, §5.4, §10.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import phonenumbers

from . import shapes
from .wire import ApiError
from .world import JSON, Actor, Contact, World

if TYPE_CHECKING:
    from .simulation import Simulation

# calculated property -> (property it comes from, with country code?)
CALCULATED = {
    "hs_calculated_phone_number": ("phone", True),
    "hs_calculated_mobile_number": ("mobilephone", True),
    "hs_searchable_calculated_phone_number": ("phone", False),
    "hs_searchable_calculated_mobile_number": ("mobilephone", False),
    "hs_searchable_calculated_international_phone_number": ("phone", True),
    "hs_searchable_calculated_international_mobile_number": ("mobilephone", True),
}


def parse_phone(value: str | None) -> phonenumbers.PhoneNumber | None:
    """A phone number with country code, or None when libphonenumber can't read it."""
    if not value or len(value) > 100:
        return None
    try:
        number = phonenumbers.parse(value, None)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_possible_number(number) else None


def e164(value: str | None) -> str | None:
    """A phone number in E.164, or None."""
    number = parse_phone(value)
    return None if number is None else phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def properties_of(contact: Contact) -> dict[str, str | None]:
    """A contact's properties with the calculated ones.

    The searchable ones hold area code and local number only: HubSpot leaves the country code out (facts §10.1).
    """
    every = dict(contact.properties)
    for name, (source, international) in CALCULATED.items():
        number = parse_phone(every.get(source))
        if number is not None:
            national = phonenumbers.national_significant_number(number)
            every[name] = e164(every[source]) if international else national
    return every


def check_identifier(identifier: JSON, where: str) -> None:
    """A delivery identifier's value must fit its type (facts §2.2). Raises ApiError (400)."""
    kind, value = identifier["type"], identifier["value"]
    if not value.strip():
        raise ApiError.invalid(where, "the delivery identifier must not be blank")
    if kind == "HS_EMAIL_ADDRESS":
        local, _, domain = value.rpartition("@")
        if not local or "." not in domain or any(c.isspace() for c in value):
            raise ApiError.invalid(where, "the delivery identifier is not an e-mail address")
    if kind == "HS_PHONE_NUMBER" and parse_phone(value) is None:
        raise ApiError.invalid(where, "the delivery identifier is not a phone number with country code")


def find_contact(world: World, portal_id: str, identifier: JSON) -> Contact | None:
    """The oldest contact with this e-mail address or phone number."""
    kind, value = identifier["type"], identifier["value"]
    for contact in world.contacts_of(portal_id):
        known = contact.properties
        if kind == "HS_EMAIL_ADDRESS":
            extra = (known.get("hs_additional_emails") or "").lower().split(";")
            if value.lower() in [(known.get("email") or "").lower(), *extra]:
                return contact
        if kind == "HS_PHONE_NUMBER":
            wanted = e164(value)
            if wanted is not None and wanted in (e164(known.get("phone")), e164(known.get("mobilephone"))):
                return contact
    return None


def visitor_id(sim: Simulation, portal_id: str, identifier: JSON, name: str | None) -> str:
    """The visitor who writes from an unknown identifier, made on first sight."""
    world = sim.world
    key = (portal_id, identifier["type"], identifier["value"])
    found = world.visitors.get(key)
    if found is None:
        found = world.visitors[key] = sim.ids.large()
        email = identifier["value"] if identifier["type"] == "HS_EMAIL_ADDRESS" else None
        world.actors[portal_id, f"V-{found}"] = Actor(f"V-{found}", portal_id, "VISITOR", name, email)
    return found


def contact_name(contact: Contact) -> str | None:
    """A contact's full name."""
    names = [contact.properties.get("firstname"), contact.properties.get("lastname")]
    return " ".join(name for name in names if name) or None


def actor(world: World, portal_id: str, actor_id: str) -> JSON | None:
    """``PublicActor`` for any actor id of the portal, or None."""
    known = world.actors.get((portal_id, actor_id))
    if known is not None:
        return shapes.actor(known)
    prefix, _, rest = actor_id.partition("-")
    contact = world.contacts.get(rest)
    if prefix == "V" and contact is not None and contact.portal_id == portal_id:
        email = contact.properties.get("email")
        return shapes.given(id=actor_id, type="VISITOR", name=contact_name(contact), email=email)
    if prefix == "I" and rest in world.apps:
        return {"id": actor_id, "type": "INTEGRATOR", "name": world.apps[rest].name}
    if actor_id == "S-hubspot":
        return {"id": actor_id, "type": "SYSTEM"}
    if prefix == "E" and "@" in rest:
        return {"id": actor_id, "type": "EMAIL", "email": rest}
    return None
