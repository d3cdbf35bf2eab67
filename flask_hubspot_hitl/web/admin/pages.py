"""The admin's pages: what goes on, the handoffs, one handoff's timeline, dead letters, portals, the audit."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from flask import abort, redirect, request
from flask.globals import app_ctx
from werkzeug.wrappers import Response as AnyResponse

from ..._version import __version__
from ...domain import Handoff, HandoffState
from ...handoffs import overview, timeline
from ...handoffs.words import count, date, span
from ...runtime import get_runtime
from ..pages import HEADERS
from .access import check_form, who
from .shown import Button, Cell, Search, Table, show

PAGE = 50
"""Rows of a page."""
MOST_ID = 2**63 - 1
"""The highest id that a database holds."""
TONES = {
    "given up": "bad",
    "not readable": "bad",
    "failed": "bad",
    "revoked": "bad",
    "waits": "odd",
    "held back": "odd",
    "queued": "odd",
    "starting": "odd",
    "waiting": "odd",
    "done": "good",
    "delivered": "good",
    "read": "good",
    "assigned": "good",
    "active": "good",
}
"""How a state looks."""
ENDS = {"dead": "given up", "quarantined": "not readable"}
STATES = (("", "Any state"), (timeline.OPEN, "Open"), *((one.value, one.value.capitalize()) for one in HandoffState))


def overview_page() -> AnyResponse:
    """Show whether it goes on, what waits, and what is stuck."""
    runtime = get_runtime()
    facts = overview.read(app_ctx.app, runtime.services, runtime.dispatcher, runtime.health)
    said = overview.lines(facts, runtime.settings.dispatcher, runtime.ledger.now_ms())
    lines = [(one.label, _line(one)) for one in said]
    rows = [
        _cells(
            one["class"],
            one["events"],
            span(one["seconds"]),
            span(one["next_seconds"]) if one["next_seconds"] else "",
            one["why"],
        )
        for one in facts["waits"]
    ]
    headers = ("Class", "Events", "Oldest for", "Tried again in", "Why")
    queue = Table("Queue", headers, rows, "Nothing waits.")
    return show(runtime, "admin", "Overview", facts=[*lines, ("Version", Cell(__version__))], tables=[queue])


def _line(one: overview.Line) -> Cell:
    if one.see == "dead list":
        return Cell(one.words, link="admin/dead")
    return Cell(one.text(), tone="bad" if one.is_bad else "")


# Handoffs ------------------------------------------------------------------------------------------------------


def handoffs_page() -> AnyResponse:
    """Show the newest handoffs, or those that were looked for."""
    runtime = get_runtime()
    text, state = request.args.get("q", "").strip(), request.args.get("state", "")
    special = runtime.settings.is_stand_in
    with runtime.ledger.read() as tx:
        found = timeline.search(tx, text, state, before=_before(), limit=PAGE + 1, allow_special_domains=special)
    rows = [_handoff_cells(one) for _, one in found[:PAGE]]
    headers = ("Opened (UTC)", "State", "Conversation", "Thread", "Ended (UTC)", "Reason")
    older = ""
    if len(found) > PAGE:
        older = _older("admin/handoffs", found[PAGE - 1][0], q=text, state=state)
    return show(
        runtime,
        "admin/handoffs",
        "Handoffs",
        search=Search(text, state, STATES),
        tables=[Table("Newest first", headers, rows, "There is no such handoff.")],
        older=older,
    )


def _handoff_cells(one: Handoff) -> list[Cell]:
    opened = Cell(date(one.opened_at) or "", link=f"admin/handoffs/{one.id}")
    told = _cells(one.conversation_id, one.thread_id, date(one.closed_at), one.reason)
    return [opened, _state(one.state.value), *told]


def timeline_page(handoff_id: str) -> AnyResponse:
    """Show what happened in one handoff."""
    runtime = get_runtime()
    with runtime.ledger.read() as tx:
        found = timeline.read(tx, handoff_id)
    if found is None:
        abort(404)
    handoff = found.handoff
    facts = [
        ("Conversation", Cell(handoff.conversation_id)),
        ("State", _state(handoff.state.value)),
        ("Portal", Cell(handoff.portal_id)),
        ("Inbox", Cell(handoff.inbox_id or "–")),
        ("Thread", Cell(handoff.thread_id or "–")),
        ("Handoff", Cell(handoff.id)),
        *(("Shown", Cell(f"the newest {timeline.MOST} of each kind")) for _ in range(found.is_cut)),
    ]
    rows = [
        [Cell(date(one.at) or ""), Cell(one.what, link=_dead_link(one.dead_id)), _state(one.state), _listed(one.facts)]
        for one in found.moments
    ]
    tables = [Table("What happened", ("When (UTC)", "What", "State", "More"), rows)]
    if found.others:
        headers = ("Opened (UTC)", "State", "Conversation", "Thread", "Ended (UTC)", "Reason")
        tables.append(Table("Other handoffs of it", headers, [_handoff_cells(one) for one in found.others]))
    return show(runtime, "admin/handoffs", "Conversation", facts=facts, tables=tables)


def _dead_link(event_id: int | None) -> str:
    return "" if event_id is None else f"admin/dead/{event_id}"


# Dead letters --------------------------------------------------------------------------------------------------


def dead_page() -> AnyResponse:
    """Show the events that were given up, or could not be read."""
    runtime, before = get_runtime(), _before()
    with runtime.ledger.read() as tx:
        found = tx.dead_events(PAGE + 1, before=before)
    listed = found[:PAGE]
    rows = [
        [
            Cell(str(one["id"]), link=f"admin/dead/{one['id']}"),
            *_cells(date(one["received_at"]), one["topic"]),
            _state(ENDS[one["state"]]),
            Cell(one["thread_id"] or ""),
            Cell(one["error"] or ""),
        ]
        for one in listed
    ]
    headers = ("Event", "Received (UTC)", "Kind", "What became of it", "Thread", "Error")
    ids = [one["id"] for one in listed if one["state"] == "dead"]
    button = Button("admin/dead", f"Try these {len(ids)} again", {"events": ",".join(map(str, ids))})
    return show(
        runtime,
        "admin/dead",
        "Dead letters",
        news=_news(),
        tables=[Table("Newest first", headers, rows, "Nothing was given up.")],
        buttons=[button] if len(ids) > 1 else [],
        older=_older("admin/dead", listed[-1]["id"]) if len(found) > PAGE else "",
    )


def _news() -> Cell | None:
    """Return what has just been done, by the numbers in the address."""
    again, gone, not_done = (request.args.get(name, type=int) for name in ("again", "gone", "not_done"))
    many, what = (again, "will be tried again") if gone is None else (gone, "taken off the list")
    if many is None or not 0 <= many <= PAGE:
        return None
    if not_done is None or not 0 < not_done <= PAGE:
        return Cell(f"{count(many, 'event')} {what}.", tone="good")
    return Cell(f"{count(many, 'event')} {what}; {not_done} can't be, or somebody has done it.", tone="odd")


def dead_event_page(event_id: int) -> AnyResponse:
    """Show one such event: what became of it, and what each receiver did."""
    runtime = get_runtime()
    with runtime.ledger.read() as tx:
        found = tx.dead_event(event_id) if event_id <= MOST_ID else None
    if found is None:
        abort(404)
    handoff_id = found["handoff_id"]
    facts = [
        ("State", _state(ENDS[found["state"]])),
        ("Received", Cell(f"{date(found['received_at'])} UTC")),
        ("Kind", Cell(found["topic"])),
        ("Portal", Cell(found["portal_id"] or "–")),
        ("Thread", Cell(found["thread_id"] or "–")),
        ("Handoff", Cell(handoff_id or "–", link=f"admin/handoffs/{handoff_id}" if handoff_id else "")),
        ("Failed", Cell(count(found["attempts"], "time"))),
        ("HubSpot's correlation id", Cell(found["correlation_id"] or "–")),
        ("Error", Cell(found["error"] or "–")),
    ]
    rows = [
        _cells(one["receiver"], one["verdict"] or "not yet", one["attempts"], one["error"])
        for one in found["receivers"]
    ]
    receivers = Table("Handlers", ("Handler", "Verdict", "Failed", "Error"), rows, "No handler was called.")
    buttons = [Button("admin/dead", "Try it again", {"events": str(event_id)})] if found["state"] == "dead" else []
    gone = {"events": str(event_id), "do": "discard"}
    buttons.append(Button("admin/dead", "Take it off the list", gone, is_primary=False))
    return show(
        runtime,
        "admin/dead",
        f"Event {event_id}",
        facts=facts,
        tables=[receivers],
        buttons=buttons,
    )


def press() -> AnyResponse:
    """Handle the buttons: have events tried again, or taken off the list, and say how many."""
    runtime = get_runtime()
    check_form(runtime)
    given = request.form.get("events", "").split(",")[:PAGE]
    chosen = sorted({int(one) for one in given if one.isascii() and one.isdecimal() and len(one) <= 19})
    now, by, discards = runtime.ledger.now_ms(), who(), request.form.get("do") == "discard"
    done = 0
    for one in (one for one in chosen if one <= MOST_ID):
        with runtime.ledger.write() as tx:  # each apart: nobody waits, nor do two wait for each other
            done += (tx.discard_dead if discards else tx.retry_dead)(one, now=now, who=by)
    runtime.dispatcher.wake()
    told = {"gone" if discards else "again": done, "not_done": len(given) - done}
    answer = redirect(f"dead?{urlencode(told)}", 303)
    answer.headers.update(HEADERS)
    return answer


# Portals and audit ---------------------------------------------------------------------------------------------


def portals_page() -> AnyResponse:
    """Show the HubSpot accounts: whether they let us in, and how it goes with them."""
    runtime = get_runtime()
    now = runtime.ledger.now_ms()
    with runtime.ledger.read() as tx:
        found = overview.portals(tx, runtime.settings)
    rows = [
        [
            Cell(one.portal_id),
            _state(one.state),
            _listed(
                _given(
                    ("installed", date(one.added_at)),
                    ("revoked", date(one.revoked_at)),
                    ("last call to HubSpot", _ago(one.called_at, now)),
                    ("no calls until", date(one.closed_until) if one.closed_until > now else None),
                    ("inboxes", ", ".join(one.inboxes)),
                    ("scopes", None if one.scopes is None else " ".join(one.scopes)),
                )
            ),
            Cell(one.error or ""),
        ]
        for one in found
    ]
    headers = ("Portal", "State", "More", "Last error of what waits")
    return show(
        runtime,
        "admin/portals",
        "Portals",
        tables=[Table("All", headers, rows, "No portal has installed the app, and none is in the settings.")],
    )


def _ago(at: int | None, now: int) -> str | None:
    return None if at is None else f"{date(at)}, {span(max(0, now - at) / 1000)} ago"


def audit_page() -> AnyResponse:
    """Show what people did by hand."""
    runtime = get_runtime()
    with runtime.ledger.read() as tx:
        found = tx.audit.newest(limit=PAGE + 1, before=_before())
    rows = [
        [
            *_cells(date(one["done_at"]), one["who"] or "not said", one["what"], one["event_id"]),
            Cell(one["handoff_id"] or "", link=f"admin/handoffs/{one['handoff_id']}" if one["handoff_id"] else ""),
        ]
        for one in found[:PAGE]
    ]
    return show(
        runtime,
        "admin/audit",
        "Audit",
        tables=[
            Table("Newest first", ("When (UTC)", "Who", "What", "Event", "Handoff"), rows, "Nothing was done by hand.")
        ],
        older=_older("admin/audit", found[PAGE - 1]["id"]) if len(found) > PAGE else "",
    )


# Shared --------------------------------------------------------------------------------------------------------


def _before() -> int | None:
    """Return the number that a page of older rows begins below; None for the first page, and for nonsense."""
    given = request.args.get("before", "")
    found = int(given) if given.isascii() and given.isdecimal() and len(given) <= 19 else 0
    return found if 0 < found <= MOST_ID else None


def _older(place: str, before: int, **asked: str) -> str:
    kept = {name: value for name, value in asked.items() if value}
    return f"{place}?{urlencode({**kept, 'before': before}, errors='replace')}"


def _cells(*values: object) -> list[Cell]:
    return [Cell("" if one is None else str(one)) for one in values]


def _state(text: str) -> Cell:
    return Cell(text, tone=TONES.get(text, "plain"))


def _listed(facts: Sequence[tuple[str, str]]) -> Cell:
    return Cell("", facts=tuple(facts))


def _given(*facts: tuple[str, str | None]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in facts if value)
