"""Make one HTTP attempt: bounded in time and size, without redirects, its failures made typed errors.

Of ours it may import ``errors``, ``clock``, ``process`` and neighbours here; no Flask, no database. Nothing here knows
an operation.
"""

from __future__ import annotations

import contextvars
import math
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Protocol, TypeVar

import requests
import urllib3

from ..clock import Deadline, wall_ms
from ..errors import HubSpotConflict, HubSpotError, HubSpotNotFound, HubSpotRejected, HubSpotUnavailable
from ..metrics import CALL, correlation
from ..process import Process, gives_threads_time
from . import addresses, connections, redaction, strict_json
from .addresses import AddressRefused
from .options import ConnectionOptions

#: Seconds that HubSpot can make us wait, at most (its own 477 names up to a day).
MAX_RETRY_AFTER = 86_400.0

_CORRELATION = "X-HubSpot-Correlation-Id"
_CHUNK = 65_536
_SAFE = frozenset({"GET", "HEAD"})
_LATER = frozenset({408, 423, 429, 477})

_T = TypeVar("_T")

deadline = Deadline("hubspot_deadline")
"""Bounds all calls to HubSpot in a block together, in seconds, whatever they are waiting for.

What has no answer by then raises ``HubSpotUnavailable``.
"""


def bounded(call: Callable[[], _T], *, doing: str, safe: bool) -> _T:
    """Run ``call()`` and give it up at the block's deadline; without a deadline simply run it.

    Socket time-outs alone can't promise that: a name look-up has none, and every address of a host that swallows
    packets gets its own. So the call runs in a thread, which ends by itself later.

    :param doing: names the operation in errors.
    :param safe: whether the call only reads: then giving it up is not ambiguous.
    :raises HubSpotUnavailable: when it was given up.
    """
    left = deadline.left()
    if left == math.inf or (left > 0 and not gives_threads_time()):
        return call()  # a thread that is stopped where it stands would keep the locks it has
    if left <= 0:
        raise HubSpotUnavailable(f"{doing}: no time was left to ask HubSpot")
    future: Future[_T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="hubspot-call", daemon=True).start()
    try:
        return future.result(left)
    except TimeoutError:
        pass
    raise HubSpotUnavailable(f"{doing}: no answer from HubSpot in time", ambiguous=not safe)


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what HubSpot answered: the status, the headers and the decoded body, which may be cut when not 2xx."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any] | None:
        """Return the body as a JSON object, or None when it is something else (empty, HTML, a list, NaN)."""
        try:
            value = strict_json.loads(self.body)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


class Availability(Enum):
    """Name what one attempt shows about HubSpot."""

    UP = "up"
    """It answered."""
    BUSY = "busy"
    """It answered that it wants no more requests just now."""
    DOWN = "down"
    """No connection, no answer, or a 5xx."""
    UNKNOWN = "unknown"
    """The attempt ended before HubSpot could answer."""


class Gate(Protocol):
    """Decide whether a request may be sent now. Thread-safe; shared by all that speak to one portal."""

    def enter(self, doing: str) -> Any:
        """Take a permit for one request.

        :raises HubSpotUnavailable: when there is none now; never ambiguous.
        """
        ...

    def leave(self, permit: Any, shown: Availability, retry_after: float | None) -> None:
        """Report how the request went; call it once for each permit.

        :param retry_after: the seconds that HubSpot asked for, if it did.
        """
        ...


class Transport:
    """Hold connections to one base URL. Thread-safe.

    :param gate: asked before every request.
    :param service: the name of the server's owner, for the texts of errors.
    :param secrets: parts of a URL's path that no log may show.
    """

    def __init__(
        self,
        base_url: str,
        options: ConnectionOptions,
        *,
        gate: Gate | None = None,
        service: str = "HubSpot",
        secrets: Iterable[str] = (),
    ) -> None:
        self.base_url = addresses.parse(base_url).url.rstrip("/")
        self._service = service
        self._gate = gate
        self._options = options
        self._clock = options.clock
        self._heard: tuple[str, int] | None = None
        self._connect_timeout, self._read_timeout = options.timeout
        self._session = self._new_session()
        self._process = Process(self._begin_anew)
        redaction.install()
        redaction.hide(self, secrets)

    def _new_session(self) -> requests.Session:
        # Only connecting is repeated here: a request that was sent belongs to the ledger.
        retries = urllib3.Retry(
            total=None,
            connect=1,
            read=0,
            redirect=0,
            status=0,
            other=0,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        given = self._options
        made = connections.session(
            private_hosts=given.private_hosts, proxy=given.proxy, retries=retries, size=given.pool_size
        )
        made.headers["User-Agent"] = "Flask-HubSpot-HITL"
        return made

    def _begin_anew(self) -> None:
        # Two processes on one connection would read each other's answers. The parent's are kept, not closed.
        self._inherited, self._session = self._session, self._new_session()

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def close(self) -> None:
        """Close the idle connections."""
        self._process.check()
        self._session.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        json_body: Any = None,
        form: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Make one attempt; whatever the server answers is returned, 3xx, 4xx and 5xx too.

        :param doing: names the operation in errors ("publishing a message").
        :raises HubSpotUnavailable: without an answer; ``ambiguous`` is False when nothing was sent. A 2xx whose body is
            lost, too slow or too big is ambiguous unless ``method`` only reads.
        """
        self._process.check()
        permit = None if self._gate is None else self._gate.enter(doing)
        shown, retry_after, status = Availability.UNKNOWN, None, "none"
        began, left = time.monotonic(), deadline.left()
        try:
            answer = self._send(method, path, doing, headers, params, json_body, form, files)
            shown, status = _availability(answer.status), str(answer.status)
            self._heard = (answer.headers.get("Date", ""), wall_ms(self._clock))
            retry_after = self._retry_after(answer.headers.get("Retry-After"))
            correlation.hear(_word(answer.headers.get(_CORRELATION)))
            return answer
        except HubSpotUnavailable:
            # When it was the caller who had no time left, HubSpot is not to blame.
            hurried = left < self._read_timeout and time.monotonic() - began >= left * 0.9
            shown = Availability.UNKNOWN if hurried else Availability.DOWN
            raise
        finally:
            self._options.meter(CALL, time.monotonic() - began, status=status)
            if self._gate is not None:
                self._gate.leave(permit, shown, retry_after)

    def _send(
        self,
        method: str,
        path: str,
        doing: str,
        headers: Mapping[str, str] | None,
        params: Mapping[str, Any] | None,
        json_body: Any,
        form: Mapping[str, Any] | None,
        files: Mapping[str, Any] | None,
    ) -> Answer:
        failure: HubSpotUnavailable
        with connections.attempt(min(self._options.attempt_seconds, deadline.left())):
            try:
                request = requests.Request(
                    method,
                    f"{self.base_url}{path}",
                    headers={**self._session.headers, **(headers or {})},
                    params=params,
                    json=json_body,
                    data=form,
                    files=files,
                ).prepare()
                # Without the session, which looks for cookies, redirects and hooks: a quarter of a call's time.
                response = self._session.get_adapter(str(request.url)).send(
                    request,
                    stream=True,
                    timeout=(self._connect_timeout, self._read_timeout),
                    proxies=self._session.proxies,
                )
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                failure = _no_answer(error, doing, self._service, safe=method in _SAFE)
            else:
                with response:
                    return self._read(response, doing, safe=method in _SAFE)
        raise failure  # outside the handler: the library's error, which holds the URL, is not chained

    def _read(self, response: requests.Response, doing: str, *, safe: bool) -> Answer:
        chunks: list[bytes] = []
        size = 0
        problem = None
        try:
            # read1: what has come, at most one wait. A plain read waits on and on for a full chunk.
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                size += len(chunk)
                if size > self._options.max_response_bytes:
                    problem = "the answer is too big"
                elif connections.attempt.left() <= 0:
                    problem = "the answer takes too long"
                if problem:
                    break
                chunks.append(chunk)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            is_late = connections.attempt.left() <= 0
            problem = "the answer takes too long" if is_late else "the connection broke in the middle of the answer"
        status = response.status_code
        if problem and 200 <= status < 300:
            raise HubSpotUnavailable(f"{doing}: {problem}", status=status, ambiguous=not safe)
        return Answer(status, response.headers, b"" if problem else b"".join(chunks))

    def skew_seconds(self) -> float | None:
        """Return the seconds by which this clock is ahead of the server's (negative: behind), to about a second."""
        if self._heard is None:
            return None
        date, now_ms = self._heard
        try:
            return now_ms / 1000 - parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None

    def error(self, answer: Answer, method: str, *, doing: str, secrets: tuple[str, ...] = ()) -> HubSpotError:
        """Return the error that a status other than 2xx stands for.

        :param secrets: blotted out of the server's text.
        """
        status = answer.status
        body = answer.json() or {}
        category = _word(body.get("category") or body.get("errorType") or body.get("status"))
        correlation_id = _word(body.get("correlationId")) or _word(answer.headers.get(_CORRELATION))
        correlation.hear(correlation_id)
        text = f"{doing}: {self._service} answered {status}"
        text += f" {category}" if category else ""
        said = _said(body.get("message"), secrets)
        text += f", “{said}”" if said else ""
        text += f" (correlation id {correlation_id})" if correlation_id else ""
        if status >= 500 or status in _LATER:
            return HubSpotUnavailable(
                text,
                status=status,
                category=category,
                correlation_id=correlation_id,
                ambiguous=(status >= 500 or status == 408) and method not in _SAFE,
                retry_after=self._retry_after(answer.headers.get("Retry-After")),
            )
        kind = {404: HubSpotNotFound, 409: HubSpotConflict}.get(status, HubSpotRejected)
        return kind(text, status=status, category=category, correlation_id=correlation_id)

    def retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Return the seconds that the server asks to wait: ``Retry-After``, else ``RateLimit-Reset`` of a 429."""
        wish = self._retry_after(headers.get("Retry-After"))
        return self._retry_after(headers.get("RateLimit-Reset")) if wish is None else wish

    def _retry_after(self, header: str | None) -> float | None:
        """Return ``Retry-After``, in seconds or as an HTTP date, as seconds from now."""
        if not header:
            return None
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", header.strip()):
            seconds = float(header)
        else:
            try:
                seconds = parsedate_to_datetime(header).timestamp() - wall_ms(self._clock) / 1000
            except (ValueError, TypeError, OverflowError):
                return None
        return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _availability(status: int) -> Availability:
    if status >= 500:
        return Availability.DOWN
    return Availability.BUSY if status in (429, 477) else Availability.UP


def _no_answer(error: Exception, doing: str, service: str, *, safe: bool) -> HubSpotUnavailable:
    """Turn a connection error into HubSpotUnavailable; not ambiguous only if nothing was sent."""
    if isinstance(error, AddressRefused):
        return HubSpotUnavailable(f"{doing}: the address of {service} {error}")
    cause: Any = error.args[0] if error.args else None
    cause = getattr(cause, "reason", None) or cause
    never_sent = isinstance(
        cause,
        (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
            urllib3.exceptions.ProxyError,
        ),
    ) or isinstance(error, (requests.ConnectTimeout, requests.exceptions.InvalidURL))
    if isinstance(cause, urllib3.exceptions.SSLError) and cause.args:
        never_sent = isinstance(cause.args[0], ssl.SSLCertVerificationError)
        if never_sent:
            return HubSpotUnavailable(f"{doing}: {service}'s certificate is not trusted")
    if never_sent:
        return HubSpotUnavailable(f"{doing}: no connection to {service}")
    return HubSpotUnavailable(f"{doing}: the connection was lost before {service} answered", ambiguous=not safe)


def _word(value: object) -> str | None:
    """Return a category or id from an error body if it has the form of one, lest a body write into our logs."""
    return re.sub(r"[^\w.:-]", "", value)[:100] or None if isinstance(value, str) else None


def _said(value: object, secrets: tuple[str, ...]) -> str:
    """Return HubSpot's own explanation, short, on one line, without secrets or anybody's address or number."""
    if not isinstance(value, str):
        return ""
    for secret in secrets:
        value = value.replace(secret, "…") if secret else value
    value = re.sub(r"[^\s@]+@[^\s@]+|\+[0-9][0-9 ().-]{5,}", "…", value[:2000])
    return "".join(c if c.isprintable() else " " for c in value)[:200].strip()
