"""Receive HubSpot's webhooks: verify and store, nothing else."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from flask import request
from flask.globals import app_ctx
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from ..config import Settings
from ..errors import LedgerUnavailable
from ..handoffs.intake import Intake
from ..handoffs.receivers import tell
from ..hubspot.events import TooManyItems, Unreadable, parse_body
from ..hubspot.signature import Verdict, check, skew_seconds
from ..ledger import patience
from ..metrics import WEBHOOKS
from ..portals import deployment
from ..runtime import Runtime, get_runtime
from ..signals import webhook_rejected
from .body import BODY_GONE, BODY_GONE_HINT, BodyGone, read_body

logger = logging.getLogger(__name__)


PATIENCE_SECONDS, SHORT_PATIENCE_SECONDS = 3.0, 0.1
"""Seconds that a webhook waits for the database; HubSpot waits five for the answer, with up to ten requests in flight
(docs/hubspot.rst: Deliveries)."""
SHORT_SECONDS = 1.0
"""Seconds after a webhook timed out on the database for which later ones wait only SHORT_PATIENCE_SECONDS: they may
have queued for its thread."""


def webhook() -> ResponseReturnValue:
    """Verify a webhook, store its events in one transaction, wake the dispatcher, and answer 204.

    A 2xx is a promise that the events are on disk. 413: too large; 401: not HubSpot's; 400: unreadable; 503: can't be
    stored now, and HubSpot sends it again. Doctor's self-test is answered, and nothing else is done with it.
    """
    runtime = get_runtime()
    settings = runtime.settings
    try:
        body = read_body(settings.max_body_bytes)
    except RequestEntityTooLarge:
        return _answer("the body is too large", 413, "too_large")
    except BodyGone:
        _tell_rejected(BODY_GONE, f"; {BODY_GONE_HINT}")
        return _answer(deployment.BODY_GONE, 400)
    except Exception:  # whatever the server makes of a broken body
        return _answer("the body can't be read", 400, "unreadable")
    now_ms = runtime.ledger.wall_ms()
    version, verdict = _verify(settings, body, now_ms)
    if verdict is not Verdict.OK:
        _reject(verdict, now_ms)
        return _answer("the signature is missing or wrong", 401)
    nonce = deployment.self_test_nonce(body)
    if nonce is not None:
        return _answer_self_test(runtime, nonce)
    try:
        items = parse_body(body, now_ms=now_ms)
    except TooManyItems:
        return _answer("too many events", 413, "too_large")
    except Unreadable:
        return _answer("the body is not what HubSpot sends", 400, "unreadable")
    try:
        with _in_time(runtime.intake):
            stored = runtime.intake.accept(items, hint=version == "v1")
    except LedgerUnavailable as error:
        _log_once("unavailable", f"A webhook could not be stored, HubSpot will send it again: {error}")
        return _answer("try again later", 503, "unavailable")
    runtime.meter(WEBHOOKS, result="stored")
    if stored:
        runtime.dispatcher.wake()
    return "", 204


@contextlib.contextmanager
def _in_time(intake: Intake) -> Iterator[None]:
    began = time.monotonic()
    try:
        with patience(SHORT_PATIENCE_SECONDS if began < intake.short_until else PATIENCE_SECONDS):
            yield
    except LedgerUnavailable:
        if time.monotonic() - began > PATIENCE_SECONDS / 2:
            intake.short_until = time.monotonic() + SHORT_SECONDS
        raise


def _answer_self_test(runtime: Runtime, nonce: str) -> ResponseReturnValue:
    try:
        deployment_id = runtime.ledger.deployment_id
    except LedgerUnavailable:
        return _answer("try again later", 503)
    return deployment.self_test_answer(runtime.settings, nonce, deployment_id), {"Cache-Control": "no-store"}


def healthz() -> ResponseReturnValue:
    """Answer 200 when the database can be written, else 503; see :class:`.ledger.health.Health`."""
    trouble = get_runtime().health.trouble()
    if trouble is not None:
        _log_once("health", f"Nothing can be accepted, healthz answers 503: {trouble}")
        return {"status": "unavailable"}, 503
    return {"status": "ok"}


def readyz() -> ResponseReturnValue:
    """Answer 200 when this process does its work: the database can be written, and its threads come to theirs.

    Else 503 with the reason: ``database``, ``closing``, or ``handlers``, which hang in all threads that there may be.
    """
    reason = get_runtime().why_not_ready()
    if reason is not None:
        _log_once("ready", f"This process is not ready, readyz answers 503: {reason}")
        return {"status": "unavailable", "reason": reason}, 503
    return {"status": "ok"}


def _answer(text: str, status: int, result: str | None = None) -> ResponseReturnValue:
    if result is not None:
        get_runtime().meter(WEBHOOKS, result=result)
    return {"error": text}, status


def _verify(settings: Settings, body: bytes, now_ms: int) -> tuple[str, Verdict]:
    """Verify the request. The v3 header alone decides when it is present; v1 signs arrays only (docs/rules.rst B1)."""
    headers = request.headers
    query = request.environ.get("QUERY_STRING", "")
    version, signature = "v3", headers.get("X-HubSpot-Signature-v3")
    if signature is None and "v1" in settings.signature_versions:
        declared = headers.get("X-HubSpot-Signature-Version", "v1").strip().lower()
        version, signature = ("v1", headers.get("X-HubSpot-Signature")) if declared == "v1" else ("v3", None)
    verdict = Verdict.MISSING
    for url in settings.webhook_urls():
        verdict = check(
            version,
            signature=signature,
            secrets=settings.client_secret,
            method=request.method,
            uri=f"{url}?{query}" if query else url,
            body=body,
            timestamp=headers.get("X-HubSpot-Request-Timestamp"),
            now_ms=now_ms,
        )
        if verdict in (Verdict.OK, Verdict.STALE):
            break
    if version == "v1" and verdict is Verdict.OK and not body.lstrip().startswith(b"["):
        verdict = Verdict.BAD_SIGNATURE
    return version, verdict


def _reject(verdict: Verdict, now_ms: int) -> None:
    """Report a rejected request to the log (at most once a minute for each reason) and to ``webhook_rejected``."""
    reason = verdict.value
    detail = "; 'flask hubspot-hitl doctor' looks for the cause" if verdict is Verdict.BAD_SIGNATURE else ""
    if verdict is Verdict.STALE:
        skew = skew_seconds(request.headers.get("X-HubSpot-Request-Timestamp"), now_ms) or 0.0
        detail = f": its time is {skew:+.0f} s from ours; check this machine's clock"
    _tell_rejected(reason, detail)


def _tell_rejected(reason: str, detail: str) -> None:
    get_runtime().meter(WEBHOOKS, result=reason)
    _log_once(reason, f"A webhook was rejected ({reason}){detail}")
    for error in tell(app_ctx.app, webhook_rejected, reason=reason, remote_addr=request.remote_addr):
        _log_once("receiver", f"A receiver of webhook_rejected raised {type(error).__name__}")


def _log_once(key: str, text: str) -> None:
    """Log a warning, at most once a minute for each app and key."""
    get_runtime().seldom(logger, logging.WARNING, "%s", text, key=key)
