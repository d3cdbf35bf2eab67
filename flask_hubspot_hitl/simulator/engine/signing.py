"""The headers of a delivery: v1 and v3 on both feeds, v2 and v3 on what a workflow sends.

Source: docs/hubspot.rst (Signatures).

Signed now, unless chaos wants an old time or another secret; nothing here sends anything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ...hubspot.signature import sign
from ..model.world import now_ms

if TYPE_CHECKING:
    from .chaos import Chaos

USER_AGENT = "HubSpot stand-in (Flask-HubSpot-HITL simulator)"
OLD_MS = 6 * 60 * 1000
BASE = {"Content-Type": "application/json", "User-Agent": USER_AGENT, "Connection": "close"}


def headers(chaos: Chaos, feed: str, url: str, secret: str, body: bytes) -> dict[str, str]:
    """The headers of one delivery; which signatures is a switch, and so is whether they are right."""
    which = chaos.channel_signatures if feed == "channel" and chaos.channel_signatures else chaos.signatures
    if feed == "workflow":
        which = "v2+v3"
    wrong = which == "wrong" or chaos.happens("bad_signature", feed)
    stamp = now_ms() - (OLD_MS if chaos.happens("old_timestamp", feed) else 0)
    return BASE | signatures(which, url, f"{secret}-wrong" if wrong else secret, body, stamp, uri=uri_of(chaos, url))


def signatures(which: str, url: str, secret: str, body: bytes, stamp: int, *, uri: str | None = None) -> dict[str, str]:
    """The signature headers for ``v1+v3``, ``v3``, ``v1`` or ``v2+v3``; ``uri`` is v3's, if signed as it stands."""
    answer = {"X-HubSpot-Request-Timestamp": str(stamp)}
    if which != "v3":
        version = "v2" if which.startswith("v2") else "v1"
        answer["X-HubSpot-Signature"] = sign(version, secret=secret, method="POST", uri=url, body=body)
        answer["X-HubSpot-Signature-Version"] = version
    if which != "v1" and uri is None:
        v3 = sign("v3", secret=secret, method="POST", uri=url, body=body, timestamp=stamp)
        answer["X-HubSpot-Signature-v3"] = v3
    elif which != "v1":
        source = b"POST" + str(uri).encode() + body + str(stamp).encode()
        digest = hmac.new(secret.encode(), source, hashlib.sha256).digest()
        answer["X-HubSpot-Signature-v3"] = base64.b64encode(digest).decode()
    return answer


def uri_of(chaos: Chaos, url: str) -> str | None:
    """The URI that v3 signs as it stands, where ``signed_uri`` is not what is documented; else None."""
    if chaos.signed_uri == "raw":
        return url
    if chaos.signed_uri == "decoded":
        return unquote(url)
    if chaos.signed_uri == "no_default_port":
        parts = urlsplit(url)
        default = {"https": 443, "http": 80}.get(parts.scheme)
        if parts.port == default and parts.hostname:
            return url.replace(f":{default}", "", 1)
    return None
