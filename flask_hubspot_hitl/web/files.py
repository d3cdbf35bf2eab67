"""The page behind a link to a conversation's file: it sends the browser on to an address that HubSpot has signed."""

from __future__ import annotations

import logging

from flask import redirect
from werkzeug.wrappers import Response

from ..errors import HubSpotNotFound, HubSpotRejected, HubSpotUnavailable, LedgerUnavailable, NotConfigured
from ..runtime import get_runtime
from .pages import HEADERS, page

logger = logging.getLogger(__name__)


def file(token: str) -> Response:
    """Answer 302 to where the file is now, 404 when it is gone or was never ours, 503 when HubSpot gives none."""
    runtime = get_runtime()
    try:
        answer = redirect(runtime.links.follow(token))
    except (HubSpotNotFound, NotConfigured) as error:
        logger.info("A link to a file led to nothing: %s", error)
        text = "The conversation is no longer kept, or the file was deleted."
        return page("This file is not here any more", (text,), tone="bad", status=404)
    except (HubSpotUnavailable, HubSpotRejected, LedgerUnavailable) as error:
        logger.warning("A link to a file could not be followed: %s. See 'flask hubspot-hitl doctor'", error)
        late = page("Please try again later", ("The file can't be had just now.",), tone="bad", status=503)
        late.headers["Retry-After"] = "60"
        return late
    answer.headers.update(HEADERS)
    return answer
