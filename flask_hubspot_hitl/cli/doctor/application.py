"""Check what the app itself must have: settings that are known, handlers, a key."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

from ...config import unknown_settings
from ...errors import NotConfigured
from ...handoffs.hearing import unheard
from ...handoffs.words import sentence
from ...runtime import Runtime
from .findings import Code, Finding


def check(app: Flask, runtime: Runtime) -> Iterator[Finding]:
    """Check the app that this command has loaded."""
    for unknown in unknown_settings(app.config):
        yield Code.UNKNOWN_SETTING.found(sentence(unknown))
    for name in unheard(app):
        yield Code.NO_HANDLER.found(f"Nothing is connected to {name}.")
    yield from _check_key(runtime)


def _check_key(runtime: Runtime) -> Iterator[Finding]:
    settings = runtime.settings
    try:
        if runtime.services.cipher() is not None or (settings.portal_id and settings.access_token):
            return
    except NotConfigured as error:
        yield Code.NO_KEY.found(sentence(error))
    else:
        yield Code.NO_KEY.found("Neither the app's SECRET_KEY nor HUBSPOT_HITL_ENCRYPTION_KEY is set.")
