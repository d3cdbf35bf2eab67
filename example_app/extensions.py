"""The extensions, made once; ``create_app`` gives them the app."""

from __future__ import annotations

from ipaddress import ip_address

from flask import current_app, request

from flask_hubspot_hitl import HubSpotHITL


def may_administer() -> str | None:
    """Let whoever sits at this machine see ``/hubspot/admin``, if ``EXAMPLE_ADMIN`` is set, as in the demo.

    An app of yours asks who is logged in.
    """
    is_here = request.remote_addr is not None and ip_address(request.remote_addr).is_loopback
    return "whoever sits here" if current_app.config["EXAMPLE_ADMIN"] and is_here else None


hitl = HubSpotHITL(may_administer=may_administer)
