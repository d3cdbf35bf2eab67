"""The blueprint: the routes of one app."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, request, send_from_directory
from flask.typing import ResponseReturnValue

from ..portals import deployment
from .hosts import AnyHost

BLUEPRINT = "hubspot_hitl"
DESIGN = Path(__file__).parents[1] / "design"
ROUTES = (
    ("/webhook", "POST", "webhook", "webhook"),
    ("/healthz", "GET", "webhook", "healthz"),
    ("/readyz", "GET", "webhook", "readyz"),
    ("/oauth/install", "GET", "oauth", "install_page"),
    ("/oauth/install", "POST", "oauth", "install"),
    ("/oauth/callback", "GET", "oauth", "callback"),
    ("/connect", "GET", "connect", "connect_page"),
    ("/connect", "POST", "connect", "connect"),
    ("/files/<token>", "GET", "files", "file"),
)
"""The routes: path, method, and the module and name of the view, which is loaded when it is first asked for."""
STRANGERS = ("webhook", "install", "connect")
"""The views that are posted to without a token of Flask-WTF's."""


def create_blueprint(*, is_off: bool = False, has_admin: bool = False) -> Blueprint:
    """Make the blueprint of one app's routes.

    :param has_admin: the host says who may see the admin's pages.
    :param is_off: every route answers 503 then, and ``healthz`` that there is nothing to be unwell.
    """
    blueprint = AnyHost(
        BLUEPRINT, __name__, template_folder="templates", static_folder="static", static_url_path="/static"
    )
    blueprint.add_url_rule("/static/design/<name>", view_func=design, methods=["GET"])
    for path, method, module, name in ROUTES:
        blueprint.add_url_rule(path, endpoint=name, view_func=_View(module, name), methods=[method])
    if has_admin:
        from . import admin

        admin.add_routes(blueprint)
    if is_off:
        blueprint.before_request(_answer_off)
    return blueprint


class _View:
    """Load a view when it is first asked for: most processes of a host's never are."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__ = f"{__package__}.{module}"
        self.__name__ = name
        self._view: Any = None

    def __call__(self, **given: Any) -> ResponseReturnValue:
        if self._view is None:
            self._view = getattr(import_module(self.__module__), self.__name__)
        answer: ResponseReturnValue = self._view(**given)
        return answer


def _answer_off() -> ResponseReturnValue:
    if request.endpoint == f"{BLUEPRINT}.healthz":
        return {"status": "off"}
    return {"error": deployment.SWITCHED_OFF}, 503


def design(name: str) -> Response:
    """Serve what all pages of the project share: the stylesheet and the module ``dom.js``."""
    return send_from_directory(DESIGN, name)


def exempt_from_csrf(app: Flask) -> None:
    """Exempt our routes from Flask-WTF's CSRF check, whichever of the two extensions is initialised first."""
    csrf = app.extensions.get("csrf")
    if csrf is not None and hasattr(csrf, "exempt"):
        for _, _, module, name in ROUTES:
            if name in STRANGERS:
                csrf.exempt(f"{__package__}.{module}.{name}")
        csrf.exempt(f"{__package__}.admin.pages.dead_page")
