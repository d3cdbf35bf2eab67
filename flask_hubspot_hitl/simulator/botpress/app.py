"""The stand-in's Flask app: guarded and logged like the stand-in for HubSpot."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app, request
from werkzeug.exceptions import HTTPException

from ..app import api_error, harden, refuse_strangers
from ..engine import served
from ..engine.middleware import MAX_BODY, Middleware
from ..model.errors import ApiError, error_body
from . import control, hitl_api, people, runtime, webhook
from .world import BotpressError, BotpressWorld, world

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)


def create_app(made: BotpressWorld) -> Flask:
    """Make the stand-in's app around a world.

    :param made: what exists; ``made.base_url`` is where the app is served.
    :returns: the app.
    """
    app = Flask(__name__)
    app.extensions["simulation"] = made
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    for family in (people, runtime, webhook, hitl_api, control):
        app.register_blueprint(family.bp)
    app.before_request(refuse_strangers)
    app.after_request(harden)
    app.register_error_handler(ApiError, api_error)
    app.register_error_handler(BotpressError, botpress_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, any_error)
    app.wsgi_app = Middleware(_fewer_slashes(app.wsgi_app), made)  # type: ignore[arg-type, method-assign]
    return app


def _fewer_slashes(served: WSGIApplication) -> WSGIApplication:
    """Slashes too many are no matter to the Chat API's router: its own client asks for ``/hello/`` first."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith("/chat/"):
            environ["PATH_INFO"] = re.sub("/{2,}", "/", path).rstrip("/")
        return served(environ, start_response)

    return serve


def botpress_error(problem: BotpressError) -> Any:
    """Botpress's error body; its bridge may send it with status 200."""
    if world.switches.error_in_200 and request.path.startswith("/chat/"):
        world.switches.error_in_200 = False
        return problem.body, 200
    return problem.body, problem.status, problem.headers


def http_error(problem: HTTPException) -> Any:
    """No such route or method. The stand-in has all routes of the Chat API, and few of the many of the others."""
    status = problem.code or 500
    if status < 400:
        return problem.get_response()
    if status == 404 and request.url_rule is None and request.path.startswith("/v1/"):
        return api_error(served.refusal(request.method, request.path, current_app.url_map))
    text = "Route doesn't exist" if status == 404 else "Method doesn't exist" if status == 405 else problem.name
    return {"message": text}, 404 if status == 405 else status


def any_error(problem: Exception) -> Any:
    """A mistake of the stand-in itself."""
    logger.error("the stand-in failed on %s", request.path, exc_info=problem)
    return error_body(500, "The stand-in made a mistake; see its log"), 500
