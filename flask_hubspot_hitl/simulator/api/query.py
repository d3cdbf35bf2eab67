"""The parameters of the query that HubSpot's documents give a type, checked for every call in one place.

A name means the same in all of the documents (HubSpot OpenAPI, ``parameters``).
"""

from __future__ import annotations

import re

from flask import request

from ..model.errors import ApiError
from .wire import moment_ms, query_bool, query_list

FLAGS = frozenset({"allowsAnonymousAccess", "archived", "isUsableInContent", "upscale"})
MOMENTS = frozenset(
    {f"{name}{tail}" for name in ("createdAt", "expiresAt", "updatedAt") for tail in ("", "Gte", "Lte")}
    | {"latestMessageTimestampAfter"}
)
BITS = {
    **dict.fromkeys(("channelId", "defaultPageLength", "inboxId", "installPortalId", "limit"), 32),
    **{f"{name}{tail}": 32 for name in ("height", "width") for tail in ("", "Gte", "Lte")},
    **dict.fromkeys(("associatedContactId", "associatedTicketId", "expirationSeconds", "idGte", "idLte", "ids"), 64),
    **dict.fromkeys(("parentFolderIds", "sizeGte", "sizeLte"), 64),
}
"""How large a whole number may be."""


def check_query() -> None:
    """Check the query of this request. Raises ApiError (400)."""
    for name in request.args:
        if name in FLAGS:
            query_bool(name)
        elif name in MOMENTS:
            moment_ms(request.args[name].replace(" ", "+"), name)  # a plus that was not quoted
        elif name in BITS:
            for text in query_list(name):
                if "," not in text:
                    check_whole(text, name)


def check_whole(text: str, name: str) -> None:
    """A whole number that fits its bits. Raises ApiError (400)."""
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text, re.ASCII) or not -1 <= int(text) >> (BITS[name] - 1) <= 0:
        raise ApiError.invalid(name, f"must be a whole number of {BITS[name]} bits")
