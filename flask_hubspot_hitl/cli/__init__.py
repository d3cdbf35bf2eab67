"""``flask hubspot-hitl …``: what an operator looks at and does."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from .doctor.command import doctor
from .people import erase, export
from .portals import install_url, installations, migrate, rekey
from .project import project
from .queue import adopt, dead, handoffs, reconcile, status, tick, worker
from .setup import inboxes, setup, teardown
from .tools import replay, sign, simulate

group = AppGroup("hubspot-hitl", help="Handoffs to live agents in HubSpot.")
for _command in (
    *(worker, tick, status, handoffs, reconcile, adopt, dead, erase, export),
    *(project, setup, teardown, doctor, inboxes, install_url, installations, rekey, migrate, sign, simulate, replay),
):
    group.add_command(_command)


def settings_not_yet() -> tuple[str, ...]:
    """Return the settings that the command that runs can do without: there is no secret before there is an app."""
    context = click.get_current_context(silent=True)
    while context is not None and context.command is not project:
        context = context.parent
    return () if context is None else ("client_secret",)
