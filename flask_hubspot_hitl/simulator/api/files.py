"""Files API v3 and 2026-03, the legacy upload, and the host that serves the files themselves.

Source: docs/hubspot.rst (Files).
"""

from __future__ import annotations

import hmac
import re
from io import BytesIO
from typing import Any

from flask import Blueprint, Response, request, send_file

from ..behaviour import folders, shapes
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.folders import cleaned
from ..model.world import JSON, File, iso, now_ms
from .wire import bearer, check, json_body, moment_ms, on, parse_json, whole

bp = Blueprint("files", __name__)

BASES = ("/files/v3/files", "/files/2026-03/files")
READ = ("files", "files.read", "files.ui_hidden.read")
WRITE = ("files", "files.write", "files.ui_hidden.write")
DELETE = ("files", "files.delete", "files.ui_hidden.write")
ACCESS = frozenset(
    {
        "PUBLIC_INDEXABLE",
        "PUBLIC_NOT_INDEXABLE",
        "PRIVATE",
        "SENSITIVE",
        "HIDDEN_INDEXABLE",
        "HIDDEN_NOT_INDEXABLE",
        "HIDDEN_PRIVATE",
        "HIDDEN_SENSITIVE",
    }
)
OPTIONS = {
    "access!": ACCESS,
    "ttl": str,
    "overwrite": bool,
    "duplicateValidationStrategy": frozenset({"NONE", "REJECT", "RETURN_EXISTING"}),
    "duplicateValidationScope": frozenset({"ENTIRE_PORTAL", "EXACT_FOLDER"}),
    "expiresAt": str,
}
CHANGES = {
    "access": ACCESS,
    "name": str,
    "expiresAt": str,
    "clearExpires": bool,
    "isUsableInContent": bool,
    "parentFolderId": str,
    "parentFolderPath": str,
}
TTL_DAYS = {"D": 1, "W": 7, "M": 30, "Y": 365}
DAY_MS = 24 * 3600 * 1000
MAX_SIGNED_SECONDS = 90 * 24 * 3600


def clean_name(name: str) -> tuple[str, str]:
    """Return a display name without path and control characters, parted into stem and extension."""
    base = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "", name.replace("\\", "/").rpartition("/")[2]).strip() or "file"
    stem, dot, extension = base.rpartition(".")
    return (stem[:200], extension.lower()[:20]) if dot and stem else (base[:200], "")


def store(
    sim: Simulation,
    portal_id: str,
    *,
    name: str,
    content_type: str,
    content: bytes,
    access: str,
    folder: str,
    expires_ms: int | None = None,
) -> File:
    """Keep a file; folders that are not there yet are made."""
    stem, extension = clean_name(name)
    folder = folders.ensure(sim, portal_id, folder)
    made = File(
        sim.ids.large(), portal_id, stem, extension, content_type, content, access, folder, now_ms(), expires_ms
    )
    sim.world.files[made.id] = made
    return made


def expiry_ms(options: JSON) -> int | None:
    """Return when a file goes by itself (epoch ms): ``expiresAt``, or ``ttl`` as an ISO period of at least a day."""
    if options.get("expiresAt"):
        return moment_ms(options["expiresAt"], "options.expiresAt")
    if not options.get("ttl"):
        return None
    period = re.fullmatch(r"P([0-9]{1,4})([DWMY])", options["ttl"], re.ASCII)
    if period is None or int(period[1]) < 1:
        raise ApiError.invalid("options.ttl", "must be an ISO period of at least one day, such as P3M")
    return now_ms() + int(period[1]) * TTL_DAYS[period[2]] * DAY_MS


def duplicate(sim: Simulation, portal_id: str, content: bytes, folder: str, options: JSON) -> File | None:
    """Find a file with the same content, when the upload asks for it. Raises ApiError (409) for REJECT."""
    strategy = options.get("duplicateValidationStrategy") or "NONE"
    if strategy == "NONE":
        return None
    anywhere = options.get("duplicateValidationScope") != "EXACT_FOLDER"
    for item in sim.world.files.values():
        same_place = item.portal_id == portal_id and not item.archived and (anywhere or item.folder == folder)
        if same_place and item.content == content:
            if strategy == "REJECT":
                raise ApiError(409, "CONFLICT", f"There is such a file already: {item.id}")
            return item
    return None


def folder_of(sim: Simulation, portal_id: str, path: str | None, folder_id: str | None) -> str:
    """Return the path of the folder that is meant; folders of a path are made. Raises ApiError (404 for an id)."""
    return folders.ensure(sim, portal_id, path) if path else folders.named(sim.world, portal_id, folder_id or "").path


def new_content(sim: Simulation) -> tuple[bytes, str, str | None]:
    """Return the part ``file`` of this request: content, type and name. Raises ApiError (400, 413)."""
    part = request.files.get("file")
    if part is None:
        raise ApiError.invalid("file", "the part `file` is required")
    content, limit = part.stream.read(), sim.chaos.max_upload_bytes
    if limit is not None and len(content) > limit:
        raise ApiError(413, "VALIDATION_ERROR", f"The file is larger than {limit} bytes")
    return content, part.mimetype or "application/octet-stream", part.filename


def free_name(sim: Simulation, portal_id: str, folder: str, name: str, *, overwrite: bool) -> str:
    """Return the name that a new file gets in a folder: the file that has it goes, or the new one gets a number.

    Source: HubSpot OpenAPI, files v3, ``overwrite``; the number's form is inferred.
    """
    stem, extension = clean_name(name)
    place = (portal_id, folder, extension, False)
    there = {
        one.name: one
        for one in sim.world.files.values()
        if (one.portal_id, one.folder, one.extension, one.archived) == place
    }
    if overwrite and stem in there:
        there.pop(stem).archived = True
    number, free = 0, stem
    while free in there:
        number += 1
        free = f"{stem}-{number}"
    return f"{free}.{extension}" if extension else free


def upload_from_request(sim: Simulation, portal_id: str) -> File:
    """Store the multipart upload of this request."""
    content, content_type, own_name = new_content(sim)
    options = parse_json(request.form.get("options", "").encode("utf-8", "replace"), where="options")
    check(options, OPTIONS, "options")
    folder, folder_id = request.form.get("folderPath"), request.form.get("folderId")
    if bool(folder) == bool(folder_id):
        raise ApiError.invalid("folderPath", "exactly one of folderPath and folderId is required")
    folder = cleaned(folder) if folder else folders.named(sim.world, portal_id, folder_id or "").path
    twin = duplicate(sim, portal_id, content, folder, options)
    if twin is not None:
        return twin
    name = request.form.get("fileName") or own_name or "file"
    if "." not in name and own_name and "." in own_name:
        name = f"{name}.{own_name.rpartition('.')[2]}"
    return store(
        sim,
        portal_id,
        name=free_name(sim, portal_id, folder, name, overwrite=options.get("overwrite") is True),
        content_type=content_type,
        content=content,
        access=options["access"],
        folder=folder,
        expires_ms=expiry_ms(options),
    )


@on(bp, "POST", BASES)
def upload() -> Any:
    sim = current()
    made = bearer(sim, *WRITE)
    return shapes.file(sim, upload_from_request(sim, made.portal_id)), 201


@on(bp, "POST", ("/filemanager/api/v3/files/upload",))
def upload_legacy() -> Any:
    """Take the older upload: same parts, ``{"objects": [...]}`` with a number as id (docs/hubspot.rst: Upload)."""
    sim = current()
    made = bearer(sim, *WRITE)
    answer = shapes.file(sim, upload_from_request(sim, made.portal_id))
    return {"objects": [{**answer, "id": int(answer["id"])}]}


def find_file(sim: Simulation, portal_id: str, file_id: str) -> File:
    """Return a file of the portal, else answer 404."""
    found = sim.world.files.get(file_id)
    if found is None or found.portal_id != portal_id or found.archived:
        raise ApiError.missing("File")
    return found


@on(bp, "GET", BASES, "/<file_id>")
def get_file(file_id: str) -> Any:
    sim = current()
    made = bearer(sim, *READ)
    return shapes.file(sim, find_file(sim, made.portal_id, file_id))


@on(bp, "PATCH", BASES, "/<file_id>")
def update_file(file_id: str) -> Any:
    sim = current()
    made = bearer(sim, *WRITE)
    found = find_file(sim, made.portal_id, file_id)
    body = json_body(CHANGES)
    path, folder_id = body.get("parentFolderPath"), body.get("parentFolderId")
    if path and folder_id:
        raise ApiError.invalid("parentFolderId", "parentFolderId and parentFolderPath can't both be set")
    expires = moment_ms(body["expiresAt"], "expiresAt") if body.get("expiresAt") else found.expires_ms
    found.folder = folder_of(sim, made.portal_id, path, folder_id) if path or folder_id else found.folder
    found.expires_ms = None if body.get("clearExpires") else expires
    found.access = body.get("access") or found.access
    found.name = clean_name(body["name"] + ".x")[0] if body.get("name") else found.name
    found.usable = body["isUsableInContent"] if body.get("isUsableInContent") is not None else found.usable
    found.updated_ms = now_ms()
    return shapes.file(sim, found)


@on(bp, "PUT", BASES, "/<file_id>")
def replace_file(file_id: str) -> Any:
    """Give a file another content, under the same id and address."""
    sim = current()
    made = bearer(sim, *WRITE)
    found = find_file(sim, made.portal_id, file_id)
    content, content_type, _ = new_content(sim)
    options = parse_json(request.form.get("options", "{}").encode("utf-8", "replace"), where="options")
    check(options, {"access": ACCESS, "expiresAt": str}, "options")
    found.expires_ms = expiry_ms(options) or found.expires_ms
    found.content, found.content_type, found.updated_ms = content, content_type, now_ms()
    found.access = options.get("access") or found.access
    return shapes.file(sim, found)


@on(bp, "DELETE", BASES, "/<file_id>")
@on(bp, "DELETE", BASES, "/<file_id>/gdpr-delete")
def delete_file(file_id: str) -> Any:
    sim = current()
    made = bearer(sim, *DELETE)
    find_file(sim, made.portal_id, file_id).archived = True
    return "", 204


@on(bp, "GET", BASES, "/<file_id>/signed-url")
def signed_url(file_id: str) -> Any:
    sim = current()
    made = bearer(sim, *READ)
    found = find_file(sim, made.portal_id, file_id)
    seconds = whole(request.args.get("expirationSeconds", "3600"), "expirationSeconds", 1, MAX_SIGNED_SECONDS)
    if request.args.get("size", "preview") not in ("icon", "medium", "preview", "thumb"):
        raise ApiError.invalid("size", "must be icon, medium, preview or thumb")
    expires = now_ms() // 1000 + seconds
    return {
        "url": shapes.signed_url(sim, found, expires),
        "expiresAt": iso(expires * 1000),
        "name": found.name,
        "extension": found.extension,
        "size": len(found.content),
        "type": shapes.file_kind(found.content_type),
    }


@on(bp, "GET", BASES[:1], "/<file_id>/download")
def download(file_id: str) -> Any:
    sim = current()
    made = bearer(sim, *READ)
    return attachment(find_file(sim, made.portal_id, file_id))


@on(bp, "GET", ("/hubfs",), "/<portal_id>/<file_id>/<name>")
def serve(portal_id: str, file_id: str, name: str) -> Any:
    """Serve a file: to anybody with a signed link that has not run out, or when it is public; else 404."""
    sim = current()
    found = find_file(sim, portal_id, file_id)
    expires, signature = request.args.get("Expires", ""), request.args.get("Signature", "")
    public = found.access.startswith(("PUBLIC", "HIDDEN_INDEXABLE", "HIDDEN_NOT_INDEXABLE"))
    if not public:
        if not re.fullmatch(r"[0-9]{1,12}", expires, re.ASCII) or int(expires) * 1000 < now_ms():
            raise ApiError.missing("File")
        right = shapes.file_signature(sim, found, int(expires))
        if not hmac.compare_digest(right.encode(), signature.encode("utf-8", "replace")):
            raise ApiError.missing("File")
    return attachment(found)


@on(bp, "GET", ("/filemanager/api/v2/files",), "/<file_id>/signed-url-redirect")
def gated(file_id: str) -> Any:
    """Answer what a browser without a session ends at: a log-in page, with 200."""
    return Response("<!doctype html><title>HubSpot Login</title><p>Log in to your account", mimetype="text/html")


def attachment(item: File) -> Any:
    """Answer with a file as a download, so that no browser ever runs one."""
    return send_file(
        BytesIO(item.content),
        mimetype=item.content_type if re.fullmatch(r"[\w.+-]+/[\w.+-]+", item.content_type, re.ASCII) else None,
        as_attachment=True,
        download_name=shapes.full_name(item),
        etag=False,
        max_age=0,
    )
