"""Signatures: HubSpot's published vectors, our own, and every kind of garbage (D14, D15, D16)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_hubspot_hitl.hubspot.signature import Verdict, check, decoded_uri, is_fresh, sign, skew_seconds, verify

DOCS_SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
DOCS_URI = "https://www.example.com/webhook_uri"
B1 = (
    b'[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,'
    b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM",'
    b'"changeFlag":"NEW","appId":54321}]'
)
SDK_BODY = b"{'example_field':'example_value'}"
SECRET = "demo-client-secret-0001"
NOW = 1_790_000_001_000
STAMP = str(NOW)
URI = "https://bot.example.test/hubspot/webhook"
ENCODED = URI + "?next=%2Finbox%3Fa%3D1&who=a%40b.test&sp=x%20y"
B2 = (
    b'[{"eventId":9001,"subscriptionId":77,"portalId":424242,"appId":3131,"occurredAt":1790000000000,'
    b'"subscriptionType":"conversation.propertyChange","attemptNumber":0,"objectId":5551212,'
    b'"propertyName":"status","propertyValue":"CLOSED"}]'
)
CHANNEL = "https://bot.example.test/hubspot/channel"
OLA = '{"type":"OUTGOING_CHANNEL_MESSAGE_CREATED","message":{"text":"Olá 👋 – é"}}'.encode()

PUBLISHED = [
    ("v1", "POST", DOCS_URI, B1, None, "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"),
    ("v2", "GET", DOCS_URI, b"", None, "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e"),
    (
        "v2",
        "POST",
        DOCS_URI,
        b'{"example_field":"example_value"}',
        None,
        "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900",
    ),
    (
        "v1",
        "POST",
        DOCS_URI,
        SDK_BODY,
        None,
        "69fc6631a867edd4f9e9e627fc5c1148e3fbdd8b21837b6d2b8901c1fa57f750",
    ),
    (
        "v2",
        "POST",
        DOCS_URI,
        SDK_BODY,
        None,
        "4fe4e3a7d3cf09db53be39d0a58130e2aaba074ec123a9e355b876a689a1c383",
    ),
    ("v3", "POST", DOCS_URI, SDK_BODY, "1693657560000", "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="),
    ("v3", "POST", DOCS_URI, SDK_BODY, "1700000300000", "RnbPH7+UMKVkbV32P8bz450N4M56aPmcru1+D3kSDtw="),
]
OWN = [
    ("v1", "POST", URI, B2, None, "dfc65dfc6be42ddf813bdcd85672773a3d2e8f17bbffbe84704cd8310863eab9"),
    ("v2", "POST", URI, B2, None, "6321af724b30f1b07f91d7d2a33ea5f9047145dc1a4b8c3841203f24bd95b92d"),
    ("v3", "POST", URI, B2, STAMP, "xZoall2cBfY8uwWE519Qs3BCUrrg7/686g+kNR9ZLBg="),
    ("v3", "POST", ENCODED, B2, STAMP, "Htk2h3J0EJOIipXK7Qn8QB++FmX9UPuAjFQUqMjeV7g="),
    ("v3", "POST", CHANNEL, OLA, STAMP, "qvwTkklqpW32pC3Ht1vpmavdo8ZRFYqW/jLGc7EgC44="),
]
VECTORS = [(DOCS_SECRET, *row) for row in PUBLISHED] + [(SECRET, *row) for row in OWN]


def signed(**changes: Any) -> dict[str, Any]:
    """A good v3 request, with changes made after it was signed."""
    request: dict[str, Any] = {
        "signature": sign("v3", secret=SECRET, method="POST", uri=URI, body=B2, timestamp=STAMP),
        "secrets": SECRET,
        "method": "POST",
        "uri": URI,
        "body": B2,
        "timestamp": STAMP,
        "now_ms": NOW,
    }
    return request | changes


@pytest.mark.parametrize(("secret", "version", "method", "uri", "body", "stamp", "expected"), VECTORS)
def test_vectors(
    secret: str, version: str, method: str, uri: str, body: bytes, stamp: str | None, expected: str
) -> None:
    assert sign(version, secret=secret, method=method, uri=uri, body=body, timestamp=stamp) == expected
    now = int(stamp or 0)
    request: dict[str, Any] = {"method": method, "uri": uri, "body": body, "timestamp": stamp, "now_ms": now}
    assert verify(version, signature=expected, secrets=secret, **request)
    assert not verify(version, signature=expected, secrets="another", **request)


def test_undecoded_uri_is_what_others_sign_wrongly() -> None:
    """docs/hubspot.rst (Vectors): the same raw URL without the decoding step."""
    assert not verify("v3", **signed(uri=ENCODED, signature="yOX5u+/ZfeaRo02MWTAlBbxpT2ikFMiZf5rA6xAlwAM="))


def test_the_twelve_decodings_in_one_pass() -> None:
    assert decoded_uri("%3A%2f%3F%40%21%24%27%28%29%2A%2c%3B") == ":/?@!$'()*,;"
    kept = "%20%26%3D%23%25+%C3%A9%253A"
    assert decoded_uri(kept) == kept  # %253A stays: one pass only
    assert decoded_uri("https://x.test/a?b=%3A#frag%3A") == "https://x.test/a?b=:"


def test_bytes_and_text_bodies_that_json_would_change() -> None:
    """D16: raw bytes, whatever they are."""
    body = b'{ "a" : "\xff\xfe" }\r\n'
    stamp = {"timestamp": STAMP, "now_ms": NOW}
    signature = sign("v3", secret=SECRET, method="post", uri=URI, body=body, timestamp=NOW)
    request: dict[str, Any] = {"signature": signature, "secrets": [SECRET], "method": "POST", "uri": URI}
    assert verify("v3", body=body, **request, **stamp)
    assert verify("v3", body=bytearray(body), **request, **stamp)
    assert not verify("v3", body=body.strip(), **request, **stamp)


def test_several_secrets() -> None:
    assert verify("v3", **signed(secrets=["new", SECRET]))
    assert verify("v3", **signed(secrets=(SECRET, "old")))
    assert not verify("v3", **signed(secrets=["new", "old"]))


@pytest.mark.parametrize("secrets", ["", [], [""], None, 7, [None], [b"x"], ["\ud800"], object()])
def test_no_usable_secret_verifies_nothing(secrets: object) -> None:
    forged = sign("v3", secret="", method="POST", uri=URI, body=B2, timestamp=STAMP)
    assert not verify("v3", **signed(secrets=secrets, signature=forged))


@pytest.mark.parametrize(
    ("offset", "fresh"),
    [(0, True), (300_000, True), (-300_000, True), (300_001, False), (-300_001, False), (360_000, False)],
)
def test_five_minutes_both_ways(offset: int, fresh: bool) -> None:
    """D14: too new is as bad as too old."""
    request = signed(now_ms=NOW - offset)
    assert verify("v3", **request) is fresh
    assert check("v3", **request) is (Verdict.OK if fresh else Verdict.STALE)
    assert is_fresh(STAMP, NOW - offset) is fresh
    assert skew_seconds(STAMP, NOW - offset) == offset / 1000


@pytest.mark.parametrize(
    "stamp",
    [None, "", "abc", "1e400", "-1", "+1", " 1", "1 ", "1.0", "1" * 16, "1" * 20, "1\n", "١٢٣", "inf", "0x1", "1_0"],
)
def test_bad_timestamps(stamp: str | None) -> None:
    """D14, including digits of other scripts."""
    assert not verify("v3", **signed(timestamp=stamp))
    assert check("v3", **signed(timestamp=stamp)) is Verdict.BAD_TIMESTAMP
    with pytest.raises(ValueError, match="timestamp"):
        sign("v3", secret=SECRET, method="POST", uri=URI, body=B2, timestamp=stamp)


def test_timestamp_is_signed_as_received() -> None:
    stamp = "0" + STAMP
    signature = sign("v3", secret=SECRET, method="POST", uri=URI, body=B2, timestamp=stamp)
    assert verify("v3", **signed(timestamp=stamp, signature=signature))
    assert not verify("v3", **signed(timestamp=STAMP, signature=signature))


def test_reasons() -> None:
    assert check("v3", **signed()) is Verdict.OK
    assert check("v3", **signed(signature=None)) is Verdict.MISSING
    assert check("v3", **signed(signature="")) is Verdict.MISSING
    assert check("v3", **signed(body=B2 + b" ")) is Verdict.BAD_SIGNATURE
    assert check("v3", **signed(uri=URI + "/")) is Verdict.BAD_SIGNATURE
    assert check("v3", **signed(method="PUT")) is Verdict.BAD_SIGNATURE
    # A forger learns nothing of our clock: a wrong signature is wrong first.
    assert check("v3", **signed(body=b"", now_ms=0)) is Verdict.BAD_SIGNATURE
    assert check("v3", **signed(now_ms=NOW + 10**9)) is Verdict.STALE


def test_versions_are_not_interchangeable() -> None:
    for version in ("v1", "v2", "v3"):
        signature = sign(version, secret=SECRET, method="POST", uri=URI, body=B2, timestamp=STAMP)
        for other in ("v1", "v2", "v3", "v4", "", None):
            request = signed(signature=signature)
            assert verify(other, **request) is (other == version)  # type: ignore[arg-type]


def test_unknown_version_is_told_to_who_signs() -> None:
    with pytest.raises(ValueError, match="v1, v2 or v3"):
        sign("v9", secret=SECRET, method="POST", uri=URI, body=B2)


text = st.text(st.characters(exclude_categories=[]), max_size=60)
junk = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), text, st.binary(max_size=60), st.lists(text, max_size=3)
)


@given(
    version=st.sampled_from(["v1", "v2", "v3", "", "v9"]),
    signature=junk,
    secrets=junk,
    method=junk,
    uri=junk,
    body=junk,
    timestamp=junk,
    now_ms=junk,
)
@example(version="v3", signature="é", secrets=[SECRET], method="POST", uri=URI, body=B2, timestamp=STAMP, now_ms=NOW)
@example(
    version="v3", signature="\ud800", secrets=[SECRET], method="POST", uri=URI, body=B2, timestamp=STAMP, now_ms=NOW
)
@example(
    version="v3",
    signature="A" * 1_000_000,
    secrets=[SECRET],
    method="POST",
    uri=URI,
    body=B2,
    timestamp=STAMP,
    now_ms=NOW,
)
@example(
    version="v2", signature="a", secrets=[SECRET], method="\ud800", uri="\ud800", body=B2, timestamp=STAMP, now_ms=NOW
)
@example(
    version="v3", signature="a", secrets=[SECRET], method="POST", uri=URI, body=B2, timestamp=10**5000, now_ms=10**5000
)
@example(
    version="v3", signature="a", secrets=[SECRET], method="POST", uri=URI, body=B2, timestamp=STAMP, now_ms=float("nan")
)
def test_garbage_is_a_plain_no(
    version: str,
    signature: object,
    secrets: object,
    method: object,
    uri: object,
    body: object,
    timestamp: object,
    now_ms: object,
) -> None:
    """D15: never an exception, never a yes."""
    request: dict[str, Any] = {"signature": signature, "secrets": secrets, "method": method, "uri": uri}
    request |= {"body": body, "timestamp": timestamp, "now_ms": now_ms}
    assert verify(version, **request) is False
    assert check(version, **request) is not Verdict.OK
    assert is_fresh(timestamp, now_ms) in (True, False)


@given(field=st.sampled_from(["signature", "method", "uri", "body", "timestamp", "secrets", "now_ms"]), value=junk)
def test_one_field_of_a_good_request_replaced(field: str, value: object) -> None:
    request = signed()
    if value == request[field]:
        return
    if field == "now_ms" and isinstance(value, int | float) and abs(NOW - value) <= 300_000:
        return
    assert verify("v3", **(request | {field: value})) is False


@given(
    body=st.binary(max_size=200),
    secret=st.text(min_size=1, max_size=40),
    path=st.text("abc%23FfAa/?&=:@+", max_size=40),
)
def test_what_is_signed_verifies(body: bytes, secret: str, path: str) -> None:
    uri = "https://bot.example.test/" + path
    for version in ("v1", "v2", "v3"):
        signature = sign(version, secret=secret, method="POST", uri=uri, body=body, timestamp=NOW)
        request = signed(uri=uri, body=body, secrets=secret, signature=signature)
        assert verify(version, **request)
