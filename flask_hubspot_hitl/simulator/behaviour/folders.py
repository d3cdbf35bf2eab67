"""How folders of the file manager come, move and go, and their files with them (docs/hubspot.rst: Folders)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.errors import ApiError
from ..model.folders import Folder, cleaned, inside
from ..model.world import File, World, now_ms

if TYPE_CHECKING:
    from ..engine.simulation import Simulation

DEEPEST = 20
"""Folders that may lie in each other."""


def at(world: World, portal_id: str, path: str) -> Folder | None:
    """Return the folder with a path."""
    wanted = cleaned(path)
    return next((one for one in there(world, portal_id) if one.path == wanted), None)


def there(world: World, portal_id: str) -> list[Folder]:
    """Return the folders of a portal, oldest first."""
    return [one for one in world.folders.values() if one.portal_id == portal_id and not one.archived]


def named(world: World, portal_id: str, folder_id: str) -> Folder:
    """Return the folder with an id. Raises ApiError (404)."""
    found = world.folders.get(folder_id)
    if found is None or found.portal_id != portal_id or found.archived:
        raise ApiError.missing("Folder")
    return found


def ensure(sim: Simulation, portal_id: str, path: str) -> str:
    """Make the folders of a path that are not there yet; return the path as it is stored. Raises ApiError (400)."""
    wanted = cleaned(path)
    if wanted.count("/") > DEEPEST or len(wanted) > 1000:
        raise ApiError.invalid("folderPath", f"must have at most {DEEPEST} parts and 1000 characters")
    parts = wanted.split("/")
    for number in range(2, len(parts) + 1):
        begin = "/".join(parts[:number])
        if at(sim.world, portal_id, begin) is None:
            add(sim, portal_id, begin)
    return wanted


def add(sim: Simulation, portal_id: str, path: str) -> Folder:
    """Make one folder."""
    now = now_ms()
    made = Folder(sim.ids.large(), portal_id, path, now, now)
    sim.world.folders[made.id] = made
    return made


def move(world: World, folder: Folder, path: str) -> None:
    """Give a folder another path, with all that is in it. Raises ApiError when that can't be."""
    if path == folder.path:
        return
    if inside(path, folder.path):
        raise ApiError.invalid("parentFolderId", "a folder can't lie in itself")
    if at(world, folder.portal_id, path) is not None:
        raise ApiError(409, "CONFLICT", f"There is a folder at {path} already")
    old, folder.updated_ms = folder.path, now_ms()
    for one in there(world, folder.portal_id):
        if inside(one.path, old):
            one.path = path + one.path[len(old) :]
    for item in files_in(world, folder.portal_id, old):
        item.folder = path + item.folder[len(old) :]


def remove(world: World, folder: Folder) -> None:
    """Archive a folder with all that is in it."""
    for item in files_in(world, folder.portal_id, folder.path):
        item.archived = True
    for one in there(world, folder.portal_id):
        if inside(one.path, folder.path):
            one.archived, one.updated_ms = True, now_ms()


def files_in(world: World, portal_id: str, path: str) -> list[File]:
    """Return the files in a folder and in those below it."""
    mine = [one for one in world.files.values() if one.portal_id == portal_id and not one.archived]
    return [one for one in mine if inside(one.folder, path)]
