"""Development, Projects: every app with its kind and the words a host needs, and the upload of a project.

``static/projects.js`` draws what ``GET /_sim/projects`` answers. ``POST /_control/project`` is for programs: it takes
the files of a folder, as ``hs project upload`` does.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, render_template

from ..behaviour.uploads import upload
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import JSON, App
from .control import NUMBER, control_body

bp = Blueprint("projects", __name__)


@bp.post("/_control/project")
def upload_project() -> Any:
    """Upload a project's files; answers the app's words, and what became of each component."""
    sim = current()
    body = control_body({"files!": {}, "profile": str, "portal_id": str})
    files, profile, account = body["files"], body.get("profile"), body.get("portal_id")
    for path, content in files.items():
        if not isinstance(content, str):
            raise ApiError.invalid(f"files.{path}"[:200], "must be the file's text")
        if path.startswith("/") or "\\" in path or {"", ".", ".."} & set(path.split("/")):
            raise ApiError.invalid(f"files.{path}"[:200], "must be a path below the project's folder, with slashes")
    if account is not None and not NUMBER.fullmatch(account):
        raise ApiError.invalid("portal_id", "must be a number that fits int32, as text")
    if profile is not None and not re.fullmatch(r"[^./\\]+", profile):
        raise ApiError.invalid("profile", "must be the NAME of a file hsprofile.NAME.json")
    return upload(sim, files, profile=profile, account=account)


@bp.get("/projects")
def page() -> str:
    """The page; what is in it comes from ``static/projects.js``."""
    return render_template("projects.html")


@bp.get("/_sim/projects")
def view() -> Any:
    """Every app, newest first."""
    sim = current()
    return {"apps": [app_of(sim, app) for app in reversed(sim.world.apps.values())]}


def app_of(sim: Simulation, app: App) -> JSON:
    """One app, with its secrets."""
    name, account = app.project or (None, None)
    return {
        "id": app.id,
        "name": app.name,
        "kind": app.kind,
        "project": name,
        "account": account,
        "auth": app.auth,
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        "developer_key": app.developer_key,
        "distribution": app.distribution,
        "install_url": install_url(sim, app),
        "installs": [portal_id for app_id, portal_id in sim.world.installs if app_id == app.id],
        "may_install": app.may_install(),
        "redirect_urls": app.redirect_uris,
        "required_scopes": app.required_scopes,
        "optional_scopes": app.optional_scopes,
        "target_url": app.target_url,
        "max_concurrent": app.max_concurrent,
        "subscriptions": [
            {"type": one.event_type, "property": one.property_name, "active": one.active}
            for one in app.subscriptions.values()
        ],
    }


def install_url(sim: Simulation, app: App) -> str | None:
    """Where an admin installs the app; None where no consent page does that, or no redirect URL is registered."""
    if app.auth != "oauth" or not app.redirect_uris:
        return None
    asked = {"client_id": app.client_id, "redirect_uri": app.redirect_uris[0], "scope": " ".join(app.required_scopes)}
    return f"{sim.base_url}/oauth/authorize?{urlencode(asked)}"
