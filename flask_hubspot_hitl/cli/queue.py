"""``flask hubspot-hitl worker|tick|status|handoffs|reconcile|adopt|dead``: the dispatcher and its queue."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext

from ..errors import CallPostponed, HubSpotError, NotConfigured
from ..handoffs.emission import CORE, unheard, warn_of_unheard
from ..handoffs.history import History
from ..handoffs.looking_back import LookingBack, Suspect, closed_since
from ..handoffs.states import LookBackState, ToCompare
from ..ledger import lanes
from ..portals import arrivals
from ..runtime import Runtime, build_dispatcher, full_processes
from .common import EVENT_ID, hubspot_id
from .common import Command as _Command
from .common import app_runtime as _runtime
from .common import progress as _progress
from .common import say as _say
from .common import when as _when
from .waits import budget_words, budgets, wait_words, waits

WORKER_THREADS = 32
NO_RECEIVER = "no receiver is connected to a core signal; see 'flask hubspot-hitl doctor'"


@click.command(cls=_Command)
@click.option("--threads", default=None, type=click.IntRange(1, 512), help="How many events at once.")
@with_appcontext
def worker(threads: int | None) -> None:
    """Dispatch until SIGTERM; what is being worked on is finished first, a second SIGTERM stops at once."""
    runtime = _runtime()
    most = runtime.settings.most_threads
    count = threads or runtime.settings.dispatcher_threads or min(WORKER_THREADS, most)
    if count > most:
        raise click.UsageError(f"{count} threads are more than HUBSPOT_HITL_DISPATCHER_MAX_THREADS, which is {most}.")
    app: Any = current_app._get_current_object()  # type: ignore[attr-defined]
    grows = runtime.settings.dispatcher_max_threads is not None  # it has many from the beginning
    dispatcher = build_dispatcher(app, runtime.services, threads=count, grows=grows, seldom=runtime.seldom)
    dispatcher.mode, dispatcher.serving = "thread", True
    runtime.dispatcher = dispatcher  # what a receiver sends is seen at once
    asked = _count_signals()
    warn_of_unheard(app)
    dispatcher.ensure_started()
    click.echo(f"Dispatching with {count} threads. Stop with Ctrl-C or SIGTERM.")
    while not asked:
        time.sleep(0.1)
    click.echo("Finishing what is being worked on; once more stops at once.")
    # A receiver that takes longer than this counts as hung.
    finished: list[bool] = []
    ender = threading.Thread(target=lambda: finished.append(dispatcher.stop(runtime.settings.handler_timeout)))
    ender.daemon = True
    ender.start()
    while ender.is_alive() and len(asked) < 2:
        ender.join(0.1)
    if finished != [True]:
        if not finished:
            dispatcher.stop(0)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if finished else 1)  # else the interpreter waits for what was not waited for


def _count_signals() -> list[int]:
    """A list that grows with every SIGTERM and SIGINT; the third one kills.

    The handler does nothing else: it can find the main thread inside any lock.
    """
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        asked.append(number)
        if len(asked) == 2:
            for one in (signal.SIGTERM, signal.SIGINT):
                signal.signal(one, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return asked


@click.command(cls=_Command)
@with_appcontext
def tick() -> None:
    """Dispatch what is due now, once; for cron."""
    dispatcher = _runtime().dispatcher
    reason = dispatcher.blocked()
    if reason is not None:
        raise click.ClickException(f"Nothing is dispatched: {reason}")
    click.echo(f"{dispatcher.tick()} lane(s) run.")


@click.command(cls=_Command)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def status(as_json: bool) -> None:
    """Show what waits, what is stuck, and what was given up."""
    runtime = _runtime()
    now = runtime.ledger.now_ms()
    with runtime.ledger.read() as tx:
        facts = tx.status(now=now)
        facts["waits"] = waits(tx, now)
        facts["budgets"] = budgets(tx, runtime.settings.rate_limit, now)
    facts["full_processes"] = full_processes(facts, runtime.settings)
    facts["nothing_is_dispatched"] = why = _why_nothing(runtime)
    oldest = facts["oldest_pending_seconds"]
    lines = [
        *([f"stopped      nothing is dispatched: {why}"] if why else []),
        f"pending      {facts['pending']}" + (f" (oldest {oldest:.0f} s)" if oldest is not None else ""),
        *(f"waits        {wait_words(one)}" for one in facts["waits"]),
        *(f"budget       {budget_words(one)}" for one in facts["budgets"]),
        f"leased       {facts['leased']}",
        f"parked       {facts['parked']}",
        f"dead         {facts['dead']}",
        f"quarantined  {facts['quarantined']}",
        f"hung         {', '.join(facts['hung_lanes']) or '0'}",
        *(f"full         {one}: all its threads hang" for one in facts["full_processes"]),
        "handoffs     " + (", ".join(f"{name} {count}" for name, count in sorted(facts["handoffs"].items())) or "none"),
    ]
    _say(facts, as_json, lines)


def _why_nothing(runtime: Runtime) -> str | None:
    """Return why no signal reaches anybody, or None."""
    app: Any = current_app._get_current_object()  # type: ignore[attr-defined]
    return runtime.dispatcher.blocked() or (NO_RECEIVER if len(unheard(app)) == len(CORE) else None)


@click.command(cls=_Command)
@click.option("--limit", default=20, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def handoffs(limit: int, as_json: bool) -> None:
    """Show the newest handoffs."""
    with _runtime().ledger.read() as tx:
        found = tx.records.recent(limit)
    facts = [
        {
            "id": one.id,
            "conversation_id": one.conversation_id,
            "thread_id": one.thread_id,
            "state": one.state.value,
            "operator": one.operator.actor_id if one.operator else None,
            "opened_at": one.opened_at,
            "closed_at": one.closed_at,
            "reason": one.reason.value if one.reason else None,
        }
        for one in found
    ]
    lines = [
        f"{one['opened_at']:%Y-%m-%d %H:%M:%S}  {one['state']:<9} thread {one['thread_id'] or '-':<12} "
        f"{one['operator'] or '-':<10} {one['conversation_id']}"
        for one in facts
    ]
    _say(facts, as_json, lines or ["No handoffs yet."])


@click.command(cls=_Command)
@click.option("--thread", "thread_id", default=None, callback=hubspot_id, help="Only this thread of HubSpot's.")
@click.option("--all", "everything", is_flag=True, help="Read every thread, not only those that HubSpot's lists show.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def reconcile(thread_id: str | None, everything: bool, as_json: bool) -> None:
    """Compare handoffs with their threads in HubSpot now, and queue what was missed."""
    runtime = _runtime()
    ledger = runtime.ledger
    looking_back = LookingBack(runtime.services, History(runtime.services))
    with ledger.read() as tx:
        since = closed_since(runtime.settings, ledger.now_ms())
        found = tx.records.to_reconcile(closed_since=since) if thread_id is None else tx.records.of_thread(thread_id)
    if thread_id is not None and not found:
        raise click.ClickException(f"No handoff of ours has the thread {thread_id}.")
    failed: list[dict[str, Any]] = []
    suspects = [Suspect(one, ToCompare()) for one in found]
    read = fed = 0
    reset = lanes.doing.set(lanes.Work.LOOKING_BACK)
    try:
        if thread_id is None and not everything:
            suspects = _suspects(looking_back, sorted({one.handoff.portal_id for one in found}), failed, as_json)
        with _progress("Reading threads", hidden=as_json) as at:
            for done, suspect in enumerate(suspects, start=1):
                try:
                    compared = _patiently(partial(looking_back.compare, suspect.record, suspect.how))
                except (HubSpotError, NotConfigured) as error:
                    failed.append({"thread_id": suspect.record.handoff.thread_id, "error": str(error)})
                else:
                    read += compared.is_read
                    with ledger.write() as tx:
                        fed += looking_back.settle(tx, suspect.record, compared, now=ledger.now_ms())
                at(done, len(suspects))
    finally:
        lanes.doing.reset(reset)
    if fed:
        runtime.dispatcher.wake()
    lost = {one.get("portal_id") for one in failed}
    threads = sum(one.handoff.portal_id not in lost for one in found) - sum("thread_id" in one for one in failed)
    lines = [f"{threads} thread(s) compared, {read} of them read in full, {fed} event(s) fed."]
    _say({"threads": threads, "read": read, "events": fed, "failed": failed}, as_json, lines)
    for first in failed:
        if "portal_id" in first:
            raise click.ClickException(
                f"The threads of portal {first['portal_id']} could not be listed: {first['error']}"
            )
        raise click.ClickException(
            f"{len(failed)} thread(s) could not be read; the first, {first['thread_id']}: {first['error']}"
        )


def _suspects(
    looking_back: LookingBack, portals: list[str], failed: list[dict[str, Any]], as_json: bool
) -> list[Suspect]:
    """Find the handoffs whose threads have moved; a portal that can't be asked is added to ``failed``."""
    suspects: list[Suspect] = []
    for portal_id in portals:
        so_far = LookBackState()

        def look(portal_id: str = portal_id, so_far: LookBackState = so_far) -> None:
            for one in looking_back.at_portal(portal_id, thorough=True, so_far=so_far, told=at):
                suspects.append(one)

        with _progress("Comparing with HubSpot's lists", hidden=as_json) as at:
            try:
                _patiently(look)
            except (HubSpotError, NotConfigured) as error:
                failed.append({"portal_id": portal_id, "error": str(error)})
    return suspects


T = TypeVar("T")


def _patiently(ask: Callable[[], T]) -> T:
    """Ask HubSpot, and wait where there is no budget for it just now: users and agents go first."""
    while True:
        try:
            return ask()
        except CallPostponed as error:
            _runtime().services.clock.sleep(error.retry_after or 1.0)


@click.command(cls=_Command)
@click.option("--also", is_flag=True, help="Keep the databases of before: apps of one name share this instance folder.")
@with_appcontext
def adopt(also: bool) -> None:
    """Make this database ours from now on, whatever was served from it before, and wherever the app was served from."""
    runtime = _runtime()
    if not runtime.ledger.find():
        runtime.ledger.create()
    runtime.deployment.remember(runtime.ledger.deployment_id, also=also)
    with runtime.ledger.write() as tx:
        before = tx.get_meta("public_url")
        arrivals.serve(tx, runtime.settings.public_url)
    click.echo(f"Adopted for {runtime.settings.public_url[0]} (before: {(before or 'nothing').split()[0]}).")


@click.group(cls=AppGroup)
def dead() -> None:
    """Show and retry events that were given up."""


@dead.command("list", cls=_Command)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def dead_list(as_json: bool) -> None:
    """List the events that were given up or could not be read, newest first."""
    with _runtime().ledger.read() as tx:
        found = tx.dead_events()
    lines = [
        f"{one['id']:>8}  {_when(one['received_at'])}  {one['state']:<11} {one['topic']:<18} "
        f"thread {one['thread_id'] or '-':<12} {one['error'] or ''}"
        for one in found
    ]
    _say(found, as_json, lines or ["Nothing was given up."])


@dead.command("show", cls=_Command)
@click.argument("event_id", type=EVENT_ID)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def dead_show(event_id: int, as_json: bool) -> None:
    """Show one such event, with its content and what each receiver did."""
    with _runtime().ledger.read() as tx:
        found = tx.dead_event(event_id)
    if found is None:
        raise click.ClickException(f"No event {event_id} was given up; see 'flask hubspot-hitl dead list'.")
    _say(found, as_json, [json.dumps(found, indent=2, default=str)])


@dead.command("retry", cls=_Command)
@click.argument("event_ids", type=EVENT_ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
def dead_retry(event_ids: tuple[int, ...], everything: bool) -> None:
    """Try such events again; receivers that accepted an event are not called again."""
    runtime = _runtime()
    if not event_ids and not everything:
        raise click.UsageError("Name the events to retry, or give --all.")
    failed = []
    with runtime.ledger.write() as tx:
        chosen = [one["id"] for one in tx.dead_events(limit=100_000)] if everything else list(event_ids)
        for event_id in chosen:
            if not tx.retry_dead(event_id, now=runtime.ledger.now_ms()) and not everything:
                failed.append(event_id)
    runtime.dispatcher.wake()
    click.echo(f"{len(chosen) - len(failed)} event(s) will be tried again.")
    if failed:
        raise click.ClickException(f"Not dead: {', '.join(map(str, failed))}.")
