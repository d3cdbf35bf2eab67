"""Serve an app for real, on a port of this machine that is known before the app is made."""

from __future__ import annotations

import socket
import threading

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server


class _QuietHandler(WSGIRequestHandler):
    """Log errors only."""

    def log(self, type: str, message: str, *args: object) -> None:
        if type != "info":
            super().log(type, message, *args)


class Server:
    """Hold a port from the start, and serve an app there once there is one.

    ``url`` is its address without a slash at the end, ``port`` its number.
    """

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        """Without a slash at the end."""
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self, app: Flask) -> None:
        """Serve an app in threads from now on.

        :param app: the app.
        """
        self._listener.listen(128)
        self._server = make_server(
            "127.0.0.1", self.port, app, threaded=True, fd=self._listener.fileno(), request_handler=_QuietHandler
        )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Serve nothing more and give the port back."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(timeout=5)
        self._listener.close()
