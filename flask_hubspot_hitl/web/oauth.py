"""The pages of an installation: ``/oauth/install``, with a button that leads to HubSpot, and ``/oauth/callback``.

Opening a page changes nothing, so a chat's preview can't use up a link; only the button does. Every end of a flow has
words of its own, which hold nothing that came in with the request.
"""

from __future__ import annotations

from enum import StrEnum

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from ..portals.consent import Consent, ConsentProblem, FlowRefused, new_browser
from ..portals.installations import wanted_scopes
from ..runtime import get_runtime
from .pages import HEADERS, Form, page
from .visitors import MAX_FORM_BYTES, Words, may_install, told, visiting_browser, with_cookie

_AGAIN = "Nothing was stored. You can begin again with a new link."
_ASK = "Ask whoever runs this app for a new link; it is made with:"
_NEW_LINK = ("flask hubspot-hitl install-url",)

WORDS: dict[StrEnum, Words] = {
    ConsentProblem.NOT_ALLOWED: (
        403,
        "You can't connect HubSpot here",
        ("Only people whom this app lets do so, or who were sent a link, may connect a HubSpot account.", _ASK),
        _NEW_LINK,
    ),
    ConsentProblem.LINK_FORGED: (
        403,
        "This link is not valid",
        ("It may have been cut when it was copied.", _ASK),
        _NEW_LINK,
    ),
    ConsentProblem.LINK_EXPIRED: (
        403,
        "This link has expired",
        ("Links work for a limited time only.", _ASK),
        _NEW_LINK,
    ),
    ConsentProblem.LINK_USED: (403, "This link has been used", ("A link works once.", _ASK), _NEW_LINK),
    ConsentProblem.FORM_FORGED: (
        400,
        "This page is out of date",
        ("Go back, load the page again, and press the button once more. Your browser must accept our cookie.",),
        (),
    ),
    ConsentProblem.STATE_MISSING: (
        400,
        "Something is missing",
        ("HubSpot sends people to this page; it does not work when it is opened by itself.", _AGAIN),
        (),
    ),
    ConsentProblem.STATE_FORGED: (
        400,
        "This answer is not one to us",
        ("What came back from HubSpot does not belong to an installation that was begun here.", _AGAIN),
        (),
    ),
    ConsentProblem.STATE_EXPIRED: (
        400,
        "That took too long",
        ("An installation has to be finished within ten minutes.", _AGAIN),
        (),
    ),
    ConsentProblem.STATE_USED: (
        400,
        "This answer has been used",
        (
            "This page works once, and it has been opened before. If it said then that HubSpot is connected, all is "
            "well.",
        ),
        (),
    ),
    ConsentProblem.OTHER_BROWSER: (
        400,
        "This was begun in another browser",
        (
            "An installation has to be finished in the browser, and under the address, that it was begun with, and "
            "the browser must accept our cookie.",
            _AGAIN,
        ),
        (),
    ),
    ConsentProblem.DENIED: (
        403,
        "HubSpot was not connected",
        ("The request was turned down on HubSpot's page, or whoever answered may not install apps.", _AGAIN),
        (),
    ),
    ConsentProblem.HUBSPOT_ERROR: (
        400,
        "HubSpot reported an error",
        ("HubSpot did not let the installation go on. Often the app's scopes or its redirect URL differ.", _AGAIN),
        (),
    ),
    ConsentProblem.CODE_MISSING: (400, "HubSpot's answer is not complete", ("It holds no code.", _AGAIN), ()),
    ConsentProblem.CODE_REFUSED: (
        400,
        "HubSpot does not take its code back",
        ("The code that HubSpot gave your browser has been used before, or is too old.", _AGAIN),
        (),
    ),
    ConsentProblem.APP_REFUSED: (
        503,
        "HubSpot does not know this app",
        (
            "HubSpot refuses the client id or the client secret that this app has. Whoever runs it finds more in its "
            "log.",
            _AGAIN,
        ),
        (),
    ),
    ConsentProblem.WRONG_PORTAL: (
        403,
        "This is another HubSpot account",
        (
            "The installation is for one particular HubSpot account, and another one was chosen. Its tokens were not "
            "stored; you may remove the app there under Connected apps.",
            "Begin again, and choose the right account on HubSpot's page.",
        ),
        (),
    ),
    ConsentProblem.UNAVAILABLE: (
        503,
        "HubSpot does not answer",
        ("HubSpot could not be asked for the tokens. Please try again in a few minutes.", _AGAIN),
        (),
    ),
    ConsentProblem.NOT_CONFIGURED: (
        503,
        "This app is not set up for installations yet",
        ("A setting is missing. Whoever runs the app finds in its log which one.", _AGAIN),
        (),
    ),
}


_told = told("An installation", WORDS)


def add_routes(blueprint: Blueprint) -> None:
    """Add the pages to the extension's blueprint."""
    blueprint.add_url_rule("/oauth/install", view_func=install_page, methods=["GET"])
    blueprint.add_url_rule("/oauth/install", view_func=install, methods=["POST"])
    blueprint.add_url_rule("/oauth/callback", view_func=callback, methods=["GET"])


@_told
def install_page() -> AnyResponse:
    """Show a visitor who may install a button; nothing has happened yet."""
    runtime = get_runtime()
    consent = Consent(runtime.services)
    link, portal_id = request.args.get("link"), _asked_portal()
    if link is not None:
        portal_id = consent.check_link(link)
    elif not may_install(runtime, portal_id):
        raise FlowRefused(ConsentProblem.NOT_ALLOWED)
    consent.check()
    browser = visiting_browser() or new_browser()
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
    return with_cookie(answer, runtime, browser)


@_told
def install() -> AnyResponse:
    """Handle the button: use up the link, and send the browser to HubSpot with a state of its own."""
    runtime = get_runtime()
    consent = Consent(runtime.services)
    request.max_content_length = MAX_FORM_BYTES
    browser = visiting_browser()
    consent.check_form(request.form.get("form", ""), browser)
    link, portal_id = request.form.get("link"), _asked_portal()
    if link is None and not may_install(runtime, portal_id):
        raise FlowRefused(ConsentProblem.NOT_ALLOWED)
    consent.check()
    if link is not None:
        portal_id = consent.check_link(link, use=True)
    answer = redirect(consent.begin(str(browser), portal_id), 303)
    answer.headers.update(HEADERS)
    return with_cookie(answer, runtime, str(browser))


@_told
def callback() -> AnyResponse:
    """Receive the browser that HubSpot sends back, and finish the installation."""
    if request.method == "HEAD":  # somebody only looks: the answer is not used up
        return Response(status=204, headers=HEADERS)
    runtime = get_runtime()
    args = request.args
    browser = visiting_browser()
    connected = Consent(runtime.services).finish(
        state=args.get("state"), code=args.get("code"), error=args.get("error"), browser=browser
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
    answer = page("HubSpot is connected", paragraphs, tone="good", facts=facts)
    return with_cookie(answer, runtime, str(browser))  # who has just installed may connect inboxes for a while


def _asked_portal() -> str | None:
    """The portal that the request wishes to connect, if it names one."""
    portal_id = request.values.get("portal_id", "")
    if not portal_id:
        return None
    if not portal_id.isascii() or not portal_id.isdecimal() or len(portal_id) > 19:
        raise FlowRefused(ConsentProblem.WRONG_PORTAL)
    return portal_id
