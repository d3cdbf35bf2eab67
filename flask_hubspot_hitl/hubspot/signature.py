"""Make and check HubSpot's request signatures v1, v2 and v3.

Pure functions, the clock is passed in. Imports nothing of ours, no Flask, no database. Source of the wire facts:
docs/hubspot.rst (Signing rules; Signature traps).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, Required, TypedDict, Unpack

Version = Literal["v1", "v2", "v3"]
"""A signature's version."""

MAX_SKEW_MS = 300_000
"""Milliseconds that a v3 timestamp may be ahead of our clock, or behind it; HubSpot's own rule."""

_DECODED = {
    "%3A": ":",
    "%2F": "/",
    "%3F": "?",
    "%40": "@",
    "%21": "!",
    "%24": "$",
    "%27": "'",
    "%28": "(",
    "%29": ")",
    "%2A": "*",
    "%2C": ",",
    "%3B": ";",
}
_ENCODED = re.compile("|".join(_DECODED), re.IGNORECASE)
_TIMESTAMP = re.compile(r"[0-9]{1,15}")


class Verdict(StrEnum):
    """The result of :func:`check`."""

    OK = "ok"
    """Signed with one of the secrets and, in v3, just now."""
    MISSING = "missing"
    """There is no signature."""
    BAD_TIMESTAMP = "bad_timestamp"
    """A v3 signature without a timestamp, or with one that is not 1 to 15 digits."""
    BAD_SIGNATURE = "bad_signature"
    """None of the secrets makes this signature."""
    STALE = "stale"
    """The signature is right and only the time is not: :func:`skew_seconds` says by how much."""


def sign(
    version: str,
    *,
    secret: str,
    method: str,
    uri: str,
    body: bytes,
    timestamp: str | int | None = None,
) -> str:
    """Return the signature that HubSpot would send.

    :param version: ``v1``, ``v2`` or ``v3``.
    :param secret: the app's client secret.
    :param method: the HTTP method; v1 does not sign it.
    :param uri: the full URL as called, undecoded; v1 does not sign it.
    :param body: the raw bytes.
    :param timestamp: epoch milliseconds; for v3 only, where it is required.
    :returns: a hex SHA-256 digest (v1, v2), or a base64 HMAC-SHA256 (v3).
    :raises ValueError: the version is unknown, the timestamp is missing or odd, or a text is not Unicode.
    """
    if version == "v1":
        return hashlib.sha256(secret.encode() + body).hexdigest()
    if version == "v2":
        return hashlib.sha256(secret.encode() + method.upper().encode() + uri.encode() + body).hexdigest()
    if version == "v3":
        stamp = _stamp(timestamp)
        if stamp is None:
            raise ValueError("a v3 signature needs a timestamp: 1 to 15 digits, epoch milliseconds")
        source = method.upper().encode() + decoded_uri(uri).encode() + body + stamp.encode()
        return base64.b64encode(hmac.digest(secret.encode(), source, "sha256")).decode("ascii")
    raise ValueError("the signature version must be v1, v2 or v3")


def headers(version: str, *, secret: str, uri: str, body: bytes, timestamp: str | int) -> dict[str, str]:
    """Return the headers in which HubSpot would send a webhook's signature.

    :param version: ``v1``, ``v2`` or ``v3``.
    :param secret: the app's client secret.
    :param uri: the full URL as called, undecoded.
    :param body: the raw bytes of the POST.
    :param timestamp: epoch milliseconds; v1 and v2 do not send it.
    :returns: headers by name.
    :raises ValueError: as :func:`sign` does.
    """
    signature = sign(version, secret=secret, method="POST", uri=uri, body=body, timestamp=timestamp)
    if version == "v3":
        return {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": str(timestamp)}
    return {"X-HubSpot-Signature": signature, "X-HubSpot-Signature-Version": version}


class SignedRequest(TypedDict, total=False):
    """What :func:`check` is given of a request, as received; garbage of any type is allowed.

    :param signature: the signature's header; None when absent.
    :param secrets: a str or a sequence of them, any of which may have signed; an empty one is ignored.
    :param method: the HTTP method.
    :param uri: the full URL as called, undecoded.
    :param body: the raw bytes.
    :param timestamp: the timestamp's header; None when absent.
    :param now_ms: the time now, in epoch milliseconds.
    """

    signature: Required[object]
    secrets: Required[object]
    method: Required[object]
    uri: Required[object]
    body: Required[object]
    timestamp: object
    now_ms: Required[object]


def verify(version: str, **request: Unpack[SignedRequest]) -> bool:
    """Return True when the request was signed with one of the secrets and, in v3, just now.

    Never raises: garbage of any type is a plain False. The time taken does not tell which secret, or how much of the
    signature, was right.

    :param version: ``v1``, ``v2`` or ``v3``.
    :param request: the request, see :class:`SignedRequest`.
    """
    return check(version, **request) is Verdict.OK


def check(
    version: str,
    *,
    signature: object,
    secrets: object,
    method: object,
    uri: object,
    body: object,
    timestamp: object = None,
    now_ms: object,
) -> Verdict:
    """Check a request as :func:`verify` does, and return the reason. Never raises.

    :param version: ``v1``, ``v2`` or ``v3``.
    :param signature: the signature's header; None when absent.
    :param secrets: a str or a sequence of them, any of which may have signed; an empty one is ignored.
    :param method: the HTTP method.
    :param uri: the full URL as called, undecoded.
    :param body: the raw bytes.
    :param timestamp: the timestamp's header; None when absent.
    :param now_ms: the time now, in epoch milliseconds.
    :returns: the verdict.
    """
    if signature is None or signature == "":
        return Verdict.MISSING
    stamp = _stamp(timestamp)
    if version == "v3" and stamp is None:
        return Verdict.BAD_TIMESTAMP
    if not (isinstance(signature, str) and isinstance(method, str) and isinstance(uri, str)):
        return Verdict.BAD_SIGNATURE
    if not isinstance(body, (bytes, bytearray, memoryview)) or version not in ("v1", "v2", "v3"):
        return Verdict.BAD_SIGNATURE
    try:
        given = signature.encode("ascii")
        raw = bytes(body)
    except ValueError:
        return Verdict.BAD_SIGNATURE
    found = False
    for secret in _secrets(secrets):
        try:
            wanted = sign(version, secret=secret, method=method, uri=uri, body=raw, timestamp=stamp)
        except ValueError:  # a lone surrogate in the URI or the secret, no timestamp
            continue
        found |= hmac.compare_digest(given, wanted.encode("ascii"))
    if not found:
        return Verdict.BAD_SIGNATURE
    return Verdict.OK if version != "v3" or is_fresh(timestamp, now_ms) else Verdict.STALE


def is_fresh(timestamp: object, now_ms: object) -> bool:
    """Return True when a timestamp is at most :data:`MAX_SKEW_MS` before or after now.

    :param timestamp: the header: epoch milliseconds.
    :param now_ms: the time now, in epoch milliseconds.
    """
    skew = _skew_ms(timestamp, now_ms)
    return skew is not None and abs(skew) <= MAX_SKEW_MS


def skew_seconds(timestamp: object, now_ms: object) -> float | None:
    """Return the seconds by which a timestamp is ahead of now (negative: behind); None when either is no time.

    :param timestamp: the header: epoch milliseconds.
    :param now_ms: the time now, in epoch milliseconds.
    """
    skew = _skew_ms(timestamp, now_ms)
    return None if skew is None else skew / 1000


def decoded_uri(uri: str) -> str:
    """Return a URL without its fragment and with HubSpot's twelve v3 decodings, in a single pass.

    :param uri: the URL as called.
    """
    return _ENCODED.sub(lambda found: _DECODED[found[0].upper()], uri.partition("#")[0])


def _skew_ms(timestamp: object, now_ms: object) -> float | None:
    stamp = _stamp(timestamp)
    if stamp is None or not isinstance(now_ms, (int, float)) or not abs(now_ms) < 10**16:
        return None
    return int(stamp) - now_ms


def _stamp(timestamp: object) -> str | None:
    """Return the timestamp as received, if it is one: 1 to 15 ASCII digits."""
    if isinstance(timestamp, int) and not isinstance(timestamp, bool) and 0 <= timestamp < 10**15:
        return str(timestamp)
    if isinstance(timestamp, str) and _TIMESTAMP.fullmatch(timestamp):
        return timestamp
    return None


def _secrets(secrets: object) -> list[str]:
    """Return the usable secrets, without empty ones, with which anybody could sign."""
    many = (secrets,) if isinstance(secrets, str) else secrets
    if not isinstance(many, (Sequence, set, frozenset)):
        return []
    return [secret for secret in many if isinstance(secret, str) and secret]
