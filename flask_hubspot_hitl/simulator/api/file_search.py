"""What the searches of files and of folders share: filters, sorting, pages; and the look-up of a path.

Source: docs/hubspot.rst (Reading files; Folders).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from flask import Blueprint, request

from ..behaviour import folders, shapes
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.folders import cleaned
from ..model.world import JSON
from .files import BASES, READ
from .wire import bearer, moment_ms, on, page, query_bool, query_list

bp = Blueprint("file_search", __name__)

T = TypeVar("T")
Filters = Mapping[str, tuple[str, str]]
"""By the name of a parameter: the property of the shape that it looks at, and how: text, number, time, or flag."""
TEXTS = ("name", "path", "type", "extension", "url", "fileMd5", "encoding")
NUMBERS, TIMES = ("size", "width", "height"), ("createdAt", "updatedAt")
FOLDER_FILTERS: Filters = {
    **{name: (name, "text") for name in ("name", "path")},
    **{name: (name, "time") for name in TIMES},
}
FILE_FILTERS: Filters = {
    **{name: (name, "text") for name in TEXTS},
    **{name: (name, "number") for name in NUMBERS},
    **{name: (name, "time") for name in (*TIMES, "expiresAt")},
    "isUsableInContent": ("isUsableInContent", "flag"),
}
OPEN = ("PUBLIC", "HIDDEN_INDEXABLE", "HIDDEN_NOT_INDEXABLE")


def number(text: str, where: str) -> int:
    """Read a whole number of the query. Raises ApiError (400)."""
    if not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
        raise ApiError.invalid(where, "must be a whole number")
    return int(text)


def comparable(value: Any, kind: str, where: str) -> Any:
    """Return a value of the query or of a shape so that it can be compared. Raises ApiError (400)."""
    if kind == "time":
        return moment_ms(value.replace(" ", "+") if isinstance(value, str) else value, where)
    if kind == "number":
        return value if isinstance(value, int) else number(value, where)
    return str(value).lower()


def wanted(known: Filters) -> list[Callable[[JSON], bool]]:
    """Return the filters of the query. Raises ApiError (400) for a value that is none of its kind."""
    found: list[Callable[[JSON], bool]] = []
    for name, (key, kind) in known.items():
        for tail in ("", "Gte", "Lte"):
            given = request.args.get(name + tail)
            if given is None or (tail and kind not in ("number", "time")):
                continue
            limit = query_bool(name) if kind == "flag" else comparable(given, kind, name + tail)
            found.append(partial(_holds, key=key, kind=kind, tail=tail, limit=limit))
    return [*found, *_by_ids()]


def _holds(one: JSON, *, key: str, kind: str, tail: str, limit: Any) -> bool:
    """Whether a file's or a folder's property is the one asked for, or as great or small at most."""
    if one.get(key) is None:
        return False
    value = one[key] if kind == "flag" else comparable(one[key], kind, key)
    return bool({"": value == limit, "Gte": value >= limit, "Lte": value <= limit}[tail])


def _by_ids() -> list[Callable[[JSON], bool]]:
    """Filters that every search has: ids, and the folder that it lies in."""
    found: list[Callable[[JSON], bool]] = []
    for name, key in (("ids", "id"), ("parentFolderIds", "parentFolderId")):
        ids = {str(number(one, name)) for one in query_list(name) if "," not in one}
        if ids:
            found.append(partial(_among, key=key, ids=ids))
    for name, tail in (("idGte", "Gte"), ("idLte", "Lte")):
        if name in request.args:
            limit = number(request.args[name], name)
            found.append(partial(_holds, key="id", kind="number", tail=tail, limit=limit))
    return found


def _among(one: JSON, *, key: str, ids: set[str]) -> bool:
    return one.get(key) in ids


def search(sim: Simulation, items: Iterable[T], known: Filters, shape: Callable[[T], JSON]) -> JSON:
    """Answer with a page of what passes all filters, sorted as asked: ``sort=-createdAt``."""
    tests, sorts = wanted(known), [one for one in query_list("sort") if one and "," not in one]
    shown = [one for one in map(shape, items) if all(test(one) for test in tests)]
    for rule in reversed(sorts):
        key = rule.lstrip("-")
        if key != "id" and key not in {name for name, _ in known.values()}:
            raise ApiError.invalid("sort", f"must be one of id, {', '.join(sorted(known))}")
        shown.sort(key=partial(_order, key=key), reverse=rule.startswith("-"))
    return page(shown, lambda one: one, page_size=sim.chaos.page_size, total=False)


def _order(one: JSON, *, key: str) -> tuple[int, int, str]:
    value = one.get(key)
    if value is None:
        return 0, 0, ""
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return 1, int(value), ""
    return 2, 0, str(value).lower()


@on(bp, "GET", BASES, "/search")
def search_files() -> Any:
    sim = current()
    portal_id = bearer(sim, *READ).portal_id
    mine = [one for one in sim.world.files.values() if one.portal_id == portal_id and not one.archived]
    if "allowsAnonymousAccess" in request.args:
        public = query_bool("allowsAnonymousAccess")
        mine = [one for one in mine if one.access.startswith(OPEN) == public]
    return search(sim, mine, FILE_FILTERS, lambda one: shapes.file(sim, one))


@on(bp, "GET", BASES, "/stat/<path:where>")
@on(bp, "GET", BASES, "/stat//<path:where>")
def stat(where: str) -> Any:
    """Answer with the file or the folder that has a path."""
    sim = current()
    portal_id = bearer(sim, *READ).portal_id
    path = cleaned(where)
    for one in sim.world.files.values():
        if one.portal_id == portal_id and not one.archived and shapes.file_path(one) == path:
            return {"file": shapes.file(sim, one)}
    folder = folders.at(sim.world, portal_id, path)
    if folder is None:
        raise ApiError.missing("File or folder")
    return {"folder": shapes.folder(sim, folder)}
