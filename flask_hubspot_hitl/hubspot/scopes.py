"""Name the kinds of app that HubSpot has, and the scopes that each kind needs for what is in use.

Imports nothing of ours. Source: docs/hubspot.rst (Scopes).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum


class AppKind(StrEnum):
    """What an app is at HubSpot. Only project apps can still be made; legacy apps go on until September 2027."""

    PROJECT = "project"
    """Files in a folder, uploaded with HubSpot's command line: its webhooks and scopes are in those files."""
    LEGACY_PUBLIC = "legacy-public"
    """Made on a page of a developer account; the only kind whose webhooks the API can read and write."""
    LEGACY_PRIVATE = "legacy-private"
    """Made in the settings of one account, which it works for, with a token that never changes."""


SCOPES = (
    "oauth",
    "conversations.custom_channels.read",
    "conversations.custom_channels.write",
    "conversations.read",
    "conversations.write",
    "conversations.visitor_identification.tokens.create",
    "crm.objects.contacts.read",
)
"""What every installation needs: the conversations of our channel, and the contact to attach them to."""
FILES_SCOPES = ("files.read", "files.write")
"""For users' files."""
LEGACY_FILES_SCOPE = "files"
"""The same in one, which legacy apps have and project apps are refused."""
CREATE_CONTACTS_SCOPE = "crm.objects.contacts.write"
"""For ``CONTACT_POLICY=create``."""
USERS_SCOPE = "crm.objects.users.read"
"""For ``AVAILABILITY=hubspot``."""
TEAMS_SCOPE = "settings.users.teams.read"
"""For the same, with teams in ``INBOX_MEMBERS``."""
TICKETS_SCOPE = "tickets"
"""For ``TICKETS``, and for ``NOTES_IN``."""
TICKET_NOTES_SCOPES = (TICKETS_SCOPE, CREATE_CONTACTS_SCOPE)
"""For ``NOTES_IN``: notes are written with the scope of contacts. Source: HubSpot OpenAPI, notes."""


def needed(
    kind: AppKind,
    *,
    creates_contacts: bool,
    reads_users: bool = False,
    reads_teams: bool = False,
    changes_tickets: bool = False,
    notes_on_tickets: bool = False,
) -> tuple[str, ...]:
    """Return the scopes that an app of this kind needs, and no more.

    :param creates_contacts: whether a contact that HubSpot does not know is made.
    :param reads_users: whether HubSpot is asked which agents are there.
    :param reads_teams: whether it is asked who is in a team.
    :param changes_tickets: whether ``start`` may set properties of tickets.
    :param notes_on_tickets: whether notes are to be on tickets.
    """
    files = FILES_SCOPES if kind is AppKind.PROJECT else (LEGACY_FILES_SCOPE,)
    in_use = {
        CREATE_CONTACTS_SCOPE: creates_contacts or notes_on_tickets,
        USERS_SCOPE: reads_users,
        TEAMS_SCOPE: reads_teams,
        TICKETS_SCOPE: changes_tickets or notes_on_tickets,
    }
    return (*SCOPES, *files, *(scope for scope, is_needed in in_use.items() if is_needed))


def lacking(wanted: Iterable[str], granted: Collection[str]) -> tuple[str, ...]:
    """Return the scopes that are wanted and not granted; ``files`` and its two successors stand for each other."""
    has = set(granted)
    if LEGACY_FILES_SCOPE in has:
        has |= set(FILES_SCOPES)
    elif has >= set(FILES_SCOPES):
        has.add(LEGACY_FILES_SCOPE)
    return tuple(one for one in wanted if one not in has)


def not_in_use(granted: Iterable[str], asked: Collection[str]) -> tuple[str, ...]:
    """Return the granted scopes that nothing here uses, whatever its settings, and that were not asked for.

    :param asked: what an installation asks for by the settings.
    """
    ours = (LEGACY_FILES_SCOPE, CREATE_CONTACTS_SCOPE, USERS_SCOPE, TEAMS_SCOPE, TICKETS_SCOPE)
    known = {*SCOPES, *FILES_SCOPES, *ours, *asked}
    return tuple(one for one in granted if one not in known)
