"""Read a request's body, whatever the server makes of a broken one."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

BODY_GONE = "body_gone"
"""Reason of ``webhook_rejected`` when a webhook's body was read by something else before us."""
BODY_GONE_HINT = (
    "its body did not arrive whole: a before_request function or a WSGI middleware of the app reads it first (it "
    "should leave our routes alone, or use request.get_data(), which keeps it), or the sender hung up"
)


class BodyGone(Exception):
    """Report that a request's body is not whole: something of the host's read it first, or the sender hung up."""


def read_body(limit: int) -> bytes:
    """Read the body as sent, regardless of the host's own limits.

    :param limit: bytes.
    :returns: the body.
    :raises RequestEntityTooLarge: the body has more bytes.
    :raises BodyGone: less has come than was announced.
    """
    was_used = "stream" in vars(request)
    if request.content_length is not None and request.content_length > limit:
        raise RequestEntityTooLarge
    # Werkzeug cuts a streamed body off at the maximum without a word: one byte more tells that there was more.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except ClientDisconnected:
        raise BodyGone from None
    if len(body) > limit:
        raise RequestEntityTooLarge
    # A body without a length that comes empty is nobody's fault, unless somebody has had its stream.
    if len(body) < (request.content_length or (was_used and request.content_length is None)):
        raise BodyGone
    return body
