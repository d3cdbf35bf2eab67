"""The page that HubSpot opens when an admin connects our channel to an inbox: ``/connect``, with a button.

Opening it changes nothing. Whoever may install may connect, and whoever has just installed in this browser.
"""

from __future__ import annotations

from enum import StrEnum

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from ..portals.connect import ConnectFlow, ConnectProblem, Wish, read
from ..portals.consent import Consent, ConsentProblem, FlowRefused, new_browser
from ..runtime import Runtime, get_runtime
from .oauth import WORDS as OAUTH_WORDS
from .pages import HEADERS, Form, page
from .visitors import MAX_FORM_BYTES, Words, may_install, told, visiting_browser, with_cookie, words

_AGAIN = "Close this window, and choose the channel once more in the inbox's settings in HubSpot."
_INSTALL = ("flask hubspot-hitl install-url",)

WORDS: dict[StrEnum, Words] = {
    **{why: OAUTH_WORDS[why] for why in (ConsentProblem.FORM_FORGED, ConsentProblem.NOT_CONFIGURED)},
    ConnectProblem.NOT_ALLOWED: words(
        403,
        "You can't connect an inbox here",
        "Only people whom this app lets do so may connect an inbox, and whoever has installed the app from this "
        "browser within the last hour.",
        "Ask whoever runs this app for a link to install it with; then choose the channel once more in HubSpot. "
        "The link is made with:",
        commands=_INSTALL,
    ),
    ConnectProblem.INCOMPLETE: words(
        400,
        "This is only half an address",
        "HubSpot opens this page when somebody chooses the channel in an inbox's settings; it does not work when "
        "it is opened by itself.",
        _AGAIN,
    ),
    ConnectProblem.NO_CHANNEL: words(
        503,
        "This app has no channel yet",
        "Whoever runs it has to make the channel first, with:",
        commands=("flask hubspot-hitl setup",),
    ),
    ConnectProblem.OTHER_CHANNEL: words(
        400,
        "This is not our channel",
        "HubSpot was asked to connect a channel of another app, or one that this app no longer uses.",
        _AGAIN,
    ),
    ConnectProblem.NOT_INSTALLED: words(
        403,
        "The app is not installed in this account",
        "Install it first; ask whoever runs the app for a link, which is made with:",
        commands=_INSTALL,
    ),
    ConnectProblem.REVOKED: words(
        403,
        "HubSpot no longer lets this app in",
        "The app was removed from this account, or its access was taken back. Install it again, then connect the "
        "inbox; the link to install it with is made with:",
        commands=_INSTALL,
    ),
    ConnectProblem.EXPIRED: words(
        400,
        "HubSpot no longer waits for this",
        "It has been finished or given up, or too much time has passed. The inbox was not connected.",
        _AGAIN,
    ),
    ConnectProblem.OTHER_INBOX: words(
        400,
        "This is another inbox",
        "HubSpot's answer names another inbox or channel than the address of this page did. Somebody may have "
        "changed the address. See in HubSpot's settings which inboxes have the channel.",
        _AGAIN,
    ),
    ConnectProblem.REFUSED: words(
        502,
        "HubSpot refused to connect the inbox",
        "Custom channels need Sales Hub or Service Hub Professional, and some accounts allow only so many. "
        "Whoever runs this app finds HubSpot's reason in its log.",
    ),
    ConnectProblem.UNAVAILABLE: words(
        503,
        "HubSpot does not answer",
        "Whether the inbox is connected is not known; HubSpot's settings show it. Please try again in a while.",
        _AGAIN,
    ),
}

_told = told("Connecting an inbox", WORDS)


@_told
def connect_page() -> AnyResponse:
    """Show a visitor who may connect a button; nothing has happened yet."""
    runtime = get_runtime()
    allowed = Consent(runtime.services)
    browser = visiting_browser()
    wish = read(request.args)
    _check(runtime, allowed, wish, browser)
    ConnectFlow(runtime.services).check(wish)
    browser = browser or new_browser()
    answer = page(
        "Connect this inbox",
        (
            "Conversations that the chat hands over will come to this inbox, and your team's answers go back to the "
            "chat.",
        ),
        facts=(("Account", wish.portal_id), ("Inbox", wish.inbox_id)),
        form=Form(action="connect", button="Connect", fields={"form": allowed.form_token(browser)} | wish.query()),
    )
    return with_cookie(answer, runtime, browser)


@_told
def connect() -> AnyResponse:
    """Handle the button: tell HubSpot, and send the browser back to it."""
    runtime = get_runtime()
    allowed = Consent(runtime.services)
    request.max_content_length = MAX_FORM_BYTES
    browser = visiting_browser()
    allowed.check_form(request.form.get("form", ""), browser)
    wish = read(request.form)
    _check(runtime, allowed, wish, browser)
    connected = ConnectFlow(runtime.services).finish(wish)
    runtime.dispatcher.wake()
    facts = (("Account", wish.portal_id), ("Inbox", wish.inbox_id))
    if connected.was_there:
        text = "You can close this window. If the channel is switched off in the inbox's settings, switch it on there."
        return page("This inbox is connected already", (text,), tone="good", facts=facts)
    if connected.back_to is None:
        text = "HubSpot knows what it needs. Close this window, and go back to the inbox's settings in HubSpot."
        return page("The inbox is being connected", (text,), tone="good", facts=facts)
    answer = redirect(connected.back_to, 303)
    answer.headers.update(HEADERS)
    return answer


def _check(runtime: Runtime, allowed: Consent, wish: Wish, browser: str | None) -> None:
    if not allowed.has_installed(browser, wish.portal_id) and not may_install(runtime, wish.portal_id):
        raise FlowRefused(ConnectProblem.NOT_ALLOWED)
