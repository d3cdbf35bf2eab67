"""HubSpot's request signatures v1, v2 and v3: making them and checking them.

Pure functions, the clock is passed in. Imports nothing of ours, no Flask, no database.
Source of the wire facts: developers.hubspot.com, "Validating requests from HubSpot".
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

#: How far a v3 timestamp may be from our clock, in milliseconds, in either direction.
MAX_SKEW_MS = 300_000

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
    """What :func:`check` found."""

    OK = "ok"
    MISSING = "missing"
    BAD_TIMESTAMP = "bad_timestamp"
    BAD_SIGNATURE = "bad_signature"
    STALE = "stale"


def sign(
    version: str,
    *,
    secret: str,
    method: str,
    uri: str,
    body: bytes,
    timestamp: str | int | None = None,
) -> str:
    """The signature HubSpot would send.

    ``uri`` is the full URL as called, undecoded; ``body`` the raw bytes; ``timestamp`` epoch milliseconds (v3
    only, where it is required). v1 and v2 are hex SHA-256 digests, v3 a base64 HMAC-SHA256.
    Raises ``ValueError`` for an unknown version, a missing or odd timestamp, or text that is not Unicode.
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


class SignedRequest(TypedDict, total=False):
    """What :func:`check` is told of a request, as received."""

    signature: Required[object]
    secrets: Required[object]
    method: Required[object]
    uri: Required[object]
    body: Required[object]
    timestamp: object
    now_ms: Required[object]


def verify(version: str, **request: Unpack[SignedRequest]) -> bool:
    """True when the request was signed with one of ``secrets`` and, in v3, just now.

    ``signature`` and ``timestamp`` are the headers as received (None when absent), ``secrets`` a str or a
    sequence of them, ``body`` the raw bytes, ``now_ms`` epoch milliseconds. Never raises: garbage of any type
    is a plain False. The time taken does not tell which secret, or how much of the signature, was right.
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
    """:func:`verify` with a reason. Never raises.

    ``STALE`` means the signature is right and only the time is not: :func:`skew_seconds` says by how much.
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
    """True when ``timestamp`` (the header) is at most five minutes before or after ``now_ms``."""
    skew = _skew_ms(timestamp, now_ms)
    return skew is not None and abs(skew) <= MAX_SKEW_MS


def skew_seconds(timestamp: object, now_ms: object) -> float | None:
    """How many seconds the header is ahead of ``now_ms`` (negative: behind); None when either is no time."""
    skew = _skew_ms(timestamp, now_ms)
    return None if skew is None else skew / 1000


def decoded_uri(uri: str) -> str:
    """``uri`` without its fragment and with HubSpot's twelve v3 decodings, in a single pass."""
    return _ENCODED.sub(lambda found: _DECODED[found[0].upper()], uri.partition("#")[0])


def _skew_ms(timestamp: object, now_ms: object) -> float | None:
    stamp = _stamp(timestamp)
    if stamp is None or not isinstance(now_ms, (int, float)) or not abs(now_ms) < 10**16:
        return None
    return int(stamp) - now_ms


def _stamp(timestamp: object) -> str | None:
    """The timestamp as received, if it is one: 1 to 15 ASCII digits."""
    if isinstance(timestamp, int) and not isinstance(timestamp, bool) and 0 <= timestamp < 10**15:
        return str(timestamp)
    if isinstance(timestamp, str) and _TIMESTAMP.fullmatch(timestamp):
        return timestamp
    return None


def _secrets(secrets: object) -> list[str]:
    """The usable secrets; an empty one would let anybody sign, so it is none."""
    many = (secrets,) if isinstance(secrets, str) else secrets
    if not isinstance(many, (Sequence, set, frozenset)):
        return []
    return [secret for secret in many if isinstance(secret, str) and secret]
