"""``flask hubspot-hitl install-url|installations|rekey|migrate``: portals, their tokens, and the store they are in."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..errors import NotConfigured
from ..handoffs.words import count, date
from ..portals import installations as portals_installations
from ..portals.clients import NO_KEY
from ..portals.consent import Consent, FlowRefused
from .common import Amount, Command, app_runtime, hubspot_id, say, when
from .tables import table


@click.command("install-url", cls=Command)
@click.option("--portal", "portal_id", callback=hubspot_id, help="Only this HubSpot account may be connected with it.")
@click.option("--minutes", default=60.0, type=Amount(0, 525_600, min_open=True), help="How long it works; 60.")
@with_appcontext
def install_url(portal_id: str | None, minutes: float) -> None:
    """Make a link to connect HubSpot with; it works once, for anybody who has it."""
    runtime = app_runtime()
    ours = runtime.settings.portal_id
    if ours is not None and portal_id not in (None, ours):
        raise click.ClickException(f"HUBSPOT_HITL_PORTAL_ID is {ours}: no other account may be connected.")
    try:
        click.echo(Consent(runtime.services).make_link(portal_id or ours, seconds=minutes * 60))
    except FlowRefused as refused:
        raise click.ClickException(str(refused)) from None


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def installations(as_json: bool) -> None:
    """List the HubSpot accounts that have installed the app."""
    with app_runtime().ledger.read() as tx:
        found = tx.installations.all()
    facts = [
        {
            "portal_id": one.portal_id,
            "state": one.state.value,
            "inbox_id": one.inbox_id,
            "scopes": one.scopes,
            "added_at": None if one.added_at is None else when(one.added_at),
            "revoked_at": None if one.revoked_at is None else when(one.revoked_at),
        }
        for one in found
    ]
    headers = ("Portal", "State", "Installed (UTC)", "Revoked (UTC)")
    rows = [(one.portal_id, one.state, date(one.added_at) or "by settings", date(one.revoked_at)) for one in found]
    say(
        facts,
        as_json,
        table(headers, rows) if rows else ["No portal has installed the app; see 'flask hubspot-hitl install-url'."],
    )


@click.command(cls=Command)
@with_appcontext
def rekey() -> None:
    """Encrypt the stored tokens with the key in use now; after that, older keys are no longer needed."""
    runtime = app_runtime()
    try:
        cipher = runtime.services.cipher()
    except NotConfigured as error:
        raise click.ClickException(str(error)) from None
    if cipher is None:
        raise click.ClickException(f"Nothing can be done: {NO_KEY}.")
    done, failed = portals_installations.rekey(runtime.ledger, cipher)
    click.echo(f"{count(done, 'portal')} encrypted with the first key.")
    if failed:
        raise click.ClickException(
            f"Can't be read with the keys at hand, and left as they are: {', '.join(failed)}. Add the key they were "
            "encrypted with to SECRET_KEY_FALLBACKS or HUBSPOT_HITL_ENCRYPTION_KEY, or connect these portals again."
        )


@click.command(cls=Command)
@with_appcontext
def migrate() -> None:
    """Bring the database up to this version; every start of the app does so as well."""
    ledger = app_runtime().ledger
    before = ledger.migrated_from
    with ledger.read() as tx:
        now = tx.get_meta("schema_version")
    click.echo(f"The database has schema {now}" + (f", brought up from {before}." if before else "; nothing to do."))
