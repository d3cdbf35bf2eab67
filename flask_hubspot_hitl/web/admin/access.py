"""Let in whom the host's ``may_administer`` lets in, and take only forms that were shown to the same browser."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from flask import abort, g, request
from flask.globals import app_ctx
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.wrappers import Response as AnyResponse

from ...handoffs.receivers import invoke
from ...hubspot.text import one_line
from ...portals.consent import Consent, ConsentProblem, new_browser
from ...runtime import Runtime, get_runtime
from ..oauth import WORDS as OAUTH_WORDS
from ..visitors import MAX_FORM_BYTES, Words, told, visiting_browser, words

MOST_NAME = 200
"""Characters of the name that the audit keeps."""
_WHO = "hubspot_hitl_admin"

WORDS: dict[StrEnum, Words] = {
    ConsentProblem.FORM_FORGED: OAUTH_WORDS[ConsentProblem.FORM_FORGED],
    ConsentProblem.NOT_CONFIGURED: words(
        503, "This app has no key", "A button here is signed with the app's SECRET_KEY, which is not set."
    ),
}

View = Callable[..., AnyResponse]


def admitted(page: View, *, pressed: View | None = None) -> View:
    """Return a view that is not there for those whom the host does not let in, whatever they ask with.

    :param page: answers GET.
    :param pressed: answers POST.
    """

    @functools.wraps(page)
    def shown(**values: Any) -> AnyResponse:
        _admit(get_runtime())
        view = {"GET": page, "HEAD": page, "POST": pressed}.get(request.method)
        if view is None:
            raise MethodNotAllowed(["GET", "HEAD", *(["POST"] if pressed else [])])
        return told("A page of the admin", WORDS)(functools.partial(view, **values))()

    return shown


def _admit(runtime: Runtime) -> None:
    asked = runtime.may_administer
    answer = None if asked is None else invoke(app_ctx.app, asked)
    if not answer:
        abort(404)
    setattr(g, _WHO, one_line(answer)[:MOST_NAME] if isinstance(answer, str) else None)


def who() -> str | None:
    """Return whom the host has let in, for the audit; None when it did not say."""
    return g.get(_WHO) or None


# Forms ---------------------------------------------------------------------------------------------------------


def form_for_browser(runtime: Runtime) -> tuple[str, str]:
    """Return the browser's secret, and the token that a form shown to it carries.

    :raises FlowRefused: when there is no key to sign it with.
    """
    browser = visiting_browser() or new_browser()
    return browser, Consent(runtime.services).form_token(browser)


def check_form(runtime: Runtime) -> None:
    """Check that the request is a form of ours.

    :raises FlowRefused: when it is not.
    """
    request.max_content_length = MAX_FORM_BYTES
    Consent(runtime.services).check_form(request.form.get("form", ""), visiting_browser())
