"""Puts the extension on an app: settings, database, routes, commands, and a dispatcher that starts when it may."""

from __future__ import annotations

from collections.abc import Collection

from flask import Flask

from . import servers
from .cli import group
from .clock import Clock, SystemClock
from .config import Settings
from .runtime import KEY, MayInstall, open_runtime
from .views import create_blueprint, exempt_from_csrf


def install(app: Flask, clock: Clock | None, may_install: MayInstall | None, serving_commands: Collection[str]) -> None:
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
        dispatcher.serve(start=not app.testing)

    @app.teardown_appcontext
    def rest(_error: BaseException | None) -> None:
        runtime.ledger.rest()

    if settings.dispatcher == "thread":
        servers.prepare(dispatcher, serving_commands)
