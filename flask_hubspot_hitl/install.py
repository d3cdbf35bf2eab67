"""Puts the extension on an app: settings, database, routes, commands, and a dispatcher that starts when it may."""

from __future__ import annotations

import os
import threading

import click
from flask import Flask
from flask.cli import run_command
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from .cli import group
from .clock import Clock, SystemClock
from .config import Settings
from .runtime import KEY, MayInstall, open_runtime
from .stacks import stack_of
from .views import create_blueprint, exempt_from_csrf


def install(app: Flask, clock: Clock | None, may_install: MayInstall | None) -> None:
    """See :meth:`HubSpotHITL.init_app`."""
    if KEY in app.extensions:
        raise RuntimeError("HubSpotHITL is already on this app; call init_app once.")
    settings = Settings.from_config(app.config)
    runtime = open_runtime(app, settings, clock or SystemClock())
    runtime.may_install = may_install
    app.extensions[KEY] = runtime
    app.register_blueprint(create_blueprint(settings), url_prefix=settings.url_prefix)
    app.cli.add_command(group)
    exempt_from_csrf(app)
    dispatcher = runtime.dispatcher

    @app.before_request
    def serve() -> None:
        exempt_from_csrf(app)
        dispatcher.serving = True

    if settings.dispatcher == "thread" and _may_serve():
        dispatcher.start_soon(lambda: not _is_reloaders_parent())


def _may_serve() -> bool:
    """False in CLI commands other than ``flask run``, and in the parent of that one's reloader."""
    context = click.get_current_context(silent=True)
    if context is None:
        return True
    while context.command is not run_command:
        if context.parent is None:
            return False
        context = context.parent
    reload = context.params.get("reload")
    return not (get_debug_flag() if reload is None else reload) or is_running_from_reloader()


def _is_reloaders_parent() -> bool:
    """True in the process that only waits for ``app.run(debug=True)``'s reloader."""
    if is_running_from_reloader():
        return False
    return f"{os.sep}werkzeug{os.sep}_reloader.py" in stack_of(threading.main_thread().ident)
