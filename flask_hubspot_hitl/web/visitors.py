"""Know the visitors of our pages by a cookie, decide which may connect, and tell them that a flow ended."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from urllib.parse import urlsplit

from flask import current_app, request
from flask.globals import app_ctx
from werkzeug.wrappers import Response as AnyResponse

from ..errors import LedgerUnavailable
from ..handoffs.receivers import invoke
from ..portals.consent import FlowRefused, is_browser
from ..runtime import Runtime
from .pages import page

logger = logging.getLogger(__name__)

COOKIE = "hubspot_hitl_oauth"
COOKIE_SECONDS = 3600
MAX_FORM_BYTES = 16_384

Words = tuple[int, str, tuple[str, ...], tuple[str, ...]]
"""How the end of a flow is told: HTTP status, heading, paragraphs, and commands for the person who runs the app."""


def words(status: int, heading: str, *paragraphs: str, commands: tuple[str, ...] = ()) -> Words:
    """Return how the end of a flow is told."""
    return status, heading, paragraphs, commands


def told(what: str, said: Mapping[StrEnum, Words]) -> Callable[[Callable[[], AnyResponse]], Callable[[], AnyResponse]]:
    """Decorate a view: every :class:`~.portals.consent.FlowRefused` becomes a page, in what is ``said`` for its reason.

    ``what`` is what was refused, as the log names it.
    """

    def decorate(view: Callable[[], AnyResponse]) -> Callable[[], AnyResponse]:
        @functools.wraps(view)
        def shown() -> AnyResponse:
            try:
                return view()
            except FlowRefused as refused:
                # Strangers can have a flow refused as often as they like; a detail there is only to a flow of ours.
                level = logging.WARNING if refused.detail else logging.INFO
                detail = f": {refused.detail}" if refused.detail else ""
                logger.log(level, "%s was refused (%s)%s", what, refused.why, detail)
                status, title, paragraphs, commands = said[refused.why]
                return page(title, paragraphs, tone="bad", commands=commands, status=status)
            except LedgerUnavailable as error:
                logger.warning("%s could not go on: %s", what, error)
                text = "The app's database could not be used. Please try again in a few minutes."
                return page("Please try again later", (text,), tone="bad", status=503)

        return shown

    return decorate


def may_install(runtime: Runtime, portal_id: str | None) -> bool:
    """Return True when this request's visitor may connect a portal: the host decides; by default debug mode does."""
    if runtime.may_install is None:
        return current_app.debug
    return bool(invoke(app_ctx.app, runtime.may_install, portal_id))  # a coroutine itself would be true for anybody


def visiting_browser() -> str | None:
    """Return the secret in this browser's cookie, if it has one of ours."""
    found = request.cookies.get(COOKIE)
    return found if is_browser(found) else None


def with_cookie(answer: AnyResponse, runtime: Runtime, browser: str) -> AnyResponse:
    """Set our cookie, as Lax, so that the browser sends it when it comes back from HubSpot.

    The host's session cookie may well be stricter.
    """
    settings = runtime.settings
    answer.set_cookie(
        COOKIE,
        browser,
        max_age=COOKIE_SECONDS,
        path=settings.public_path() or "/",
        secure=urlsplit(settings.public_url[0]).scheme == "https",
        httponly=True,
        samesite="Lax",
    )
    return answer
