"""The way from the outside to our webhook: a signed request that changes nothing, sent as HubSpot would send it.

What comes back tells where it went wrong: at the name, the certificate, a redirect, the path, the signature, or because
somebody else answers.
"""

from __future__ import annotations

import re
import secrets
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3

from ..._version import __version__
from ...config import Settings, is_loopback
from ...hubspot import addresses, signature, strict_json
from ...portals import deployment
from ...runtime import Runtime
from .findings import Code, Finding

ANSWER_SECONDS = 5.0
"""HubSpot waits no longer for an answer."""
CONNECT_SECONDS = 3.05
_ANSWER_BYTES = 20_000
_REFUSED = (401, 403, 407)


def check(runtime: Runtime, url: str) -> Iterator[Finding]:
    """Check one of the public URLs: its webhook."""
    settings = runtime.settings
    hook = f"{url}{settings.url_prefix}/webhook"
    if not runtime.settings.is_stand_in and (why := _why_private(url)):
        yield Code.URL_PRIVATE.found(f"{url} {why}.")
        return
    nonce = secrets.token_hex(16)
    try:
        answer = _ask(runtime, hook, nonce)
    except _NoAnswer as failure:
        yield failure.code.found(f"POST {hook}: {failure}.")
        return
    yield from _judge(runtime, url, hook, nonce, answer)


def _ask(runtime: Runtime, hook: str, nonce: str, *, signed: str | None = None, secret: str | None = None) -> _Answer:
    """The self-test, signed as HubSpot signs: for the URL called, unless another one is ``signed``."""
    settings = runtime.settings
    body = deployment.self_test_body(nonce)
    headers = signature.headers(
        "v3",
        secret=secret or settings.client_secret[0],
        uri=signed or hook,
        body=body,
        timestamp=runtime.ledger.wall_ms(),
    )
    return _send("POST", hook, settings, body, headers)


_LOGIN = re.compile(r"(?i)log-?in|sign-?in|\b(auth|oauth2?|sso|saml|idp|accounts?|cdn-cgi/access)\b")
"""Where a redirect leads that asks who is there."""
_NO_LOGIN = (
    "A log-in stands before the app. Let POST {} through without one, in the proxy, the access gate or the app's own "
    "before_request: HubSpot logs in nowhere, and its signature is checked here."
)

_NO_SETTINGS = (
    "The server's process has not the settings that this command has. The command flask reads them from .env; servers "
    "such as gunicorn do not: load it for them. Or HUBSPOT_HITL_ENABLED is false there."
)


def _judge(runtime: Runtime, url: str, hook: str, nonce: str, answer: _Answer) -> Iterator[Finding]:
    settings, status = runtime.settings, answer.status
    told = f"POST {hook} was answered with {status}"
    if 300 <= status < 400:
        place = _place(hook, answer.headers.get("Location", ""))
        fix = _NO_LOGIN.format(urlsplit(hook).path) if _LOGIN.search(place) else None
        yield Code.URL_REDIRECTS.found(f"{told} to {place}.", fix=fix)
    elif status in (404, 405):
        better = _find_routes(url, settings)
        fix = None if better is None else f"Set HUBSPOT_HITL_PUBLIC_URL to {better}, where the app's routes are."
        yield Code.URL_NOT_FOUND.found(f"{told}.", fix=fix)
    elif status in _REFUSED:
        yield Code.URL_REFUSES.found(_refusal(runtime, url, hook, told, answer))
    elif status == 400 and answer.value == {"error": deployment.BODY_GONE}:
        yield Code.URL_BODY.found(f"{told}: {deployment.BODY_GONE}.")
    elif status == 503 and answer.value == {"error": deployment.SWITCHED_OFF}:
        yield Code.URL_TROUBLE.found(f"{told}: {deployment.SWITCHED_OFF}.", fix=_NO_SETTINGS)
    elif not 200 <= status < 300:
        words = " (its database can't be used)" if status == 503 and answer.is_ours else ""
        yield Code.URL_TROUBLE.found(f"{told}{words}.")
    else:
        yield from _identify(runtime, hook, told, deployment.read_self_test(settings, nonce, answer.value))


def _identify(runtime: Runtime, hook: str, told: str, facts: dict[str, str] | None) -> Iterator[Finding]:
    if facts is None:
        yield Code.URL_OTHER_APP.found(f"{told}, but without the proof that only this app can give.")
    elif facts.get("deployment_id") != runtime.ledger.deployment_id:
        yield Code.URL_OTHER_STORE.found(
            f"{hook} is answered by the installation {facts.get('deployment_id')}; this one is "
            f"{runtime.ledger.deployment_id}."
        )
    elif facts.get("version") != __version__:
        yield Code.URL_OTHER_VERSION.found(
            f"{hook} is answered by version {facts.get('version')}; this command is {__version__}."
        )
    elif facts.get("threads") == "none":
        yield Code.NO_THREADS.found(f"{hook} is answered by a uWSGI that runs without threads.")


def _refusal(runtime: Runtime, url: str, hook: str, told: str, answer: _Answer) -> str:
    """Who refuses, and why, as far as it can be told from outside: our webhook says little to strangers."""
    if not answer.is_ours:
        return f"{told}, not by the app but by something before it, such as a proxy that wants a password."
    skew = answer.ahead_of(runtime.ledger.wall_ms())
    if skew is not None and abs(skew) * 1000 > signature.MAX_SKEW_MS:
        return f"{told}: the clock there is {skew:+.0f} s from ours, so a signature is never fresh."
    for base, secret in _other_settings(runtime.settings, url):
        nonce = secrets.token_hex(16)
        try:
            again = _ask(runtime, hook, nonce, signed=f"{base}{runtime.settings.url_prefix}/webhook", secret=secret)
        except _NoAnswer:
            break
        if deployment.read_self_test(runtime.settings, nonce, again.value) is not None:
            known = "" if secret == runtime.settings.client_secret[0] else ", and knows an older client secret only"
            return f"{told}: the app there verifies {base}{known}; here HUBSPOT_HITL_PUBLIC_URL is {url}."
    return f"{told} by an app like this one: it verifies another URL than this, or with another client secret."


def _other_settings(settings: Settings, url: str) -> Iterator[tuple[str, str]]:
    """Public URLs and secrets that an app may easily have instead of ours."""
    parts = urlsplit(url)
    hosts = [f"https://{parts.netloc}", f"http://{parts.netloc}", "http://localhost:5000", "http://127.0.0.1:5000"]
    for secret in settings.client_secret:
        for base in dict.fromkeys([url, *(f"{host}{path}" for host in hosts for path in (parts.path, ""))]):
            if (base, secret) != (url, settings.client_secret[0]):
                yield base, secret


def _find_routes(url: str, settings: Settings) -> str | None:
    """Another public URL on the same host under which our routes are: shorter paths."""
    parts = urlsplit(url)
    steps = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    for length in range(len(steps) - 1, -1, -1):
        base = "/".join([f"{parts.scheme}://{parts.netloc}", *steps[:length]])
        try:
            answer = _send("GET", f"{base}{settings.url_prefix}/healthz", settings)
        except _NoAnswer:
            return None
        if answer.status == 200 and answer.value == {"status": "ok"}:
            return base
    return None


def _why_private(url: str) -> str | None:
    """Why HubSpot can't reach an address, as far as the address alone tells."""
    address = addresses.parse(url)
    host, ip = address.host, addresses.literal(address.host)
    if address.is_loopback or host.endswith(".localhost"):
        return "is this machine's own address"
    if ip is not None:
        is_global = addresses.may_connect(host, ip, ())
    else:
        is_global = "." in host and not host.endswith((".local", ".internal", ".lan", ".test", ".home.arpa"))
    return None if is_global else "is an address of a private network"


def _place(hook: str, location: str) -> str:
    """A redirect's target without its query, which may hold a secret."""
    try:
        found = addresses.follow(addresses.parse(hook), location)
    except addresses.AddressRefused as why:
        return f"an address that {why}"
    return f"{found.origin}{found.target.partition('?')[0]}"[:200]


# One request ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: requests.structures.CaseInsensitiveDict[str] = field(repr=False)
    value: object = field(repr=False)
    """The JSON, if it is any."""

    @property
    def is_ours(self) -> bool:
        """True for the errors of our webhook."""
        return isinstance(self.value, dict) and list(self.value) == ["error"]

    def ahead_of(self, now_ms: int) -> float | None:
        """How many seconds the server's clock is ahead of ours."""
        try:
            return parsedate_to_datetime(self.headers.get("Date", "")).timestamp() - now_ms / 1000
        except (ValueError, TypeError, OverflowError):
            return None


class _NoAnswer(Exception):
    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


def _send(
    method: str, url: str, settings: Settings, body: bytes = b"", headers: dict[str, str] | None = None
) -> _Answer:
    """One request: no redirects, nothing of the environment, bounded in time and size."""
    own = {"Content-Type": "application/json", "User-Agent": "Flask-HubSpot-HITL doctor", "Connection": "close"}
    with requests.Session() as http:
        http.trust_env = False
        if settings.proxy and not is_loopback(url):
            http.proxies = {"http": settings.proxy, "https": settings.proxy}
        try:
            with http.request(
                method, addresses.parse(url).url, data=body, headers=own | (headers or {}), stream=True,
                allow_redirects=False, timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
            ) as answer:  # fmt: skip
                return _Answer(answer.status_code, answer.headers, _json(answer))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = _no_answer(error, urlsplit(url).hostname or "")
    raise failure  # outside the handler: the library's error, which holds the proxy's address, is not chained


def _json(answer: requests.Response) -> object:
    ends, raw = time.monotonic() + ANSWER_SECONDS, b""
    while len(raw) < _ANSWER_BYTES and (chunk := answer.raw.read1(_ANSWER_BYTES, decode_content=True)):
        raw += chunk
        if time.monotonic() > ends:
            raise requests.ReadTimeout
    try:
        return strict_json.loads(raw)
    except ValueError:
        return None


def _no_answer(error: Exception, host: str) -> _NoAnswer:
    cause: object = error.args[0] if error.args else error
    cause = getattr(cause, "reason", None) or cause
    text = str(cause)
    if isinstance(error, requests.exceptions.SSLError) or isinstance(cause, urllib3.exceptions.SSLError):
        found = next((one for one in getattr(cause, "args", ()) if isinstance(one, ssl.SSLCertVerificationError)), None)
        words = re.sub(r"[^\w .,'*-]", "", found.verify_message)[:150] if found else "TLS does not work there"
        return _NoAnswer(Code.URL_CERTIFICATE, words)
    if isinstance(error, requests.Timeout):
        return _NoAnswer(Code.URL_UNREACHABLE, f"no answer within {ANSWER_SECONDS:.0f} s; HubSpot waits no longer")
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return _NoAnswer(Code.URL_UNREACHABLE, f"the name {host} is not known")
    if isinstance(cause, urllib3.exceptions.ProxyError):
        return _NoAnswer(Code.URL_UNREACHABLE, "HUBSPOT_HITL_PROXY does not let us through")
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return _NoAnswer(Code.URL_UNREACHABLE, "nobody listens there" if "refused" in text else "no connection")
    return _NoAnswer(Code.URL_UNREACHABLE, "the connection was lost before the answer")
