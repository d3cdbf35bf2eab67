"""Move the app to HubSpot's newest API version: ``flask hubspot-hitl setup --migrate``."""

from __future__ import annotations

import click

from ..hubspot.paths import NEWEST
from ..portals import migration
from ..portals.migration import Tried
from ..runtime import Runtime
from .common import say


def migrate(runtime: Runtime, *, as_json: bool) -> None:
    """Try every portal's token at the newest version, and use that version when none is refused."""

    def tell(tried: Tried) -> None:
        if not as_json:
            click.echo(f"Portal {tried.portal_id}: {tried.words}.")

    done = migration.migrate(runtime.services, on_tried=tell)
    facts = {
        "portals": [{"portal_id": one.portal_id, "ok": one.is_good, "words": one.words} for one in done.tried],
        "api_version": done.version,
        "migrated": done.is_done,
        "take_out": list(done.settings),
    }
    if done.is_done:
        line = f"API version {NEWEST} is used from now on. Restart what is running: until then it goes on as before."
    elif done.settings:
        line = f"API version {NEWEST} is used once the settings let it."
    else:
        line = f"Nothing was changed: API version {done.version} is used as before."
    say(facts, as_json, [line])
    refused = [one.portal_id for one in done.tried if not one.is_good]
    if refused:
        raise click.ClickException(
            f"{NEWEST} can't be used for portal {', '.join(refused)} yet: see above. Once that is mended, run "
            "'flask hubspot-hitl setup --migrate' again."
        )
    if done.settings:
        raise click.ClickException(
            f"Every token is good, but the settings say otherwise: take out {' and '.join(done.settings)}, and restart "
            "what is running."
        )
