"""The admin's pages, below ``/admin``: there are none without the host's ``may_administer``."""

from __future__ import annotations

from flask import Blueprint

from . import pages
from .access import View, admitted

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
"""All, so that whoever is not let in gets the same 404 for each."""
DEAD: View = admitted(pages.dead_page, pressed=pages.press)
VIEWS: dict[str, View] = {
    "/admin": admitted(pages.overview_page),
    "/admin/handoffs": admitted(pages.handoffs_page),
    "/admin/handoffs/<handoff_id>": admitted(pages.timeline_page),
    "/admin/dead": DEAD,
    "/admin/dead/<int:event_id>": admitted(pages.dead_event_page),
    "/admin/portals": admitted(pages.portals_page),
    "/admin/audit": admitted(pages.audit_page),
}
"""What is where."""


def add_routes(blueprint: Blueprint) -> None:
    """Add the pages to the extension's blueprint."""
    for rule, view in VIEWS.items():
        blueprint.add_url_rule(
            rule, f"admin_{view.__name__}", view_func=view, methods=METHODS, provide_automatic_options=False
        )
