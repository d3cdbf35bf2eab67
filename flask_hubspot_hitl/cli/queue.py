"""``flask hubspot-hitl worker|tick|retry|handoffs|reconcile|adopt|dead``: the dispatcher and its queue."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import click
from flask.cli import AppGroup, with_appcontext

from ..domain import Handoff
from ..errors import CallPostponed, HubSpotError, NotConfigured
from ..handoffs.hearing import warn_of_unheard
from ..handoffs.history import History
from ..handoffs.looking_back import LookingBack, Suspect, closed_since
from ..handoffs.states import LookBackState, ToCompare
from ..handoffs.words import count, date
from ..ledger import lanes
from ..portals import arrivals
from ..runtime import Runtime
from .common import EVENT_ID, hubspot_id, this_app
from .common import Command as _Command
from .common import app_runtime as _runtime
from .common import progress as _progress
from .common import say as _say
from .tables import table

WORKER_THREADS = 32
COMMAND_LINE = "command line"
"""What the audit says of who typed a command."""
ENDS = {"dead": "given up", "quarantined": "not readable"}
"""What a person reads of an event's end."""


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
    grows = runtime.settings.dispatcher_max_threads is not None  # it has many from the beginning
    runtime.services.fixed_threads = None if grows else count
    dispatcher = runtime.new_dispatcher(threads=count, grows=grows)
    dispatcher.mode, dispatcher.serving = "thread", True
    runtime.dispatcher = dispatcher  # what a receiver sends is seen at once
    asked = _count_signals()
    warn_of_unheard(this_app())
    dispatcher.ensure_started()
    click.echo(f"Dispatching with {count} threads. Stop with Ctrl-C or SIGTERM.")
    while not asked:
        time.sleep(0.1)
    # A receiver that takes longer than this counts as hung.
    finished: list[bool] = []
    ender = threading.Thread(target=lambda: finished.append(dispatcher.stop(runtime.settings.handler_timeout)))
    ender.daemon = True
    ender.start()
    click.echo("Finishing what is being worked on; once more stops at once.")
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
    click.echo(f"Dispatched what was due in {count(dispatcher.tick(), 'queue')}.")


@click.command(cls=_Command)
@with_appcontext
def retry() -> None:
    """Try again now what waits for its next attempt, once what made it fail is mended."""
    runtime = _runtime()
    ledger, done = runtime.ledger, 0
    with ledger.read() as tx:
        found = tx.queue.waiting(now=ledger.now_ms())
    with _progress("Trying again", hidden=False) as at:
        for number, key in enumerate(found, start=1):
            with ledger.write() as tx:  # one at a time: webhooks and users are not kept waiting
                done += tx.queue.hasten(key, now=ledger.now_ms())
            at(number, len(found))
    runtime.dispatcher.wake()
    click.echo(f"{count(done, 'queue')} will be tried again now." if done else "Nothing waits for its next attempt.")


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
    headers = ("Opened (UTC)", "State", "Conversation", "Contact", "Agent", "Thread", "Reason")
    rows = [
        (date(one.opened_at), one.state, one.conversation_id, one.name, _agent(one), one.thread_id, one.reason)
        for one in found
    ]
    _say(facts, as_json, table(headers, rows, wraps=("Conversation",)) if rows else ["No handoffs yet."])


def _agent(one: Handoff) -> str | None:
    return None if one.operator is None else one.operator.name or one.operator.actor_id


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
    lines = [f"{count(threads, 'thread')} compared, {read} read in full, {count(fed, 'missed event')} queued."]
    _say({"threads": threads, "read": read, "events": fed, "failed": failed}, as_json, lines)
    for first in failed:
        if "portal_id" in first:
            raise click.ClickException(
                f"The threads of portal {first['portal_id']} could not be listed: {first['error']}"
            )
        raise click.ClickException(
            f"{count(len(failed), 'thread')} could not be read; the first, {first['thread_id']}: {first['error']}"
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
    runtime = _runtime()
    with runtime.ledger.read() as tx:
        found = tx.dead_events()
    more = _count_dead(runtime) - len(found)
    headers = ("Event", "Received (UTC)", "Kind", "What became of it", "Thread", "Error")
    rows = [
        (one["id"], date(one["received_at"]), one["topic"], ENDS[one["state"]], one["thread_id"], one["error"])
        for one in found
    ]
    _say(found, as_json, table(headers, rows, wraps=("Error",)) if rows else ["Nothing was given up."])
    if more > 0:
        click.echo(f"Not shown: {count(more, 'older event')}.", err=True)


@dead.command("show", cls=_Command)
@click.argument("event_id", type=EVENT_ID)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def dead_show(event_id: int, as_json: bool) -> None:
    """Show one such event, with its content and what each receiver did."""
    with _runtime().ledger.read() as tx:
        found = tx.dead_event(event_id)
    if found is None:
        raise click.ClickException(f"No event {event_id} was given up; see 'flask hubspot-hitl dead list'.")
    click.echo(json.dumps(found, indent=2, default=str))


def _count_dead(runtime: Runtime) -> int:
    with runtime.ledger.read() as tx:
        facts = tx.status(now=runtime.ledger.now_ms())
    return int(facts["dead"] + facts["quarantined"])


def _dead_ids(runtime: Runtime) -> Iterator[int]:
    """Return the ids of all such events, the newest first."""
    before: int | None = None
    while True:
        with runtime.ledger.read() as tx:
            found = [one["id"] for one in tx.dead_events(before=before)]
        yield from found
        if not found:
            return
        before = found[-1]


@dead.command("retry", cls=_Command)
@click.argument("event_ids", type=EVENT_ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
def dead_retry(event_ids: tuple[int, ...], everything: bool) -> None:
    """Try such events again; receivers that accepted an event are not called again."""
    runtime = _runtime()
    if not event_ids and not everything:
        raise click.UsageError("Name the events to retry, or give --all.")
    failed: list[int] = []
    done = 0
    with _progress("Retrying", hidden=False) as at:
        total = _count_dead(runtime) if everything else len(event_ids)
        for event_id in _dead_ids(runtime) if everything else event_ids:
            with runtime.ledger.write() as tx:  # one at a time: webhooks and users are not kept waiting
                is_done = tx.retry_dead(event_id, now=runtime.ledger.now_ms(), who=COMMAND_LINE)
            done += is_done
            failed += [] if is_done else [event_id]
            at(done + len(failed), total)
    runtime.dispatcher.wake()
    click.echo(f"{count(done, 'event')} will be tried again.")
    if failed and everything:
        click.echo(f"{len(failed)} could not be read when they came, and can't be tried again.", err=True)
    elif failed:
        raise click.ClickException(f"Not dead: {', '.join(map(str, failed))}.")


@dead.command("discard", cls=_Command)
@click.argument("event_ids", type=EVENT_ID, nargs=-1, required=True)
def dead_discard(event_ids: tuple[int, ...]) -> None:
    """Take such events off the list; nothing is sent, and nobody is told."""
    runtime = _runtime()
    with runtime.ledger.write() as tx:
        now = runtime.ledger.now_ms()
        failed = [one for one in event_ids if not tx.discard_dead(one, now=now, who=COMMAND_LINE)]
    click.echo(f"{count(len(event_ids) - len(failed), 'event')} taken off the list.")
    if failed:
        raise click.ClickException(f"Not dead: {', '.join(map(str, failed))}.")
