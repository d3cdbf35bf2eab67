"""``python -m flask_hubspot_hitl.simulator --port N``: serve the stand-in until SIGTERM or SIGINT."""

from __future__ import annotations

import _thread
import argparse
import ipaddress
import json
import logging
import os
import re
import signal
import sys
import threading
from types import FrameType

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from .app import create_app
from .engine.chaos import MEANINGS, Chaos
from .engine.recording import Recording
from .engine.simulation import Simulation
from .model.errors import ApiError

STOP_SECONDS = 0.05
"""Seconds at most until a stand-in that was told to stop takes no more requests."""


class QuietHandler(WSGIRequestHandler):
    """Serve without logging requests: ``/_sim/requests`` has them."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def is_loopback(host: str) -> bool:
    """Return True when an address to listen on can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port(text: str) -> int:
    """Read a port to listen on, from the command line."""
    if not re.fullmatch("[0-9]{1,5}", text, re.ASCII) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def stop_with_stdin() -> None:
    """Return at once; end this process when standard input ends, as it does when a parent has died."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def serve_until_told(server: BaseWSGIServer, first_line: str, *, with_stdin: bool) -> None:
    """Say where the stand-in is, and serve until SIGTERM or SIGINT, or until standard input ends."""

    def stop(number: int, frame: FrameType | None) -> None:
        # No exception: one that falls into a weak reference's callback is lost, and we would go on for ever. And no
        # ``threading.Thread``: the main thread may just be starting one, with a lock that a second needs as well.
        _thread.start_new_thread(server.shutdown, ())

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(first_line, flush=True)
    if with_stdin:
        stop_with_stdin()
    server.serve_forever(poll_interval=STOP_SECONDS)


def main(arguments: list[str] | None = None, *, prog: str = "python -m flask_hubspot_hitl.simulator") -> int:
    """Parse the command line, and serve until SIGTERM.

    :param arguments: what follows the command's name; by default the process's own.
    :param prog: the command's name, for its help.
    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog=prog, description="The stand-in for HubSpot: serves until SIGTERM or Ctrl-C.")
    parser.add_argument("--port", type=port, default=0, help="the port to listen on; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--control-token", help="asked for on /_sim/*; needed with an address others can reach")
    parser.add_argument("--allow-host", action="append", default=[], help="a further name it is reached by")
    parser.add_argument(
        "--chaos",
        action="append",
        default=[],
        metavar="KEY=VALUE,…",
        help="switches to begin with and to go back to on a reset; `--chaos help` lists them",
    )
    parser.add_argument(
        "--deliver",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="connect to TO for webhook URLs that begin with FROM; what is signed stays the registered URL",
    )
    parser.add_argument("--record", metavar="FILE", help="write every API call and delivery, without secrets")
    parser.add_argument("--redact-text", action="store_true", help="with --record: without what people wrote, too")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    if options.chaos == ["help"]:
        print(
            "\n".join(f"{name}={json.dumps(value)}\n    {MEANINGS[name]}" for name, value in Chaos().values().items())
        )
        return 0
    if not is_loopback(options.host) and not options.control_token:
        parser.error("--host other than loopback needs --control-token")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        sim = Simulation(control_token=options.control_token, chaos=options.chaos, deliver=options.deliver)
    except (ApiError, ValueError) as problem:
        parser.error(str(problem))
    sim.allowed_hosts = frozenset(name.lower() for name in options.allow_host)
    if options.record:
        try:
            sim.recording = Recording(options.record, redact_text=options.redact_text)
        except OSError as problem:
            parser.error(f"--record {options.record}: {problem.strerror}")
    server = make_server(options.host, options.port, create_app(sim), threaded=True, request_handler=QuietHandler)
    name = options.allow_host[0] if options.allow_host else options.host
    shown = f"[{name}]" if ":" in name else name
    sim.base_url = f"http://{shown}:{server.server_port}"

    first_line = f"HubSpot stand-in: {sim.base_url}/  (settings: {sim.base_url}/_sim/env)"
    serve_until_told(server, first_line, with_stdin=options.stop_with_stdin)
    if sim.recording is not None:
        with sim.lock:
            sim.recording.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
