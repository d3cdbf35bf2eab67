"""Visitor identification: tokens by which a chat widget knows its visitor; v3, 2026-03 and 2026-09.

Source: docs/hubspot.rst (Visitor identification). The shape is what HubSpot's clients read.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from flask import Blueprint

from ..behaviour import people
from ..engine.simulation import current
from ..model.world import now_ms
from .wire import bearer, json_body, on

bp = Blueprint("visitors", __name__)

BASES = tuple(f"/visitor-identification/{version}" for version in ("v3", "2026-03", "2026-09"))
SCOPE = "conversations.visitor_identification.tokens.create"
REQUEST = {"email!": str, "firstName": str, "lastName": str, "hsCustomerAgentContext": {}}
LIFE_MS = 12 * 3600 * 1000
"""How long a token is good for."""


@on(bp, "POST", BASES, "/tokens/create")
def create_token() -> Any:
    """Answer with a token for an e-mail address; nothing else is made or changed before somebody uses it."""
    sim = current()
    made = bearer(sim, SCOPE)
    body = json_body(REQUEST)
    people.check_identifier({"type": "HS_EMAIL_ADDRESS", "value": body["email"]}, "email")
    claims = {"portalId": int(made.portal_id), "email": body["email"].lower(), "exp": (now_ms() + LIFE_MS) // 1000}
    packed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return {"token": f"{sim.ids.secret('visitor')}.{packed}"}
