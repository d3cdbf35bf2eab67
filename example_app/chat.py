"""The chat page and its JSON routes. Who may read a conversation is decided by the signed session alone."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    abort,
    current_app,
    render_template,
    request,
    send_file,
    send_from_directory,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import HTTPException

import flask_hubspot_hitl
from flask_hubspot_hitl import (
    Attachment,
    ContactError,
    HistoryEntry,
    HITLError,
    LedgerUnavailable,
    NobodyAvailable,
)
from flask_hubspot_hitl.botpress.chat import ChatUser

from . import pictures, promises
from .bot import answer
from .extensions import hitl
from .store import File, get_store

bp = Blueprint("chat", __name__)
TEXT_LIMIT = 4000
DESIGN = Path(flask_hubspot_hitl.__file__).parent / "design"


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


@bp.get("/static/design/<name>")
def design(name: str) -> ResponseReturnValue:
    """The look of the extension's own pages, so that the chat has it too."""
    return send_from_directory(DESIGN, name)


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
        "messages": [
            pictures.line(entry) for entry in get_store().entries(conversation(), after=min(max(after, 0), 2**62))
        ],
        "state": handoff.state.value if handoff else "bot",
        "operator": operator,
        "standing": asdict(get_store().standing(conversation())),
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
    said = answer(text)
    if with_humans:
        if said.is_fact and not with_bridge:  # the agent may copy what the bot would have said
            hitl.note(conversation(), said.text, draft=True)
        return {"wants_human": False}
    nobody = promises.nobody_is_there() if said.wants_human else None
    get_store().add(conversation(), f"bot:{message_id}", "bot", nobody or said.text)
    return {"wants_human": said.wants_human and nobody is None}


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


@bp.get("/pictures/<int:number>/<int:place>")
def picture(number: int, place: int) -> ResponseReturnValue:
    """A picture of this conversation, the user's or an agent's, to be shown; what is no picture is not found."""
    found = pictures.load(conversation(), min(number, 2**62), place)
    if found is None:
        abort(404, "There is no such picture.")
    return found[0], {"Content-Type": found[1]}


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
            conversation(),
            contact=contact,
            name=name or None,
            title="A chat from the web page",
            history=history,
            require_available=promises.can_be_asked(),
        )
    except NobodyAvailable as nobody:
        abort(409, promises.words(nobody.opens_at))
    except ContactError:
        abort(400, "We don't know this phone number or e-mail address. Is it spelled with its country code?")
    except LedgerUnavailable:
        raise
    except HITLError:
        current_app.logger.exception("The conversation could not be handed over")
        abort(502, "Sorry, our team can't be reached just now.")
    said = "I have called our team. Somebody will write to you here."
    get_store().add(conversation(), f"called:{handoff.id}", "bot", said)
    place = hitl.waiting(conversation())
    if place is not None:
        get_store().stand(conversation(), ahead=place.ahead, estimate=place.estimate)
    return {"state": handoff.state.value}


@bp.get("/availability")
def availability() -> dict[str, Any]:
    """What stands above the form: that nobody is there, and when somebody is back; else nothing."""
    return {"nobody": promises.nobody_is_there()}


@bp.post("/seen")
def seen() -> dict[str, Any]:
    """The page has shown the lines up to ``number``: the agent sees READ below what they wrote."""
    number = min(max(request.form.get("number", 0, type=int), 0), 2**62)
    key = get_store().newest(conversation(), "agent", until=number)
    if key is not None:
        read = current_app.extensions.get("chat_read", hitl.mark_read)
        read(conversation(), key.partition(":")[2])
    return {}


@bp.post("/rating")
def rating() -> dict[str, Any]:
    """How it was, from 1 to 5, with a few words; or nothing, which takes the question away."""
    score, comment = request.form.get("score", type=int), request.form.get("comment", "").strip()[:TEXT_LIMIT]
    if score in range(1, 6):
        hitl.rate(conversation(), f"{score} of 5", comment or None)
        get_store().add(conversation(), f"rated:{uuid.uuid4().hex}", "bot", "Thank you! I have told our team.")
    get_store().stand(conversation())
    return {}


@bp.post("/stop")
def stop() -> dict[str, Any]:
    """The user has had enough of the humans."""
    hitl.stop(conversation())
    return {"state": "bot"}
