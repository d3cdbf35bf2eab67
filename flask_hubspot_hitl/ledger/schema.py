"""The tables. SQLAlchemy Core, the same on SQLite and PostgreSQL. Imports nothing of ours.

What is changed here needs a new ``VERSION`` and a step in ``migrations``.

One row of ``lane`` is a lock, a timer and a wake-up flag in one: its events are strictly first in, first out.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import sqlalchemy as sa

VERSION = 8
SCHEMA = "hubspot_hitl"
"""Where an app's new tables go on PostgreSQL: apart from its own, which a migration tool takes for all there are."""
metadata = sa.MetaData()

# SQLite only numbers rows by itself for INTEGER PRIMARY KEY; AUTOINCREMENT keeps deleted ids from coming back.
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class EventState(IntEnum):
    """Where an event is. Only PENDING events are ever run."""

    PENDING = 0
    PARKED = 1
    DONE = 2
    DEAD = 3
    QUARANTINED = 4


def _table(name: str, *parts: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    return sa.Table(name, metadata, *parts, **options)


def _texts(*names: str) -> list[sa.Column[str]]:
    """Return columns of text that may be NULL, of which their names tell all."""
    return [sa.Column(name, sa.Text) for name in names]


meta = _table(
    "hitl_meta",
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

lane = _table(
    "hitl_lane",
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("due_at", sa.BigInteger, comment="ms; NULL idle, past: claimable, future: leased or waiting"),
    sa.Column("owner", sa.Text, comment="who holds the lease; NULL when nobody does"),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0", comment="+1 at every claim"),
    sa.Column("wake", sa.BigInteger, nullable=False, server_default="0", comment="+1 at every insert"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0", comment="of the head, in a row"),
    sa.Column("gap", sa.Integer, nullable=False, server_default="0", comment="1: the last event died"),
    sa.Column("hung_since", sa.BigInteger, comment="ms; a receiver runs past HANDLER_TIMEOUT"),
    sa.Column("work", sa.Integer, nullable=False, server_default="1", comment="how urgent: Work of lanes"),
    sa.Column("portal_id", sa.Text, nullable=False, server_default="", comment="'' where it is not known"),
)

event = _table(
    "hitl_event",
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("dedupe_key", sa.Text, nullable=False, unique=True),
    sa.Column("lane", sa.Text, comment="NULL while parked or quarantined"),
    sa.Column("sort_at", sa.BigInteger, nullable=False, comment="ms; HubSpot's time in, accepted-at out"),
    sa.Column("topic", sa.Text, nullable=False),
    *_texts("portal_id", "thread_id", "handoff_id"),
    sa.Column("payload", sa.Text, comment="JSON, ASCII"),
    sa.Column("progress", sa.Text, comment="JSON: what has been done of it, its signals, how far receivers are"),
    sa.Column("state", sa.Integer, nullable=False, server_default="0"),
    sa.Column("starts", sa.Integer, nullable=False, server_default="0", comment="begun and not finished"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0", comment="finished and failed"),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("done_at", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Column("correlation_id", sa.Text, comment="HubSpot's name of the last call that was made for it"),
    sqlite_autoincrement=True,
)

handoff = _table(
    "hitl_handoff",
    sa.Column("seq", _Id, primary_key=True, autoincrement=True, comment="the newest of a conversation wins"),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("conversation_id", sa.Text, nullable=False),
    sa.Column("portal_id", sa.Text, nullable=False),
    sa.Column("inbox_id", sa.Text),
    sa.Column("channel_id", sa.Text, nullable=False),
    sa.Column("account_id", sa.Text, comment="channel account; NULL until the inbox is looked up"),
    sa.Column("integration_thread_id", sa.Text, nullable=False, unique=True),
    sa.Column("thread_id", sa.Text, comment="HubSpot's; NULL while starting"),
    sa.Column("opening_id", sa.Text, comment="HubSpot's id of the first message"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, comment="JSON: the delivery identifier that messages are published from"),
    sa.Column("recipient", sa.Text, comment="JSON: the account's delivery identifier"),
    sa.Column("contact", sa.Text, comment="JSON"),
    *_texts("name", "title", "description"),
    sa.Column("attributes", sa.Text, comment="JSON"),
    sa.Column("operator", sa.Text, comment="JSON"),
    sa.Column("opened_at", sa.BigInteger, nullable=False),
    sa.Column("assigned_at", sa.BigInteger),
    sa.Column("closed_at", sa.BigInteger),
    *_texts("reason", "detail"),
    sa.Column("status_mark", sa.BigInteger, comment="HubSpot's time of the newest status applied"),
    sa.Column("assigned_mark", sa.BigInteger, comment="HubSpot's time of the newest assignment applied"),
    sa.Column("taken_at", sa.BigInteger, comment="HubSpot's time when a person took it first"),
    sa.Column("told_ahead", sa.Integer, comment="the place in the queue that the host was told last"),
    sa.Column("inbox_mark", sa.BigInteger, comment="HubSpot's time of the newest move to another inbox applied"),
    sa.Column("machine", sa.Text, comment="actor id of the bot or AI agent that holds the thread"),
    sa.Column("operators", sa.Text, comment="JSON: who had it or wrote, in this order"),
    sa.Column("answered_at", sa.BigInteger, comment="HubSpot's time when a person wrote first"),
    sa.Column("silent_since", sa.BigInteger, comment="ms; an agent has written and the user not; NULL: not so"),
    sa.Column("idle_warning", sa.BigInteger, comment="ms of silence until the host is warned; NULL: never"),
    sa.Column("idle_timeout", sa.BigInteger, comment="ms of silence until it ends; NULL: never"),
    sqlite_autoincrement=True,
)
sa.Index("hitl_handoff_conversation", handoff.c.conversation_id, handoff.c.seq)
sa.Index("hitl_handoff_account", handoff.c.account_id, handoff.c.channel_id, handoff.c.portal_id)

thread = _table(
    "hitl_thread",
    sa.Column("portal_id", sa.Text, primary_key=True),
    sa.Column("thread_id", sa.Text, primary_key=True),
    sa.Column("handoff_id", sa.Text, nullable=False),
    comment="every thread that a handoff has had; HubSpot may answer a publish with another one",
)

sa.Index("hitl_thread_handoff", thread.c.handoff_id)

erased = _table(
    "hitl_erased",
    sa.Column("key", sa.Text, primary_key=True, comment="a thread, or the id it was opened by; nothing of a person"),
    sa.Column("erased_at", sa.BigInteger, nullable=False, comment="ms"),
    comment="what comes late for these is refused, and not stored",
)

message = _table(
    "hitl_message",
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("handoff_id", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("message_id", sa.Text, nullable=False, comment="the host's for the user's, HubSpot's for agents'"),
    sa.Column("hubspot_id", sa.Text, comment="of one we published; of an agent's, its other id"),
    sa.Column("event_id", _Id, comment="the event that brought or carries it"),
    sa.Column("text", sa.Text, nullable=False, server_default=""),
    sa.Column("html", sa.Text),
    sa.Column("attachments", sa.Text, comment="JSON list"),
    sa.Column("operator", sa.Text, comment="JSON"),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.UniqueConstraint("handoff_id", "author", "message_id"),
    sqlite_autoincrement=True,
)
sa.Index("hitl_message_hubspot", message.c.handoff_id, message.c.hubspot_id)

blob = _table(
    "hitl_blob",
    sa.Column("message_row", _Id, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    comment="a host's attachment until HubSpot has it",
)

# What all processes share about one portal (``buckets``) -----------------------------------------------------

bucket = _table(
    "hitl_bucket",
    sa.Column("portal_id", sa.Text, primary_key=True),
    sa.Column("slots", sa.Text, nullable=False, server_default="{}", comment="JSON: epoch second → requests in it"),
    sa.Column("blocked_until", sa.BigInteger, nullable=False, server_default="0", comment="ms; HubSpot said 429"),
    sa.Column("pauses", sa.Integer, nullable=False, server_default="0", comment="429s in a row"),
    sa.Column("open_until", sa.BigInteger, nullable=False, server_default="0", comment="ms; 0: the circuit is closed"),
    sa.Column("trips", sa.Integer, nullable=False, server_default="0", comment="how often in a row it opened"),
    sa.Column("probe_until", sa.BigInteger, nullable=False, server_default="0", comment="ms; somebody tries"),
)

# Portals, and what is ours in them ---------------------------------------------------------------------------

installation = _table(
    "hitl_installation",
    sa.Column("portal_id", sa.Text, primary_key=True),
    sa.Column("secret", sa.Text, comment="the tokens, encrypted; NULL while there are none"),
    sa.Column("lease_until", sa.BigInteger, nullable=False, server_default="0", comment="ms; somebody refreshes"),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0", comment="+1 at every lease"),
    sa.Column("state", sa.Text, nullable=False, server_default="active", comment="active or revoked"),
    sa.Column("scopes", sa.Text, comment="JSON list; NULL when HubSpot did not tell"),
    sa.Column("inbox_id", sa.Text, comment="the portal's default inbox"),
    sa.Column("added_at", sa.BigInteger, comment="ms of the last install; NULL when the token is configured"),
    sa.Column("revoked_at", sa.BigInteger, comment="ms"),
)

channel = _table(
    "hitl_channel",
    sa.Column("app_id", sa.Text, primary_key=True, comment="a channel belongs to an app, not to a portal"),
    sa.Column("channel_id", sa.Text, nullable=False),
    sa.Column("webhook_url", sa.Text, comment="as last seen at HubSpot"),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

channel_account = _table(
    "hitl_channel_account",
    sa.Column("portal_id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("channel_id", sa.Text, nullable=False),
    sa.Column("inbox_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("identifier", sa.Text, comment="JSON: the delivery identifier"),
    sa.Column("authorized", sa.Integer, nullable=False, comment="0: disabled in HubSpot"),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

once = _table(
    "hitl_once",
    sa.Column("key", sa.Text, primary_key=True, comment="a digest of what may be used once"),
    sa.Column("value", sa.Text, comment="JSON"),
    sa.Column("expires_at", sa.BigInteger, nullable=False, comment="ms"),
)

# What a bridge to another service remembers (``bridges``) --------------------------------------------------------

bridge = _table(
    "hitl_bridge",
    sa.Column("bridge", sa.Text, primary_key=True, comment="which one; its own keys"),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False, comment="JSON, ASCII"),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

# What people did by hand (``audit``) -----------------------------------------------------------------------------

audit = _table(
    "hitl_audit",
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("done_at", sa.BigInteger, nullable=False, comment="ms"),
    sa.Column("who", sa.Text, comment="as the host calls them; NULL: it did not say"),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("event_id", sa.BigInteger, nullable=False),
    sa.Column("handoff_id", sa.Text),
    sqlite_autoincrement=True,
)
sa.Index("hitl_audit_age", audit.c.done_at)

# Written as text, the same on both engines: SQLAlchemy's own way names a dialect, and would load both of them.
ONE: sa.ColumnClause[int] = sa.literal_column("1")
"""A limit that PostgreSQL knows when it plans. Of a parameter it thinks the worst, unless it plans anew for each value,
which then looks cheaper, and takes longer than the statement itself."""
PARTIAL_INDEXES = (
    "CREATE INDEX IF NOT EXISTS hitl_lane_work ON hitl_lane (work, due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS hitl_lane_turn ON hitl_lane (work, portal_id, due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS hitl_event_pending ON hitl_event (lane, sort_at, id) WHERE state = 0",
    "CREATE INDEX IF NOT EXISTS hitl_event_parked ON hitl_event (portal_id, thread_id) WHERE state = 1",
    "CREATE INDEX IF NOT EXISTS hitl_event_done ON hitl_event (done_at) WHERE state = 2",
    "CREATE INDEX IF NOT EXISTS hitl_event_dead ON hitl_event (id) WHERE state >= 3",
    "CREATE UNIQUE INDEX IF NOT EXISTS hitl_handoff_open ON hitl_handoff (conversation_id)"
    " WHERE state IN ('starting', 'waiting', 'assigned')",
    "CREATE INDEX IF NOT EXISTS hitl_handoff_starting ON hitl_handoff (portal_id) WHERE state = 'starting'",
    "CREATE INDEX IF NOT EXISTS hitl_handoff_waiting ON hitl_handoff (portal_id, inbox_id, seq)"
    " WHERE state IN ('starting', 'waiting')",
    "CREATE INDEX IF NOT EXISTS hitl_handoff_taken ON hitl_handoff (portal_id, inbox_id, taken_at)"
    " WHERE taken_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS hitl_handoff_machine ON hitl_handoff (portal_id) WHERE machine IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS hitl_handoff_closed ON hitl_handoff (closed_at) WHERE closed_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS hitl_bridge_age ON hitl_bridge (updated_at)",
)


TABLES = frozenset(metadata.tables) | {"hitl_token", "hitl_receipt"}
"""What they are called, and were called in earlier versions."""


def in_state(state: EventState) -> sa.ColumnElement[bool]:
    """``state = 0`` and the like, spelled out: with a parameter no planner can use a partial index."""
    return event.c.state == sa.literal_column(str(int(state)))


is_given_up = event.c.state >= sa.literal_column("3")
is_starting = handoff.c.state == sa.literal_column("'starting'")
is_waiting = handoff.c.state.in_([sa.literal_column(f"'{state}'") for state in ("starting", "waiting")])
is_open = handoff.c.state.in_([sa.literal_column(f"'{state}'") for state in ("starting", "waiting", "assigned")])
