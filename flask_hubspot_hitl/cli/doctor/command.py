"""``flask hubspot-hitl doctor``: what keeps handoffs from working, and what puts it right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from flask.cli import ScriptInfo

from ...errors import ConfigError, LedgerUnavailable, NotConfigured
from ...handoffs.words import count
from ...portals import arrivals
from ...runtime import Runtime, off_of
from ..common import Amount, app_runtime, progress, say, this_app

if TYPE_CHECKING:
    from . import Report


MOST_NAMES = 12
LOOK_SECONDS = 0.5
"""Seconds between two looks for webhooks."""


@click.command()
@click.option("--wait", default=0.0, type=Amount(0, 3600), help="Seconds to wait for webhooks that never came.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def doctor(context: click.Context, wait: float, as_json: bool) -> None:
    """Find what keeps handoffs from working, and what puts it right. Fails when there is an error; changes nothing."""
    from . import explain

    try:
        with context.ensure_object(ScriptInfo).load_app().app_context():
            report = look(as_json=as_json)
            if wait and report.is_unproven:
                _await(app_runtime(), wait, as_json=as_json)
                report = look(as_json=as_json)
    except (ConfigError, LedgerUnavailable, NotConfigured) as error:
        report = explain(error)
    show(report, as_json=as_json)
    if not report.is_well:
        context.exit(1)


def look(*, as_json: bool = False) -> Report:
    """Examine the current app, with a progress bar if it takes a while."""
    from . import examine

    if (off := off_of()) is not None:
        raise off.error()
    app_runtime()
    with progress("Looking", hidden=as_json) as at:
        return examine(this_app(), at)


def _await(runtime: Runtime, seconds: float, *, as_json: bool) -> None:
    """Wait until every webhook has come that an ordinary handoff brings."""
    click.echo("Have somebody take over a conversation in HubSpot, answer, and close it.", err=True)
    clock = runtime.services.clock
    began, waited = clock.now_ms(), 0.0
    with progress("Waiting for webhooks", hidden=as_json) as at:
        while waited < seconds:
            with runtime.ledger.read() as tx:
                if arrivals.last(tx).keys() >= set(arrivals.ORDINARY):
                    return
            clock.sleep(min(LOOK_SECONDS, seconds - waited))
            waited = (clock.now_ms() - began) / 1000
            at(int(min(waited, seconds)), int(seconds) or 1)


def show(report: Report, *, as_json: bool = False) -> None:
    """Print what was found."""
    say(facts(report), as_json, list(lines(report)))


def facts(report: Report) -> dict[str, Any]:
    """Return what was found, for a machine."""
    return {
        "ok": report.is_well,
        "looked_at": report.looked_at,
        "seconds": round(report.seconds, 3),
        "findings": [one.facts() for one in report.findings],
    }


def lines(report: Report) -> Iterator[str]:
    """Return what was found, for a person, and how much it is."""
    from . import Level

    yield from findings(report)
    if report.looked_at:
        names, more = report.looked_at[:MOST_NAMES], len(report.looked_at) - MOST_NAMES
        yield f"Looked at {', '.join(names)}{f' and {more} more' if more > 0 else ''} in {report.seconds:.1f} s."
    levels = [one.level for one in report.findings]
    counts = [count(levels.count(level), str(level)) for level in Level if level in levels]
    yield f"{' and '.join(counts)}." if counts else click.style("All is well.", fg="green")


def findings(report: Report) -> Iterator[str]:
    """Return what was found, for a person."""
    from . import Level

    for one in report.findings:
        where = f"Portal {one.portal_id}: " if one.portal_id else ""
        colour = "red" if one.level is Level.ERROR else "yellow"
        yield f"{click.style(f'{one.code.code} {one.level}', fg=colour, bold=True)}  {where}{one.code.title}"
        yield f"    {one.what}"
        yield f"    Why: {one.code.why}"
        yield f"    Fix: {one.fix}"
        yield ""
