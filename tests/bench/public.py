"""What processes of any version run: an app that is made of public names, and the apps beside which it is held.

It is copied out of here, beside the files of the version that is measured, and imports nothing of ours but the package.
``python bench_app.py counted|profiled FILE`` is what runs without a server: see :func:`main`.
"""

from __future__ import annotations

import base64
import cProfile
import hashlib
import hmac
import io
import json
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask.typing import ResponseReturnValue

PHONE = "+34911222333"
"""Of a contact that the stand-in knows."""


def create_bare() -> Flask:
    """Return the yardstick of what is served: a view that reads the body and answers 204."""
    app = Flask("bare")

    @app.post("/hubspot/webhook")
    def webhook() -> ResponseReturnValue:
        request.get_data()
        return "", 204

    @app.get("/hubspot/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def create_with_database() -> Flask:
    """Return the yardstick of memory: the same, with a pool of SQLAlchemy's, and a query for each request."""
    import sqlalchemy as sa

    app = create_bare()
    url = sa.make_url(os.environ["BENCH_DATABASE_URL"])
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url)

    @app.before_request
    def ask() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))

    return app


def create_app() -> Flask:
    """Return the extension on an app, with receivers that do next to nothing.

    Each signal is one line of ``BENCH_JOURNAL``: when (``time.monotonic``, which all processes share) and of which
    thread. What a host does on its own is asked for by HTTP, at ``/bench``.
    """
    import flask_hubspot_hitl as package
    from flask_hubspot_hitl import HubSpotHITL, message_delivered, operator_assigned

    if not Path(package.__file__).is_relative_to(os.environ["BENCH_FOLDER"]):
        raise RuntimeError(f"{package.__file__} is measured, and not {os.environ['BENCH_FOLDER']}")
    app = Flask("bench")
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    hitl = HubSpotHITL(app)
    journal = os.open(os.environ.get("BENCH_JOURNAL", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(sender: Flask, handoff: Any, **extra: Any) -> None:
        os.write(journal, b"%.6f %s\n" % (time.monotonic(), str(handoff.thread_id).encode()))

    operator_assigned.connect(note, app, weak=False)
    message_delivered.connect(note, app, weak=False)

    @app.post("/bench/start")
    def start() -> dict[str, Any]:
        return {"threads": [hitl.start(one, contact=PHONE).thread_id for one in request.get_json()]}

    @app.post("/bench/send")
    def send() -> dict[str, Any]:
        took = []
        asked = request.get_json()
        for number in range(asked["count"]):
            began = time.perf_counter()
            hitl.send(asked["to"][number % len(asked["to"])], f"message {number}")
            took.append(time.perf_counter() - began)
        return {"seconds": took}

    return app


# Without a server ------------------------------------------------------------------------------------------------


def main() -> int:
    """Run webhooks through an app in this process, after some that warm it up.

    The bodies are read from a file of ``[[warm, …], [counted, …], …]``; each part but the first is looked at by itself.
    What was found is one line of JSON.
    """
    what, path = sys.argv[1:]
    warm, *parts = json.loads(Path(path).read_text())
    prepare = _webhooks(create_app())
    prepare(warm)()
    looks = {"counted": _counted, "profiled": _profiled}
    print(json.dumps(looks[what]([prepare(part) for part in parts])))
    return 0


Run = Callable[[], None]


def _webhooks(app: Flask) -> Callable[[list[str]], Run]:
    """Return what signs webhooks, and returns what posts them to an app."""
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    url = os.environ["HUBSPOT_HITL_PUBLIC_URL"] + "/hubspot/webhook"
    secret = os.environ["HUBSPOT_HITL_CLIENT_SECRET"].encode()

    def environ(body: str) -> dict[str, Any]:
        timestamp = str(time.time_ns() // 1_000_000)
        digest = hmac.new(secret, f"POST{url}{body}{timestamp}".encode(), hashlib.sha256).digest()
        headers: Any = {
            "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
            "X-HubSpot-Request-Timestamp": timestamp,
            "Content-Type": "application/json",
        }
        return EnvironBuilder(path="/hubspot/webhook", method="POST", headers=headers, data=body).get_environ()

    def prepare(bodies: list[str]) -> Run:
        made = [environ(body) for body in bodies]

        def run() -> None:
            for one in made:
                _, status, _ = run_wsgi_app(app, one)
                if not status.startswith("204"):
                    raise RuntimeError(f"a webhook was answered with {status}")

        return run

    return prepare


def _counted(parts: list[Run]) -> None:
    """Have valgrind count; each part but the first ends a dump of callgrind's."""
    _tell_callgrind("--instr=on")
    for number, part in enumerate(parts):
        part()
        _tell_callgrind("--dump=part" if number else "--zero")  # the first is translated code's first run
    _tell_callgrind("--instr=off")


def _tell_callgrind(command: str) -> None:
    subprocess.run(["callgrind_control", command, str(os.getpid())], check=True, capture_output=True, timeout=120)


def _profiled(parts: list[Run]) -> list[dict[str, Any]]:
    """Run each first part by itself and each second one under the profiler.

    Returns seconds of CPU without the profiler, and of each function its file, line, name, calls, own seconds, and the
    same of its callers.
    """
    found = []
    for plain, other in zip(parts[::2], parts[1::2], strict=True):
        began = time.process_time()
        plain()
        took = time.process_time() - began
        profile = cProfile.Profile(time.process_time)
        profile.runcall(other)
        stats: Any = pstats.Stats(profile, stream=io.StringIO())
        functions = [
            [*where, calls, own, [[*by, given[2]] for by, given in callers.items()]]
            for where, (_, calls, own, _, callers) in stats.stats.items()
        ]
        found.append({"seconds": took, "functions": functions})
    return found


if __name__ == "__main__":
    sys.exit(main())
