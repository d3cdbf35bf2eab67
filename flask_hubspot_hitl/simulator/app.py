"""The Flask app: blueprints, who may call it, the headers of every answer, and errors as HubSpot writes them.

The stand-in is for this machine: it checks ``Host``, refuses what other web sites send, and takes JSON only on
its control routes (docs/rules.rst D).
"""

from __future__ import annotations

import hmac
import logging
import os
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from .api import (
    channel_messages,
    channels,
    connect,
    consent,
    contacts,
    contacts_batch,
    conversations,
    file_search,
    files,
    folders,
    journal,
    oauth,
    objects,
    owners,
    properties,
    teams,
    visitors,
    webhooks,
)
from .api.query import check_query
from .api.wire import bearer_value
from .desk import control, control_journal, control_staff, control_threads, desk, projects, settings
from .engine import served
from .engine.middleware import CONTROL, MAX_BODY, Middleware
from .engine.simulation import Simulation, current
from .engine.traffic import FOLDER, Traffic
from .model.errors import ApiError, error_body
from .model.kinds import scope_for

logger = logging.getLogger(__name__)

FAMILIES = (
    *(channels, connect, channel_messages, conversations, files, file_search, folders, oauth, consent, webhooks),
    *(contacts, contacts_batch, objects, properties, owners, teams, visitors, journal),
    *(control, control_journal, control_staff, control_threads, desk, settings, projects),
)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"


def create_app(sim: Simulation) -> Flask:
    """Make the stand-in's app around a simulation.

    :param sim: the simulation; ``sim.base_url`` is where the app is served.
    :returns: the app.
    """
    app = Flask(__name__)
    app.extensions["simulation"] = sim
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY
    app.url_map.strict_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    for family in FAMILIES:
        app.register_blueprint(family.bp)
    app.before_request(refuse_strangers)
    app.before_request(count_call)
    app.before_request(check_call)
    app.after_request(harden)
    app.register_error_handler(ApiError, api_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, any_error)
    app.wsgi_app = Middleware(app.wsgi_app, sim, traffic=Traffic(os.environ.get(FOLDER)))  # type: ignore[method-assign]
    return app


def refuse_strangers() -> None:
    """Host, cross-site and control-token checks. Raises ApiError."""
    sim = current()
    own = urlsplit(sim.base_url)
    try:
        asked = urlsplit(f"//{request.host}")
        name, port = asked.hostname, asked.port
    except ValueError:
        name, port = None, None
    if name not in LOOPBACK | sim.allowed_hosts and (name, port) != (own.hostname, own.port):
        raise ApiError(403, "FORBIDDEN", "The Host header names another machine")
    control_route = request.path.startswith(CONTROL)
    if control_route or request.path == "/connect" or request.method not in SAFE_METHODS:
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        if site not in (None, "same-origin", "none") or origin not in (None, request.host_url.rstrip("/")):
            raise ApiError(403, "FORBIDDEN", "Requests from other web sites are refused")
    if not control_route:
        return
    if sim.control_token is not None:
        right = f"Bearer {sim.control_token}".encode()
        if not hmac.compare_digest(right, request.headers.get("Authorization", "").encode("utf-8", "replace")):
            raise ApiError(401, "INVALID_AUTHENTICATION", "The control token is needed: Authorization: Bearer …")
    if request.get_data() and not request.is_json:
        raise ApiError(415, "VALIDATION_ERROR", "Control routes take application/json")


def count_call() -> None:
    """Count what an installation calls with its access token, and refuse what is too much. Raises ApiError (429)."""
    sim = current()
    token = sim.world.tokens.get(bearer_value())
    if token is None or request.path.startswith(CONTROL):
        return
    what = f"{request.method} {request.path}"
    if token.expires_ms is not None and sim.chaos.happens("expire_tokens", what):
        token.expires_ms = 0
    search = request.path.startswith("/crm/") and request.path.endswith("/search")
    g.limit_headers = sim.limits.count((token.app_id, token.portal_id), sim.chaos, search=search)


def check_call() -> None:
    """Check what HubSpot's documents say of the query, on API calls. Raises ApiError (400)."""
    if served.is_api(request.path) and request.url_rule is not None:
        check_query()


def harden(response: Response) -> Response:
    """Add the headers that every answer carries."""
    response.headers.update(g.get("limit_headers", {}))
    response.headers["Content-Security-Policy"] = CSP
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response


def api_error(problem: ApiError) -> Any:
    """Turn an ApiError into its JSON body."""
    return problem.body, problem.status


def http_error(problem: HTTPException) -> Any:
    """Turn Werkzeug's own errors (no such route, wrong method, too large) into JSON; redirects stay what they are."""
    status = problem.code or 500
    if status < 400:
        return problem.get_response()
    if isinstance(problem, NotFound) and request.url_rule is None and served.is_api(request.path):
        return not_served()
    return error_body(status, problem.description or problem.name), status, _allow(problem)


def not_served() -> Any:
    """Answer a call that is not served: that a scope is missing, where HubSpot would say so, else what is served."""
    token, scope = current().world.tokens.get(bearer_value()), scope_for(request.path)
    if token is not None and scope is not None and scope not in token.scopes:
        return api_error(ApiError.scopes(scope))
    return api_error(served.refusal(request.method, request.path, current_app.url_map))


def _allow(problem: HTTPException) -> dict[str, str]:
    """The header ``Allow``, which belongs to every 405 (RFC 9110)."""
    methods = problem.valid_methods if isinstance(problem, MethodNotAllowed) else None
    return {"Allow": ", ".join(sorted(methods))} if methods else {}


def any_error(problem: Exception) -> Any:
    """A mistake of the stand-in itself."""
    logger.error("the stand-in failed on %s", request.path, exc_info=problem)
    return error_body(500, "The stand-in made a mistake; see its log"), 500
