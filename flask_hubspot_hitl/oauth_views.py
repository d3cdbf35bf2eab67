"""The pages of an installation: ``/oauth/install``, with a button that leads to HubSpot, and ``/oauth/callback``.

Opening a page changes nothing, so a chat's preview can't use up a link; only the button does. Every end of a flow has
words of its own, which hold nothing that came in with the request.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from .consent import Consent, Refused, Why, is_browser, new_browser
from .errors import LedgerUnavailable
from .pages import HEADERS, Form, page
from .portals import wanted_scopes
from .runtime import Runtime, get_runtime

logger = logging.getLogger(__name__)

COOKIE = "hubspot_hitl_oauth"
COOKIE_SECONDS = 3600
MAX_FORM_BYTES = 16_384

_AGAIN = "Nothing was stored. You can begin again with a new link."
_ASK = "Ask whoever runs this app for a new link; it is made with:"
_NEW_LINK = ("flask hubspot-hitl install-url",)

WORDS: dict[Why, tuple[int, str, tuple[str, ...], tuple[str, ...]]] = {
    Why.NOT_ALLOWED: (
        403,
        "You can't connect HubSpot here",
        ("Only people whom this app lets do so, or who were sent a link, may connect a HubSpot account.", _ASK),
        _NEW_LINK,
    ),
    Why.LINK_FORGED: (403, "This link is not valid", ("It may have been cut when it was copied.", _ASK), _NEW_LINK),
    Why.LINK_EXPIRED: (403, "This link has expired", ("Links work for a limited time only.", _ASK), _NEW_LINK),
    Why.LINK_USED: (403, "This link has been used", ("A link works once.", _ASK), _NEW_LINK),
    Why.FORM_FORGED: (
        400,
        "This page is out of date",
        ("Go back, load the page again, and press the button once more. Your browser must accept our cookie.",),
        (),
    ),
    Why.STATE_MISSING: (
        400,
        "Something is missing",
        ("HubSpot sends people to this page; it does not work when it is opened by itself.", _AGAIN),
        (),
    ),
    Why.STATE_FORGED: (
        400,
        "This answer is not one to us",
        ("What came back from HubSpot does not belong to an installation that was begun here.", _AGAIN),
        (),
    ),
    Why.STATE_EXPIRED: (
        400,
        "That took too long",
        ("An installation has to be finished within ten minutes.", _AGAIN),
        (),
    ),
    Why.STATE_USED: (
        400,
        "This answer has been used",
        (
            "This page works once, and it has been opened before. If it said then that HubSpot is connected, all is "
            "well.",
        ),
        (),
    ),
    Why.OTHER_BROWSER: (
        400,
        "This was begun in another browser",
        (
            "An installation has to be finished in the browser, and under the address, that it was begun with, and "
            "the browser must accept our cookie.",
            _AGAIN,
        ),
        (),
    ),
    Why.DENIED: (
        403,
        "HubSpot was not connected",
        ("The request was turned down on HubSpot's page, or whoever answered may not install apps.", _AGAIN),
        (),
    ),
    Why.HUBSPOT_ERROR: (
        400,
        "HubSpot reported an error",
        ("HubSpot did not let the installation go on. Often the app's scopes or its redirect URL differ.", _AGAIN),
        (),
    ),
    Why.CODE_MISSING: (400, "HubSpot's answer is not complete", ("It holds no code.", _AGAIN), ()),
    Why.CODE_REFUSED: (
        400,
        "HubSpot does not take its code back",
        ("The code that HubSpot gave your browser has been used before, or is too old.", _AGAIN),
        (),
    ),
    Why.APP_REFUSED: (
        503,
        "HubSpot does not know this app",
        (
            "HubSpot refuses the client id or the client secret that this app has. Whoever runs it finds more in its "
            "log.",
            _AGAIN,
        ),
        (),
    ),
    Why.WRONG_PORTAL: (
        403,
        "This is another HubSpot account",
        (
            "The installation is for one particular HubSpot account, and another one was chosen. Its tokens were not "
            "stored; you may remove the app there under Connected apps.",
            "Begin again, and choose the right account on HubSpot's page.",
        ),
        (),
    ),
    Why.UNAVAILABLE: (
        503,
        "HubSpot does not answer",
        ("HubSpot could not be asked for the tokens. Please try again in a few minutes.", _AGAIN),
        (),
    ),
    Why.NOT_CONFIGURED: (
        503,
        "This app is not set up for installations yet",
        ("A setting is missing. Whoever runs the app finds in its log which one.", _AGAIN),
        (),
    ),
}


def add_routes(blueprint: Blueprint) -> None:
    """Add the pages to the extension's blueprint."""
    blueprint.add_url_rule("/oauth/install", view_func=install_page, methods=["GET"])
    blueprint.add_url_rule("/oauth/install", view_func=install, methods=["POST"])
    blueprint.add_url_rule("/oauth/callback", view_func=callback, methods=["GET"])


def _told(view: Callable[[], AnyResponse]) -> Callable[[], AnyResponse]:
    """Make a page of a flow's end."""

    @functools.wraps(view)
    def shown() -> AnyResponse:
        try:
            return view()
        except Refused as refused:
            # Strangers can have a flow refused as often as they like; a detail there is only to a flow of ours.
            level = logging.WARNING if refused.detail else logging.INFO
            logger.log(level, "An installation was refused (%s)%s", refused.why, _after_colon(refused.detail))
            status, title, paragraphs, commands = WORDS[refused.why]
            return page(title, paragraphs, tone="bad", commands=commands, status=status)
        except LedgerUnavailable as error:
            logger.warning("An installation could not go on: %s", error)
            text = "The app's database could not be used. Please try again in a few minutes."
            return page("Please try again later", (text,), tone="bad", status=503)

    return shown


def _after_colon(detail: str) -> str:
    return f": {detail}" if detail else ""


@_told
def install_page() -> AnyResponse:
    """Who may install sees a button; nothing has happened yet."""
    runtime = get_runtime()
    consent = Consent(runtime.services)
    link, portal_id = request.args.get("link"), _asked_portal()
    if link is not None:
        portal_id = consent.check_link(link)
    elif not may_install(runtime, portal_id):
        raise Refused(Why.NOT_ALLOWED)
    consent.check()
    browser = _browser() or new_browser()
    fields = {"form": consent.form_token(browser)}
    fields |= {"link": link} if link is not None else {}
    fields |= {"portal_id": portal_id} if link is None and portal_id is not None else {}
    account = runtime.settings.portal_id or portal_id
    answer = page(
        "Connect HubSpot",
        (
            "This lets the chat hand conversations over to your team in HubSpot, and bring their answers back.",
            "On HubSpot's page choose your account and agree. You have to be allowed to install apps there.",
        ),
        facts=(
            ("Account", account or "you choose it at HubSpot"),
            ("It asks for", "\n".join(wanted_scopes(runtime.settings))),
        ),
        form=Form(action="install", button="Continue to HubSpot", fields=fields),
    )
    return _with_cookie(answer, runtime, browser)


@_told
def install() -> AnyResponse:
    """The button: a link is used up now, and the browser goes to HubSpot with a state of its own."""
    runtime = get_runtime()
    consent = Consent(runtime.services)
    request.max_content_length = MAX_FORM_BYTES
    browser = _browser()
    consent.check_form(request.form.get("form", ""), browser)
    link, portal_id = request.form.get("link"), _asked_portal()
    if link is None and not may_install(runtime, portal_id):
        raise Refused(Why.NOT_ALLOWED)
    consent.check()
    if link is not None:
        portal_id = consent.check_link(link, use=True)
    answer = redirect(consent.begin(str(browser), portal_id), 303)
    answer.headers.update(HEADERS)
    return _with_cookie(answer, runtime, str(browser))


@_told
def callback() -> AnyResponse:
    """HubSpot sends the browser back here."""
    if request.method == "HEAD":  # somebody only looks: the answer is not used up
        return Response(status=204, headers=HEADERS)
    runtime = get_runtime()
    args = request.args
    connected = Consent(runtime.services).finish(
        state=args.get("state"), code=args.get("code"), error=args.get("error"), browser=_browser()
    )
    runtime.dispatcher.wake()
    paragraphs = ["Conversations can be handed over to this account from now on. You can close this page."]
    if connected.missing:
        paragraphs.append(
            "HubSpot did not grant everything that was asked for. Some things will not work until the app is installed "
            "again with what is missing."
        )
    facts = [("Account", connected.portal_id)]
    facts += [("Not granted", "\n".join(connected.missing))] if connected.missing else []
    return page("HubSpot is connected", paragraphs, tone="good", facts=facts)


# Who is there --------------------------------------------------------------------------------------------


def may_install(runtime: Runtime, portal_id: str | None) -> bool:
    """Whether whoever sent this request may connect a portal: the host says so; by default, who debugs the app."""
    if runtime.may_install is None:
        return current_app.debug
    return bool(runtime.may_install(portal_id))


def _asked_portal() -> str | None:
    """The portal that the request wishes to connect, if it names one."""
    portal_id = request.values.get("portal_id", "")
    if not portal_id:
        return None
    if not portal_id.isascii() or not portal_id.isdecimal() or len(portal_id) > 19:
        raise Refused(Why.WRONG_PORTAL)
    return portal_id


def _browser() -> str | None:
    """The secret in this browser's cookie, if it has one of ours."""
    found = request.cookies.get(COOKIE)
    return found if is_browser(found) else None


def _with_cookie(answer: AnyResponse, runtime: Runtime, browser: str) -> AnyResponse:
    """Lax, so that the browser sends it when it comes back from HubSpot; the host's session may well be stricter."""
    settings = runtime.settings
    answer.set_cookie(
        COOKIE,
        browser,
        max_age=COOKIE_SECONDS,
        path=f"{settings.public_path()}/oauth",
        secure=urlsplit(settings.public_url[0]).scheme == "https",
        httponly=True,
        samesite="Lax",
    )
    return answer
