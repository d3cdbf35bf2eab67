"""Folders of the file manager: make, read, search, rename, move, remove; v3 and 2026-03.

Source: docs/hubspot.rst (Folders).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from ..behaviour import folders, shapes
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.folders import Folder, cleaned
from ..model.world import JSON, iso, now_ms
from .file_search import FOLDER_FILTERS, search
from .files import DELETE, READ, WRITE
from .wire import bearer, json_body, on

bp = Blueprint("folders", __name__)

BASES = ("/files/v3/folders", "/files/2026-03/folders")


def place(sim: Simulation, portal_id: str, parent: str, name: str) -> str:
    """Return the path of a folder's name in another folder. Raises ApiError (400) for a name that is none."""
    part = cleaned(name)
    if part.count("/") != 1 or len(part) > 200:
        raise ApiError.invalid("name", "must be a name without slashes, of 200 characters at most")
    return parent + part


def found(sim: Simulation, portal_id: str, where: str) -> Folder:
    """Return the folder in the path of the request: an id, or the folder's own path. Raises ApiError (404)."""
    known = folders.at(sim.world, portal_id, where)
    return known or folders.named(sim.world, portal_id, where)


@on(bp, "POST", BASES)
def create() -> Any:
    sim = current()
    portal_id = bearer(sim, *WRITE).portal_id
    body = json_body({"name!": str, "parentFolderId": str, "parentPath": str})
    if body.get("parentFolderId") and body.get("parentPath"):
        raise ApiError.invalid("parentPath", "parentFolderId and parentPath can't both be set")
    path = place(sim, portal_id, "", body["name"])
    if body.get("parentFolderId"):
        path = folders.named(sim.world, portal_id, body["parentFolderId"]).path + path
    elif body.get("parentPath"):
        path = folders.ensure(sim, portal_id, body["parentPath"]) + path
    if folders.at(sim.world, portal_id, path) is not None:
        raise ApiError(409, "CONFLICT", f"There is a folder at {path} already")
    folders.ensure(sim, portal_id, path)
    return shapes.folder(sim, found(sim, portal_id, path)), 201


@on(bp, "GET", BASES, "/search")
def search_folders() -> Any:
    sim = current()
    portal_id = bearer(sim, *READ).portal_id
    return search(sim, folders.there(sim.world, portal_id), FOLDER_FILTERS, lambda one: shapes.folder(sim, one))


@on(bp, "GET", BASES, "/<path:where>")
@on(bp, "GET", BASES, "//<path:where>")
def read(where: str) -> Any:
    sim = current()
    portal_id = bearer(sim, *READ).portal_id
    return shapes.folder(sim, found(sim, portal_id, where))


@on(bp, "DELETE", BASES, "/<path:where>")
@on(bp, "DELETE", BASES, "//<path:where>")
def remove(where: str) -> Any:
    sim = current()
    portal_id = bearer(sim, *DELETE).portal_id
    folders.remove(sim.world, found(sim, portal_id, where))
    return "", 204


def change(sim: Simulation, folder: Folder, body: JSON) -> Folder:
    """Rename and move a folder."""
    parent = folder.parent
    if body.get("parentFolderId") is not None:
        parent = folders.named(sim.world, folder.portal_id, str(body["parentFolderId"])).path
    name = body["name"] if body.get("name") is not None else folder.name
    folders.move(sim.world, folder, place(sim, folder.portal_id, parent, name))
    return folder


@on(bp, "PATCH", BASES, "/<folder_id>")
def update(folder_id: str) -> Any:
    sim = current()
    portal_id = bearer(sim, *WRITE).portal_id
    folder = folders.named(sim.world, portal_id, folder_id)
    return shapes.folder(sim, change(sim, folder, json_body({"name": str, "parentFolderId": int})))


@on(bp, "POST", BASES, "/update/async")
def update_later() -> Any:
    """Rename or move a folder as a task; here it is done when the answer comes. The task's id is the folder's."""
    sim = current()
    portal_id = bearer(sim, *WRITE).portal_id
    body = json_body({"id!": str, "name": str, "parentFolderId": int})
    folder = change(sim, folders.named(sim.world, portal_id, body["id"]), body)
    return {"id": folder.id, "links": {}}, 202


@on(bp, "GET", BASES, "/update/async/tasks/<task_id>/status")
def task(task_id: str) -> Any:
    sim = current()
    portal_id = bearer(sim, *WRITE).portal_id
    folder = folders.named(sim.world, portal_id, task_id)
    when = iso(folder.updated_ms)
    times = {"requestedAt": when, "startedAt": when, "completedAt": iso(now_ms())}
    return {"taskId": task_id, "status": "COMPLETE", "result": shapes.folder(sim, folder), **times}
