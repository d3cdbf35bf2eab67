"""Serve a stand-in from the command line: its port, and until when. Knows neither HubSpot nor Botpress."""

from __future__ import annotations

import _thread
import argparse
import errno
import os
import re
import signal
import socket
import sys
import threading
from types import FrameType

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

STOP_SECONDS = 0.05
"""Seconds at most until a stand-in that was told to stop takes no more requests."""
BACKLOG = 128
"""How many connections may wait to be taken."""


class QuietHandler(WSGIRequestHandler):
    """Serve without logging requests: ``/_sim/requests`` has them."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def port(text: str) -> int:
    """Read a port to listen on, from the command line."""
    if not re.fullmatch("[0-9]{1,5}", text, re.ASCII) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def listening(host: str, asked: int | None, usual: int) -> socket.socket:
    """Listen where was asked, else on the usual port, else on a free one, which is said on standard error.

    :param host: the address.
    :param asked: the port that the command line names; 0 is any free one.
    :param usual: the port without it.
    :raises OSError: it can't be listened there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, usual if asked is None else asked), family=family, backlog=BACKLOG)
    except OSError as problem:
        if asked is not None or problem.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
    found = socket.create_server((host, 0), family=family, backlog=BACKLOG)
    print(f"Port {usual} is taken, so {found.getsockname()[1]} it is; --port names another.", file=sys.stderr)
    return found


def server_on(listener: socket.socket, host: str, app: Flask) -> BaseWSGIServer:
    """Make the server of a stand-in, in threads, on a socket that listens already."""
    with listener:  # the server holds a copy
        number = listener.getsockname()[1]
        return make_server(host, number, app, threaded=True, request_handler=QuietHandler, fd=listener.fileno())


def serve_until_told(server: BaseWSGIServer, first_lines: str, *, with_stdin: bool) -> None:
    """Say where the stand-in is, and serve until SIGTERM or SIGINT, or until standard input ends."""

    def stop(number: int, frame: FrameType | None) -> None:
        # No exception: one that falls into a weak reference's callback is lost, and we would go on for ever. And no
        # ``threading.Thread``: the main thread may just be starting one, with a lock that a second needs as well.
        _thread.start_new_thread(server.shutdown, ())

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(first_lines, flush=True)
    if with_stdin:
        stop_with_stdin()
    server.serve_forever(poll_interval=STOP_SECONDS)


def stop_with_stdin() -> None:
    """Return at once; end this process when standard input ends, as it does when a parent has died."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
