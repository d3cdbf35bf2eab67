"""The chat page and its JSON routes. Who may read a conversation is decided by the signed session alone."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, abort, current_app, render_template, request, send_file, session, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import HTTPException

from flask_hubspot_hitl import Attachment, ContactError, HistoryEntry, HITLError, LedgerUnavailable
from flask_hubspot_hitl.botpress.chat import ChatUser

from .bot import answer
from .extensions import hitl
from .store import File, get_store

bp = Blueprint("chat", __name__)
TEXT_LIMIT = 4000


@bp.before_request
def refuse() -> None:
    """Refuse what other web sites send, and say what is missing when HubSpot's settings are not there."""
    if "hubspot_hitl" not in current_app.extensions:
        abort(503, "HUBSPOT_HITL_CLIENT_SECRET is not set. 'make demo' runs this app with a stand-in for HubSpot.")
    if request.method == "POST":
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        if site not in (None, "same-origin") or not origin or urlsplit(origin).netloc != request.host:
            abort(403, "Only this app's own page may post here.")


@bp.errorhandler(HTTPException)
def problem(error: HTTPException) -> ResponseReturnValue:
    """Errors as JSON, for the page to show."""
    return {"error": error.description}, error.code or 500


@bp.errorhandler(LedgerUnavailable)
def unavailable(error: LedgerUnavailable) -> ResponseReturnValue:
    """Nothing was accepted; the page keeps the text."""
    return {"error": "This can't be stored just now. Please send it again in a moment."}, 503


def conversation() -> str:
    """The id of this browser's conversation: random, in the signed session, never in a page or URL."""
    if "conversation" not in session:
        session["conversation"] = secrets.token_urlsafe(24)
    return str(session["conversation"])


@bp.get("/")
def page() -> str:
    """The page; what is said in it comes from :func:`messages`."""
    conversation()
    config = current_app.config
    return render_template("chat.html", name=config["EXAMPLE_NAME"], contact=config["EXAMPLE_CONTACT"])


@bp.get("/favicon.ico")
def favicon() -> ResponseReturnValue:
    """There is none."""
    return "", 204


@bp.get("/messages")
def messages() -> dict[str, Any]:
    """What was said after line number ``after``, and who has the conversation."""
    after = request.args.get("after", 0, type=int)
    handoff = hitl.get(conversation())
    operator = handoff.operator.name if handoff and handoff.operator else None
    return {
        "messages": [entry.to_json() for entry in get_store().entries(conversation(), after=min(max(after, 0), 2**62))],
        "state": handoff.state.value if handoff else "bot",
        "operator": operator,
    }


@bp.post("/messages")
def send() -> dict[str, Any]:
    """Take the user's text and file: to the humans while they have the conversation, else to the bot."""
    text = request.form.get("text", "").strip()[:TEXT_LIMIT]
    upload = request.files.get("file")
    if not text and not upload:
        abort(400, "Write something, or choose a file.")
    given = request.form.get("id", "")
    message_id = given if re.fullmatch(r"[\w-]{8,64}", given, re.ASCII) else uuid.uuid4().hex
    content = upload.read() if upload else b""
    files = [attachment(upload, content)] if upload else []
    with_bridge = "chat_say" in current_app.extensions
    if with_bridge:
        say(text, files, message_id)
    with_humans = with_bridge or hitl.send(conversation(), text, attachments=files, message_id=message_id)
    shown = [File(file.name or "file", url_for("chat.file", key=message_id)) for file in files]
    for one in shown:
        get_store().keep(conversation(), message_id, one.name, content)
    get_store().add(conversation(), f"user:{message_id}", "user", text, files=shown)
    if with_humans:
        return {"wants_human": False}
    said = answer(text)
    get_store().add(conversation(), f"bot:{message_id}", "bot", said.text)
    return {"wants_human": said.wants_human}


def say(text: str, files: Sequence[Attachment], message_id: str, *, contact: str = "", name: str = "") -> None:
    """With a Botpress bot: the bridge finds out who gets the user's message."""
    config = current_app.config
    user = ChatUser(
        conversation(),
        name=name or config["EXAMPLE_NAME"] or None,
        contact=contact or config["EXAMPLE_CONTACT"] or None,
    )
    current_app.extensions["chat_say"](user, text, files, message_id)


def attachment(upload: FileStorage, content: bytes) -> Attachment:
    """An uploaded file as the extension takes it; its name without folders and control characters."""
    name = re.sub(r"[\x00-\x1f\x7f]", "", upload.filename or "").replace("\\", "/").rpartition("/")[2]
    return Attachment(name=name or "file", content_type=upload.mimetype or None, content=content)


@bp.get("/files/<key>")
def file(key: str) -> ResponseReturnValue:
    """A file this user sent, always as a download: no browser runs what somebody uploaded."""
    found = get_store().kept(conversation(), key)
    if found is None:
        abort(404, "There is no such file.")
    name, content = found
    kind = "application/octet-stream"
    return send_file(BytesIO(content), mimetype=kind, as_attachment=True, download_name=name, etag=False)


@bp.post("/human")
def human() -> dict[str, Any]:
    """Hand the conversation to the humans."""
    name, contact = request.form.get("name", "").strip()[:100], request.form.get("contact", "").strip()[:200]
    if not contact:
        abort(400, "We need a phone number with country code, or an e-mail address.")
    if "chat_say" in current_app.extensions:  # the bot decides, and knows what was said before
        say("I want to talk to a human.", (), uuid.uuid4().hex, contact=contact, name=name)
        return {"state": "bot"}
    history = [HistoryEntry(entry.name or entry.speaker, entry.text) for entry in get_store().entries(conversation())]
    try:
        handoff = hitl.start(
            conversation(), contact=contact, name=name or None, title="A chat from the web page", history=history
        )
    except ContactError:
        abort(400, "We don't know this phone number or e-mail address. Is it spelled with its country code?")
    except LedgerUnavailable:
        raise
    except HITLError:
        current_app.logger.exception("The conversation could not be handed over")
        abort(502, "Sorry, our team can't be reached just now.")
    said = "I have called our team. Somebody will write to you here."
    get_store().add(conversation(), f"called:{handoff.id}", "bot", said)
    return {"state": handoff.state.value}


@bp.post("/stop")
def stop() -> dict[str, Any]:
    """The user has had enough of the humans."""
    hitl.stop(conversation())
    return {"state": "bot"}
