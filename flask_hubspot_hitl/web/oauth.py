"""The pages of an installation: ``/oauth/install``, with a button that leads to HubSpot, and ``/oauth/callback``.

Opening a page changes nothing, so a chat's preview can't use up a link; only the button does. Every end of a flow has
words of its own, which hold nothing that came in with the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from ..hubspot.scopes import LEGACY_FILES_SCOPE, AppKind, lacking
from ..portals import installations
from ..portals.consent import Consent, ConsentProblem, FlowRefused, new_browser
from ..runtime import Runtime, get_runtime
from .pages import HEADERS, Form, page
from .visitors import MAX_FORM_BYTES, Words, may_install, told, visiting_browser, with_cookie, words

_AGAIN = "Nothing was stored. You can begin again with a new link."
_ASK = "Ask whoever runs this app for a new link; it is made with:"
_NEW_LINK = ("flask hubspot-hitl install-url",)

WORDS: dict[StrEnum, Words] = {
    ConsentProblem.NOT_ALLOWED: words(
        403,
        "You can't connect HubSpot here",
        "Only people whom this app lets do so, or who were sent a link, may connect a HubSpot account.",
        _ASK,
        commands=_NEW_LINK,
    ),
    ConsentProblem.LINK_FORGED: words(
        403,
        "This link is not valid",
        "It may have been cut when it was copied.",
        _ASK,
        commands=_NEW_LINK,
    ),
    ConsentProblem.LINK_EXPIRED: words(
        403,
        "This link has expired",
        "Links work for a limited time only.",
        _ASK,
        commands=_NEW_LINK,
    ),
    ConsentProblem.LINK_USED: words(
        403,
        "This link has been used",
        "A link works once.",
        _ASK,
        commands=_NEW_LINK,
    ),
    ConsentProblem.FORM_FORGED: words(
        400,
        "This page is out of date",
        "Go back, load the page again, and press the button once more. Your browser must accept our cookie.",
    ),
    ConsentProblem.STATE_MISSING: words(
        400,
        "Something is missing",
        "HubSpot sends people to this page; it does not work when it is opened by itself.",
        _AGAIN,
    ),
    ConsentProblem.STATE_FORGED: words(
        400,
        "This answer is not one to us",
        "What came back from HubSpot does not belong to an installation that was begun here.",
        _AGAIN,
    ),
    ConsentProblem.STATE_EXPIRED: words(
        400,
        "That took too long",
        "An installation has to be finished within ten minutes.",
        _AGAIN,
    ),
    ConsentProblem.STATE_USED: words(
        400,
        "This answer has been used",
        "This page works once, and it has been opened before. If it said then that HubSpot is connected, all is well.",
    ),
    ConsentProblem.OTHER_BROWSER: words(
        400,
        "This was begun in another browser",
        "An installation has to be finished in the browser, and under the address, that it was begun with, and "
        "the browser must accept our cookie.",
        _AGAIN,
    ),
    ConsentProblem.DENIED: words(
        403,
        "HubSpot was not connected",
        "The request was turned down on HubSpot's page, or whoever answered may not install apps.",
        _AGAIN,
    ),
    ConsentProblem.MORE_THAN_THE_APP: words(
        400,
        "The app does not have everything that was asked for",
        "HubSpot lets nobody install an app that asks for scopes which the app itself does not have. Whoever runs "
        "this app finds in its log which ones: they have to be added to the app at HubSpot (for a project app in "
        "its file, then uploaded), or taken out of HUBSPOT_HITL_SCOPES.",
        _AGAIN,
    ),
    ConsentProblem.LESS_THAN_THE_APP: words(
        400,
        "The app requires more than was asked for",
        "HubSpot lets nobody install an app without asking for every scope that the app requires. Whoever runs "
        "this app finds in its log which ones were left out: HUBSPOT_HITL_SCOPES has to name them too, or they "
        "have to become optional, or go, in the app at HubSpot.",
        _AGAIN,
    ),
    ConsentProblem.LEGACY_SCOPE: words(
        400,
        "The app asked for a scope of legacy apps",
        "HubSpot's project apps do not have the scope files: files.read and files.write have taken its place. "
        "Whoever runs this app has to write those in HUBSPOT_HITL_SCOPES and in the app's file, or, if the app is "
        "a legacy one, to set HUBSPOT_HITL_APP_KIND to legacy-public.",
        _AGAIN,
    ),
    ConsentProblem.HUBSPOT_ERROR: words(
        400,
        "HubSpot reported an error",
        "HubSpot did not let the installation go on. Often the app's scopes or its redirect URL differ.",
        _AGAIN,
    ),
    ConsentProblem.CODE_MISSING: words(
        400,
        "HubSpot's answer is not complete",
        "It holds no code.",
        _AGAIN,
    ),
    ConsentProblem.CODE_REFUSED: words(
        400,
        "HubSpot does not take its code back",
        "The code that HubSpot gave your browser has been used before, or is too old.",
        _AGAIN,
    ),
    ConsentProblem.APP_REFUSED: words(
        503,
        "HubSpot does not know this app",
        "HubSpot refuses the client id or the client secret that this app has. Whoever runs it finds more in its log.",
        _AGAIN,
    ),
    ConsentProblem.WRONG_PORTAL: words(
        403,
        "This is another HubSpot account",
        "The installation is for one particular HubSpot account, and another one was chosen. Its tokens were not "
        "stored; you may remove the app there under Connected apps.",
        "Begin again, and choose the right account on HubSpot's page.",
    ),
    ConsentProblem.UNAVAILABLE: words(
        503,
        "HubSpot does not answer",
        "HubSpot could not be asked for the tokens. Please try again in a few minutes.",
        _AGAIN,
    ),
    ConsentProblem.NOT_CONFIGURED: words(
        503,
        "This app is not set up for installations yet",
        "A setting is missing. Whoever runs the app finds in its log which one.",
        _AGAIN,
    ),
}


_told = told("An installation", WORDS)


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
            *_warnings(runtime),
        ),
        facts=(
            ("Account", account or "you choose it at HubSpot"),
            ("It asks for", "\n".join(runtime.services.wanted_scopes())),
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
        state=args.get("state"),
        code=args.get("code"),
        error=args.get("error"),
        description=args.get("error_description"),
        browser=browser,
    )
    runtime.dispatcher.wake()
    paragraphs = ["Conversations can be handed over to this account from now on. You can close this page."]
    if connected.missing:
        paragraphs.append(
            "HubSpot did not grant everything that was asked for. Some things will not work until the app is installed "
            "again with what is missing."
        )
    if connected.more:
        paragraphs.append(
            "HubSpot granted more than is used here. Whoever runs this app may take that out of the app's scopes."
        )
    if connected.is_legacy:
        paragraphs.append(
            "The scope files shows that this is a legacy app, and it counts as a project app here. Whoever runs this "
            "app should set HUBSPOT_HITL_APP_KIND to legacy-public."
        )
    facts = [("Account", connected.portal_id)]
    facts += [("Not granted", "\n".join(connected.missing))] if connected.missing else []
    facts += [("Granted beyond that", "\n".join(connected.more))] if connected.more else []
    answer = page("HubSpot is connected", paragraphs, tone="good", facts=facts)
    return with_cookie(answer, runtime, str(browser))  # who has just installed may connect inboxes for a while


def _warnings(runtime: Runtime) -> Iterator[str]:
    """What can go wrong at HubSpot, where nobody is sent back to us; it depends on the app's kind."""
    kind, asked = runtime.services.app_kind(), runtime.services.wanted_scopes()
    place = "the file of the app (src/app/app-hsmeta.json)" if kind is AppKind.PROJECT else "the app's page, under Auth"
    yield (
        "If HubSpot shows an error about scopes instead, the app there does not have exactly those below. Whoever runs "
        f"this app has to compare them with {place}: what the app requires must be asked for, and nothing that it does "
        "not have. HUBSPOT_HITL_SCOPES decides what is asked for."
    )
    if kind is AppKind.PROJECT and LEGACY_FILES_SCOPE in asked:
        yield (
            "HubSpot will refuse this: project apps do not have the scope files, which HUBSPOT_HITL_SCOPES names. It "
            "has to name files.read and files.write instead."
        )
    few = lacking(installations.wanted_scopes(replace(runtime.settings, scopes=()), kind), asked)
    if few:
        yield f"HUBSPOT_HITL_SCOPES does not name all that is needed, and some calls will be refused: {', '.join(few)}."


def _asked_portal() -> str | None:
    """The portal that the request wishes to connect, if it names one."""
    portal_id = request.values.get("portal_id", "")
    if not portal_id:
        return None
    if not portal_id.isascii() or not portal_id.isdecimal() or len(portal_id) > 19:
        raise FlowRefused(ConsentProblem.WRONG_PORTAL)
    return portal_id
