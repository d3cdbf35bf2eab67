"""``flask hubspot-hitl …``: what an operator looks at and does."""

from __future__ import annotations

from flask.cli import AppGroup

from .doctor.command import doctor
from .portals import install_url, installations, migrate, rekey
from .project import project
from .queue import adopt, dead, handoffs, reconcile, status, tick, worker
from .setup import inboxes, setup, teardown
from .tools import replay, sign, simulate

group = AppGroup("hubspot-hitl", help="Handoffs to live agents in HubSpot.")
for _command in (
    *(worker, tick, status, handoffs, reconcile, adopt, dead),
    *(project, setup, teardown, doctor, inboxes, install_url, installations, rekey, migrate, sign, simulate, replay),
):
    group.add_command(_command)
