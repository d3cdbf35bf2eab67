"""Who a phone number, an e-mail address or an actor id stands for in a portal.

Source: docs/hubspot.rst (Contact matching; Actors; Contact search).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import phonenumbers

from ..model.errors import ApiError
from ..model.world import JSON, Actor, Contact, World, now_ms
from . import shapes, threads

if TYPE_CHECKING:
    from ..engine.simulation import Simulation

# calculated property -> (property it comes from, with country code?)
CALCULATED = {
    "hs_calculated_phone_number": ("phone", True),
    "hs_calculated_mobile_number": ("mobilephone", True),
    "hs_searchable_calculated_phone_number": ("phone", False),
    "hs_searchable_calculated_mobile_number": ("mobilephone", False),
    "hs_searchable_calculated_international_phone_number": ("phone", True),
    "hs_searchable_calculated_international_mobile_number": ("mobilephone", True),
}


MACHINES = {"B": ("BOT", "Welcome bot"), "L": ("LLM", "Customer agent")}
"""Prefixes of actors that are no people, with their type and a name (docs/hubspot.rst: Actors)."""


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


def properties_of(known: Contact) -> dict[str, str | None]:
    """A contact's properties with the calculated ones.

    The searchable ones hold area code and local number only: HubSpot leaves the country code out
    (docs/hubspot.rst: Contact search).
    """
    every = dict(known.properties)
    for name, (source, international) in CALCULATED.items():
        number = parse_phone(every.get(source))
        if number is not None:
            national = phonenumbers.national_significant_number(number)
            every[name] = e164(every[source]) if international else national
    return every


def check_identifier(identifier: JSON, where: str) -> None:
    """A delivery identifier's value must fit its type (docs/hubspot.rst: Making an account). Raises ApiError (400)."""
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
    for other in world.contacts_of(portal_id):
        known = other.properties
        if kind == "HS_EMAIL_ADDRESS" and value.lower() in emails(other):
            return other
        if kind == "HS_PHONE_NUMBER":
            wanted = e164(value)
            if wanted is not None and wanted in (e164(known.get("phone")), e164(known.get("mobilephone"))):
                return other
    return None


def emails(known: Contact) -> list[str]:
    """All e-mail addresses of a contact, in lower case, the main one first."""
    further = (known.properties.get("hs_additional_emails") or "").split(";")
    return [one.strip().lower() for one in (known.properties.get("email") or "", *further) if one.strip()]


def contact(world: World, portal_id: str, contact_id: str) -> Contact | None:
    """A contact by id; the id of one that was merged finds the one it went into (docs/hubspot.rst: Contact records)."""
    found = world.contacts.get(contact_id)
    while found is not None and found.merged_into is not None:
        found = world.contacts.get(found.merged_into)
    return found if found is not None and found.portal_id == portal_id and not found.archived else None


def refuse_duplicate(world: World, portal_id: str, email: str | None, *, but: str | None = None) -> None:
    """409 when another contact has the e-mail address; the message names it (docs/hubspot.rst: Contact records)."""
    for other in world.contacts_of(portal_id):
        if email and email.lower() in emails(other) and other.id != but:
            raise ApiError(409, "CONFLICT", f"Contact already exists. Existing ID: {other.id}")


def make_contact(sim: Simulation, portal_id: str, properties: dict[str, str | None]) -> Contact:
    """Make a contact; the e-mail address must be one and must be new. Raises ApiError."""
    email = properties.get("email")
    if email:
        check_identifier({"type": "HS_EMAIL_ADDRESS", "value": email}, "properties.email")
        properties["email"] = email.lower()
    refuse_duplicate(sim.world, portal_id, email)
    now = now_ms()
    made = Contact(sim.ids.large(), portal_id, properties, now, now)
    sim.world.contacts[made.id] = made
    return made


def change_contact(sim: Simulation, known: Contact, properties: dict[str, str | None]) -> None:
    """Change some properties. Raises ApiError when the e-mail address is another's."""
    refuse_duplicate(sim.world, known.portal_id, properties.get("email"), but=known.id)
    write(known, properties)


def write(known: Contact, properties: dict[str, str | None]) -> None:
    """Give some properties another value; what they were before stays in their history."""
    known.updated_ms = now_ms()
    for name, value in properties.items():
        before = known.properties.get(name)
        if before == value:
            continue
        past = known.history.setdefault(name, [(before, known.created_ms)] if before is not None else [])
        past.append((value or "", known.updated_ms))
    known.properties |= properties


def history(known: Contact, name: str) -> list[tuple[str, int]]:
    """Every value that a property had, and since when (epoch milliseconds), newest first."""
    value = properties_of(known).get(name)
    last = [(value, known.created_ms)] if value is not None else []
    return list(reversed(known.history.get(name, last)))


def merge_contacts(sim: Simulation, winner: Contact, loser: Contact) -> None:
    """Two contacts become one: threads and e-mail addresses of the loser are the winner's from now on.

    Source: docs/hubspot.rst (Contact records; Merges and transfers).
    """
    main, *further = [*dict.fromkeys(emails(winner) + emails(loser))] or [""]
    loser.archived, loser.merged_into = True, winner.id
    kept = {name: value for name, value in winner.properties.items() if value is not None}
    merged = {**loser.properties, **kept}
    if further:
        merged |= {"email": main, "hs_additional_emails": ";".join(further)}
    write(winner, merged)
    for thread in sim.world.threads.values():
        if thread.contact_id == loser.id:
            threads.associate(thread, winner.id)


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


def contact_name(known: Contact) -> str | None:
    """A contact's full name."""
    names = [known.properties.get("firstname"), known.properties.get("lastname")]
    return " ".join(name for name in names if name) or None


def actor(world: World, portal_id: str, actor_id: str) -> JSON | None:
    """``PublicActor`` for any actor id of the portal, or None."""
    known = world.actors.get((portal_id, actor_id))
    if known is not None:
        return shapes.actor(known)
    prefix, _, rest = actor_id.partition("-")
    person = contact(world, portal_id, rest) if prefix == "V" else None
    if person is not None:
        email = person.properties.get("email")
        return shapes.given(id=actor_id, type="VISITOR", name=contact_name(person), email=email)
    if prefix == "I" and rest in world.apps:
        return {"id": actor_id, "type": "INTEGRATOR", "name": world.apps[rest].name}
    if actor_id == "S-hubspot":
        return {"id": actor_id, "type": "SYSTEM"}
    if prefix in MACHINES and rest:
        return {"id": actor_id, "type": MACHINES[prefix][0], "name": MACHINES[prefix][1]}
    if prefix == "E" and "@" in rest:
        return {"id": actor_id, "type": "EMAIL", "email": rest}
    return None
