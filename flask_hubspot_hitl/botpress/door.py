"""Receive Botpress's requests: capped, with a secret, as a JSON object, and never answered with a 500.

A bridge's view gets the body, once the request has shown its secret, and may raise :class:`Refused`; nothing of an
exception reaches a stranger.
"""

from __future__ import annotations

import functools
import hmac
import logging
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import LedgerUnavailable
from ..hubspot import strict_json
from ..hubspot.events import scrub_json
from ..runtime import get_runtime
from ..web.body import BODY_GONE_HINT, BodyGone, read_body
from ..web.hosts import AnyHost

logger = logging.getLogger(__name__)

BODY_LIMIT = 1_048_576
"""Bytes of a request's body."""

View = Callable[[dict[str, Any]], ResponseReturnValue]
"""Gets the body, answers the request."""
Check = Callable[..., None]
"""Gets the rule's segments, and refuses strangers."""
Say = Callable[[str, object], None]
"""Logs a text of one argument, at most once a minute."""


class Refused(Exception):
    """Raise it in a view to answer with ``status`` and a short ``text`` of ours; ``hint`` is for the log."""

    def __init__(self, status: int, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.hint = hint


def add_routes(app: Flask, name: str, path: str, views: Mapping[str, View], *, check: Check) -> None:
    """Serve ``POST <prefix>/botpress/<path><rule>`` for each rule, exempt from Flask-WTF's CSRF protection.

    ``check`` gets the rule's segments and refuses strangers, before anything of the body is read.

    :raises RuntimeError: the extension is not on the app.
    """
    blueprint = AnyHost(f"hubspot_hitl_{name}", __name__)
    say = functools.partial(get_runtime(app).seldom, logger, logging.WARNING, key=name)
    for rule, view in views.items():
        endpoint = rule.rpartition("/")[2] or "root"
        blueprint.add_url_rule(rule, endpoint, _guarded(view, check, say), methods=["POST"])
    app.register_blueprint(blueprint, url_prefix=f"{get_runtime(app).settings.url_prefix}/botpress{path}")

    def exempt() -> None:
        csrf = app.extensions.get("csrf")
        if csrf is not None and hasattr(csrf, "exempt"):
            csrf.exempt(blueprint)

    exempt()
    app.before_request(exempt)  # whichever came first


def _guarded(view: View, check: Check, say: Say) -> Callable[..., ResponseReturnValue]:
    """Answer every failure in JSON: :class:`Refused` as it says, trouble with the database as 503."""

    def guarded(**segments: str) -> ResponseReturnValue:
        try:
            check(**segments)
            return view(read_object())
        except Refused as refused:
            if refused.hint:
                say("A request from Botpress was refused: %s", refused.hint)
            return {"error": refused.text}, refused.status
        except LedgerUnavailable as error:
            say(
                "A request from Botpress is not stored (%s), answered 503, and not repeated: check the database",
                error,
            )
            return {"error": "try again later"}, 503

    return guarded


def bearer(secret: str) -> Check:
    """Refuse (401) a request whose ``Authorization: Bearer`` is not the secret."""

    def check() -> None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if not (same(given.strip(), secret) and kind.lower() == "bearer"):
            raise Refused(401, "the secret is missing or wrong")

    return check


def header(name: str, secret: str) -> Check:
    """Refuse (401) a request without the secret in a header of its own."""

    def check() -> None:
        if not same(request.headers.get(name), secret):
            raise Refused(401, "the secret is missing or wrong")

    return check


def segment(wanted: str) -> Check:
    """Refuse a request whose rule's ``<secret>`` is not the secret: to a stranger the page is not there (404)."""

    def check(*, secret: str) -> None:
        if not same(secret, wanted):
            raise Refused(404, "not found")

    return check


def same(given: object, secret: str) -> bool:
    """Return True when ``given`` is the secret; compared as bytes, in constant time."""
    if not isinstance(given, str):
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())


def read_object() -> dict[str, Any]:
    """Read the body as a JSON object that a database can hold: scrubbed, no NaN, not too deep.

    :raises Refused: 413 when the body has more than :data:`BODY_LIMIT` bytes, 400 when it is not such an object.
    """
    try:
        body = read_body(BODY_LIMIT)
    except RequestEntityTooLarge:
        raise Refused(413, "the body is too large") from None
    except BodyGone:
        raise Refused(400, "the body did not arrive whole", hint=BODY_GONE_HINT) from None
    except Exception:  # whatever the server makes of a broken body
        raise Refused(400, "the body can't be read") from None
    try:
        value = scrub_json(strict_json.loads(body))
    except ValueError:
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def text_of(body: dict[str, Any], name: str, *, required: bool = False, limit: int = 500) -> str:
    """Return a field that is text, or an id as a number; "" when it is missing and not required.

    :raises Refused: 400 when it is something else, longer than ``limit`` characters, or missing and required.
    """
    value = body.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or value == "":
        if required:
            raise Refused(400, f"{name} is missing")
        return ""
    if not isinstance(value, str) or len(value) > limit:
        raise Refused(400, f"{name} must be text of at most {limit} characters")
    return value
