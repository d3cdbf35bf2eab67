"""Share what the commands of ``flask hubspot-hitl`` have in common."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
from flask import Flask, current_app

from ..errors import ConfigError, LedgerUnavailable, NotConfigured
from ..runtime import Runtime, get_runtime
from .tables import fitted


def app_runtime() -> Runtime:
    """Return the extension's part of the app, or fail with a plain word."""
    try:
        return get_runtime()
    except (NotConfigured, RuntimeError) as error:
        raise click.ClickException(str(error)) from None


def this_app() -> Flask:
    """Return the app itself, which signals go by; ``current_app`` only leads to it."""
    found: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own, typed as the app
    return found


def say(value: Any, as_json: bool, lines: list[str]) -> None:
    """Print ``value`` as JSON, or the lines."""
    click.echo(json.dumps(value, indent=2, default=str) if as_json else "\n".join(map(fitted, lines)))


def when(ms: int) -> str:
    """Return epoch ms as a date and time."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


EVENT_ID = click.IntRange(1, 2**63 - 1)
"""The id of an event, as the database has them."""


def hubspot_id(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    """Check an id of HubSpot's, or several: a whole number that a database can hold."""
    for one in value if isinstance(value, tuple) else [value]:
        if one is not None and not (one.isascii() and one.isdecimal() and len(one) <= 19):
            raise click.BadParameter("must be a number, such as 424242")
    return value


class Amount(click.FloatRange):
    """Accept a number within bounds; ``nan`` is refused, though it is not out of any bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found


class Command(click.Command):
    """Say in a line or two that the database is down or a setting wrong, instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ConfigError, LedgerUnavailable) as error:
            raise click.ClickException(str(error)) from None


@contextlib.contextmanager
def progress(label: str, *, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, once the work has taken more than a second.

    Yields a function that is told, now and then, how much is done and how much there is.
    """
    began = time.monotonic()
    bar: Any = None
    with contextlib.ExitStack() as stack:

        def at(done: int, total: int) -> None:
            nonlocal bar
            if bar is None and not hidden and time.monotonic() - began > 1.0:
                bar = stack.enter_context(click.progressbar(length=total, label=label, file=sys.stderr))
            if bar is not None:
                bar.update(done - bar.pos)

        yield at
