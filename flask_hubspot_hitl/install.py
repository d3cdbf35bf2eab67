"""Puts the extension on an app: settings, database, routes, commands, and a dispatcher that starts when it may."""

from __future__ import annotations

import os
import sys
import threading

import click
from flask import Flask

from .cli import group
from .clock import Clock, SystemClock
from .config import Settings
from .dispatcher import Dispatcher
from .runtime import KEY, open_runtime
from .views import create_blueprint, exempt_from_csrf


def install(app: Flask, clock: Clock | None) -> None:
    """See :meth:`HubSpotHITL.init_app`."""
    if KEY in app.extensions:
        raise RuntimeError("HubSpotHITL is already on this app; call init_app once.")
    settings = Settings.from_config(app.config)
    runtime = open_runtime(app, settings, clock or SystemClock())
    app.extensions[KEY] = runtime
    app.register_blueprint(create_blueprint(settings), url_prefix=settings.url_prefix)
    app.cli.add_command(group)
    exempt_from_csrf(app)
    dispatcher = runtime.dispatcher
    dispatcher.serving = _is_serving()

    @app.before_request
    def serve() -> None:
        exempt_from_csrf(app)
        dispatcher.serving = True

    if settings.dispatcher == "thread" and dispatcher.serving:
        _start_soon(dispatcher)


def _is_serving() -> bool:
    """False in CLI commands other than ``run``, and in the reloader's parent."""
    context = click.get_current_context(silent=True)
    if context is not None:
        names = set()
        while context is not None:
            names.add(context.info_name)
            context = context.parent
        if "run" not in names:
            return False
        if ("--debug" in sys.argv or "--reload" in sys.argv) and os.environ.get("WERKZEUG_RUN_MAIN") != "true":
            return False
    return True


def _start_soon(dispatcher: Dispatcher) -> None:
    """After a crash the backlog must not wait for the next request; but first let the host connect its handlers.

    A process that has forked by then is a server's master: its children do the work.
    """
    pid = os.getpid()

    def start() -> None:
        if os.getpid() == pid:
            dispatcher.ensure_started()

    timer = threading.Timer(1.0, start)
    timer.daemon = True
    timer.start()
