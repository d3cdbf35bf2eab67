"""``flask hubspot-hitl status``: on one screen whether it goes on, what waits, and what is stuck."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from .._version import __version__
from ..handoffs import overview
from ..handoffs.waits import Facts
from ..handoffs.words import span
from .common import Command, app_runtime, say, this_app
from .tables import fitted, table

LABEL = 14
"""Characters of a label."""


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def status(as_json: bool) -> None:
    """Show what waits, what is stuck, and what was given up."""
    runtime = app_runtime()
    facts = overview.read(this_app(), runtime.services, runtime.dispatcher, runtime.health) | {"version": __version__}
    say(facts, as_json, _status_lines(facts, runtime.settings.dispatcher, runtime.ledger.now_ms()))


def _status_lines(facts: Facts, mode: str, now: int) -> list[str]:
    """Return what ``status`` tells a person, on one screen; ``now`` is in epoch ms."""
    lines = [*overview.lines(facts, mode, now), overview.Line("Version", facts["version"])]
    said = [(one.label, click.style(one.text(), fg="red") if one.is_bad else one.text()) for one in lines]
    told = [fitted(f"{name:<{LABEL}}{words}", indent=LABEL) for name, words in said]
    if not facts["waits"]:
        return told
    headers = ("Class", "Events", "Oldest for", "Tried again in", "Why")
    rows = [
        (
            one["class"],
            one["events"],
            span(one["seconds"]),
            one["next_seconds"] and span(one["next_seconds"]),
            one["why"],
        )
        for one in facts["waits"]
    ]
    return [*told, "", *table(headers, [[cell or None for cell in row] for row in rows], wraps=("Why",))]
