"""``flask hubspot-hitl erase|export``: what is kept of one person."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
from flask.cli import with_appcontext

from ..errors import ContactInvalid
from ..handoffs import erasing, people
from ..handoffs.people import By, Who
from ..ledger import Transaction
from ..runtime import Runtime
from .common import Command, app_runtime, hubspot_id, say

_OPTIONS = (
    click.option("--phone", help="A number with + and its country code, or whatsapp: and the digits."),
    click.option("--email", help="An e-mail address."),
    click.option("--conversation", help="Your own id of a conversation."),
    click.option("--contact-id", callback=hubspot_id, help="The id of HubSpot's contact."),
    click.option("--portal", "portal_id", callback=hubspot_id, help="Whose --contact-id; needed with several portals."),
)


def _whom(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say whom it is about."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _who(runtime: Runtime, tx: Transaction, portal_id: str | None, **asked: str | None) -> Who:
    given = {By(name): text for name, text in asked.items() if text is not None}
    if len(given) != 1:
        raise click.UsageError("Say whom: one of --phone, --email, --conversation and --contact-id.")
    [(by, text)] = given.items()
    if by is not By.CONTACT and portal_id is not None:
        raise click.UsageError("--portal says whose contact --contact-id is; a person is meant in all portals.")
    if by is By.CONTACT and portal_id is None:
        portals = {runtime.settings.portal_id} - {None} or tx.people.portals()
        if len(portals) != 1:
            raise click.UsageError("A contact's id is one portal's: say which with --portal.")
        [portal_id] = portals
    try:
        return people.who_of(by, text, portal_id=portal_id, allow_special_domains=runtime.settings.is_stand_in)
    except ContactInvalid as error:
        raise click.UsageError(f"{error} Here: --phone whatsapp:14155550123.") from None


@click.command(cls=Command)
@_whom
@click.option("--yes", is_flag=True, help="Do it; without this, what would be erased is only told.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def erase(yes: bool, as_json: bool, portal_id: str | None, **asked: str | None) -> None:
    """Erase what is kept of a person; nobody but them is touched, and HubSpot is not."""
    runtime = app_runtime()
    ledger = runtime.ledger
    with ledger.read() as tx:
        who = _who(runtime, tx, portal_id, **asked)
        found = people.find(tx, who)
        counts = tx.people.count(found)
    if yes:
        counts = erasing.erase(ledger, found, by="command", who=who)
        runtime.dispatcher.wake()
    is_clean = ledger.wipe(anew=True) if yes else None
    facts = {"erased": yes, "rows": counts, "conversations": sorted(found.conversations), "files_wiped": is_clean}
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    lines = [f"{'Erased' if yes else 'Would erase'}: {said}." if said else "Nothing is kept of them."]
    if said and not yes:
        lines.append("Nothing was done yet: run it again with --yes.")
    if yes and not ledger.is_sqlite:
        lines.append("What the server keeps of deleted rows, and its own log, go at its next VACUUM and checkpoints.")
    say(facts, as_json, lines)
    if is_clean is False:
        raise click.ClickException(
            "The rows are gone, but others used the database all the time, so that its files may hold copies yet: run "
            "it again, or wait: it is tried again all the time."
        )


@click.command(cls=Command)
@_whom
@with_appcontext
def export(portal_id: str | None, **asked: str | None) -> None:
    """Print all that is kept of a person, as JSON; docs/export.schema.json describes it."""
    runtime = app_runtime()
    with runtime.ledger.read() as tx:
        who = _who(runtime, tx, portal_id, **asked)
        document = people.export(tx, who, now=runtime.ledger.wall_ms())
    click.echo(json.dumps(document, indent=2))
