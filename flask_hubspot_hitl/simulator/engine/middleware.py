"""Around every request: the log of ``/_sim/requests``, the lock, and the faults that chaos asks for.

A WSGI middleware, because only here an answer can be thrown away, or the connection cut, after the fact.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import time
import uuid
from collections.abc import Iterable
from contextlib import nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from ...hubspot import strict_json
from ..model.errors import error_body
from ..model.world import JSON, now_ms
from .chaos import Fault
from .traffic import Traffic

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .simulation import Simulation

logger = logging.getLogger(__name__)

MAX_BODY = 50 * 1024 * 1024
CONTROL = ("/_sim", "/_control")  # routes of the stand-in's own, for programs
OWN_FOLDERS = (*CONTROL, "/static", "/hubfs")  # with all that is below them
# the stand-in's own, for a browser; below them may be API, such as /settings/teams/2026-09-beta
OWN_PAGES = frozenset({"", "/favicon.ico", "/connect", "/connected", "/settings", "/projects"})
STREAMS = ("/_sim/desk/live", "/listen")  # they never end, so they are neither held back nor served under the lock
PAGES = re.compile(r"/oauth/([^/]+/)?authorize")  # a person's browser: no fault happens by chance
# these deliver while they run: the host must be able to call back meanwhile
WITHOUT_LOCK = (
    "/_sim/deliver",
    "/_sim/deliveries",
    "/_sim/workflow",
    "/_sim/desk/wire",
    "/_sim/hitl-api",
    "/_sim/studio",
)


class Middleware:
    """Wraps the Flask app of a simulation."""

    def __init__(self, app: WSGIApplication, sim: Simulation, *, traffic: Traffic | None = None) -> None:
        self._app = app
        self._sim = sim
        self._traffic = traffic or Traffic(None)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            body = read_body(environ)
        except ValueError as problem:
            status = 413 if "large" in str(problem) else 400
            return json_response(error_body(status, str(problem)), status)(environ, start_response)
        path = "/" + quote(environ.get("PATH_INFO", "/").encode("latin-1").lstrip(b"/"), safe="/:@!$&'()*+,;=~-._")
        if path.endswith(STREAMS):
            return self._app(environ, start_response)
        if is_own(path):
            return self._run(environ, path)(environ, start_response)
        return self._serve_api(environ, start_response, path, body)

    def _run(self, environ: WSGIEnvironment, path: str) -> Response:
        free = any(path == prefix or path.startswith(f"{prefix}/") for prefix in WITHOUT_LOCK)
        with nullcontext() if free else self._sim.lock:
            return Response.from_app(self._app, environ, buffered=True)

    def _serve_api(
        self, environ: WSGIEnvironment, start_response: StartResponse, path: str, body: bytes
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        with self._sim.lock:
            chaos = self._sim.chaos  # a reset makes new ones
            fault = None if PAGES.fullmatch(path) else chaos.fault_for(method, path)
            latency = chaos.latency
        if latency:
            time.sleep(latency)
        entry: JSON = {
            "method": method,
            "path": path,
            "query": parsed_query(environ),
            "request_headers": dict(Request(environ).headers.items()),
            "request_body": parsed_request(environ, body),
            "at": now_ms(),
        }
        mode = fault.mode if fault else ""
        with self._sim.lock:
            if self._sim.chaos is not chaos:  # a reset: what was asked of the world before must not change this one
                cut(environ)
            answer = self._run(environ, path) if mode not in ("status", "drop") else None
        if fault is not None:
            entry["fault"] = mode
            if answer is not None:
                entry["applied_status"] = answer.status_code
            if mode in ("status", "status_after"):
                answer = fault_response(fault)
        # what was cut off before it ran has no status; 503 stands for it, so that the entry stays a valid record
        shown = answer if answer is not None else json_response(error_body(503, "connection cut"), 503)
        entry["status"] = shown.status_code
        entry["response_body"] = parsed_response(shown)
        with self._sim.lock:
            if self._sim.chaos is chaos:
                self._sim.log_call(entry)
            self._traffic.keep(entry)
        if mode in ("drop", "drop_after"):
            cut(environ)
        if mode == "delay" and fault is not None:
            time.sleep(fault.seconds)
        said = entry["response_body"]
        correlation_id = said.get("correlationId") if isinstance(said, dict) else None
        shown.headers["X-HubSpot-Correlation-Id"] = correlation_id or str(uuid.uuid4())
        return shown(environ, start_response)


def is_own(path: str) -> bool:
    """Whether a path is one of the stand-in's own pages, controls and files, and none of the API it stands in for."""
    return path.rstrip("/") in OWN_PAGES or any(path == one or path.startswith(f"{one}/") for one in OWN_FOLDERS)


def read_body(environ: WSGIEnvironment) -> bytes:
    """Read the request's body and put it back; raises ValueError when it can't be read or is too large."""
    length = environ.get("CONTENT_LENGTH") or ""
    if environ.get("wsgi.input_terminated"):
        try:
            body = environ["wsgi.input"].read(MAX_BODY + 1)
        except OSError:
            raise ValueError("the body could not be read") from None
    elif not length:
        body = b""
    elif not (length.isascii() and length.isdigit() and len(length) < 12):
        raise ValueError("bad Content-Length")
    elif int(length) > MAX_BODY:
        raise ValueError("the body is too large")
    else:
        body = environ["wsgi.input"].read(int(length))
        if len(body) < int(length):
            raise ValueError("the body ended early")
    if len(body) > MAX_BODY:
        raise ValueError("the body is too large")
    environ["wsgi.input"] = BytesIO(body)
    environ["wsgi.input_terminated"] = True
    environ["CONTENT_LENGTH"] = str(len(body))
    return bytes(body)


def json_response(body: JSON, status: int) -> Response:
    """A JSON answer."""
    return Response(json.dumps(body), status, content_type="application/json")


def fault_response(fault: Fault) -> Response:
    """The error a fault asks for; some of HubSpot's edges answer with HTML or nothing.

    Source: docs/hubspot.rst (Limits and errors; Error bodies).
    """
    answer = json_response(error_body(fault.status, f"The stand-in answers {fault.status} as told"), fault.status)
    if fault.body != "json":
        page = f"<html><body><h1>{fault.status}</h1></body></html>" if fault.body == "html" else ""
        answer = Response(page, fault.status, content_type="text/html; charset=utf-8")
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = f"{fault.retry_after:g}"
    return answer


def cut(environ: WSGIEnvironment) -> None:
    """Close the connection without an answer."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            logger.debug("the client had gone already")
    raise ConnectionAbortedError("cut by chaos")


def parsed_query(environ: WSGIEnvironment) -> JSON:
    """The query, each value as text, or as a list when given more than once."""
    raw = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True, errors="replace")
    return {name: values[0] if len(values) == 1 else values for name, values in raw.items()}


def parsed_request(environ: WSGIEnvironment, body: bytes) -> Any:
    """A request body for the log: JSON parsed, multipart as its fields, else text."""
    if not body:
        return None
    content_type = environ.get("CONTENT_TYPE", "").lower()
    if "multipart/form-data" in content_type:
        again = Request({**environ, "wsgi.input": BytesIO(body)})
        try:
            fields: JSON = dict(again.form.items())
            fields |= {name: f"<{part.filename}>" for name, part in again.files.items()}
        except (HTTPException, ValueError):
            return f"<{len(body)} bytes>"
        finally:
            again.close()
        return fields
    return as_json_or_text(body, content_type)


def parsed_response(answer: Response) -> Any:
    """A response body for the log."""
    body = answer.get_data()
    return as_json_or_text(body, answer.content_type or "") if body else None


def as_json_or_text(body: bytes, content_type: str) -> Any:
    """Parsed when it is JSON, text when it is text."""
    if "json" in content_type:
        try:
            return strict_json.loads(body, parse_constant=float)
        except ValueError:
            pass
    elif not any(word in content_type for word in ("text", "form", "xml")):
        return f"<{len(body)} bytes>"
    return body.decode("utf-8", "replace")
