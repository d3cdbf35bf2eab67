"""Show our own pages: one look, and headers that let nothing else in. The callers write what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response, current_app, make_response, render_template, request

from ..runtime import get_runtime

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Describe one button, and what is sent along with it. ``action`` is relative to the page."""

    action: str
    button: str
    fields: dict[str, str]


def page(
    title: str,
    paragraphs: Sequence[str],
    *,
    tone: str = "plain",
    facts: Sequence[tuple[str, str]] = (),
    commands: Sequence[str] = (),
    form: Form | None = None,
    status: int = 200,
) -> Response:
    """Render a page of ours. Everything given is text, never markup."""
    answer = rendered(
        "page",
        title=title,
        paragraphs=paragraphs,
        tone=tone,
        facts=facts,
        commands=commands,
        form=form,
    )
    answer.status_code = status
    return answer


def rendered(template: str, **values: Any) -> Response:
    """Render a template of ours, with the headers of all our pages."""
    # The way to where the extension is mounted: relative, because a proxy may have mounted the app anywhere.
    root = "../" * (request.path.removeprefix(get_runtime().settings.url_prefix).count("/") - 1)
    body = render_template(f"hubspot_hitl/{template}.html", root=root, app_name=current_app.name, **values)
    answer = make_response(body)
    answer.headers.update(HEADERS)
    return answer
