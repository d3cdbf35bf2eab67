"""Say for each column of each table what it holds of a person: by this table people are exported and erased.

Nothing here runs a statement. A column that is missing here fails a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from . import schema


class Holds(Enum):
    """What of a person a column holds."""

    OURS = auto()
    """Nothing: how far our work is, and what is the app's or the portal's."""
    FACT = auto()
    """When and how: times, states, ids of HubSpot's and random ones of ours. Exported."""
    PERSON = auto()
    """Who it is: names, numbers, addresses, and ids of the host's, which may hold them. Exported."""
    WORDS = auto()
    """What was said, written or sent. Exported."""
    COPY = auto()
    """Words and names once more, for as long as there is work with them. Not exported a second time."""
    AGENT = auto()
    """Another person: the agent, or who runs the app. Goes with the row; not exported."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Say what one table's columns hold."""

    columns: Mapping[str, Holds]
    called: str | None = None
    """What its rows are called in an export; None for a table without rows of a person."""


def _columns(**names: str) -> dict[str, Holds]:
    return {name: Holds[kind] for kind, given in names.items() for name in given.split()}


HOLDINGS: Mapping[str, Holding] = {
    schema.meta.name: Holding(_columns(OURS="name value")),
    schema.lane.name: Holding(  # the lanes of bridges are named for the host's users
        _columns(PERSON="key", OURS="due_at work portal_id owner fence wake failures gap hung_since")
    ),
    schema.event.name: Holding(
        _columns(
            FACT="id topic portal_id thread_id handoff_id received_at correlation_id",
            PERSON="lane dedupe_key",
            WORDS="payload",
            COPY="progress error",
            OURS="sort_at state starts attempts done_at",
        ),
        "events",
    ),
    schema.handoff.name: Holding(
        _columns(
            FACT="id portal_id inbox_id thread_id opening_id state opened_at assigned_at taken_at answered_at "
            "closed_at reason",
            PERSON="conversation_id sender contact name",
            WORDS="title description attributes detail",
            AGENT="operator operators",
            OURS="seq channel_id account_id integration_thread_id recipient status_mark assigned_mark told_ahead "
            "inbox_mark machine silent_since idle_warning idle_timeout",
        ),
        "handoffs",
    ),
    schema.thread.name: Holding(_columns(FACT="portal_id thread_id handoff_id"), "threads"),
    schema.erased.name: Holding(_columns(OURS="key erased_at")),
    schema.message.name: Holding(
        _columns(
            FACT="handoff_id author hubspot_id created_at status error",
            PERSON="message_id",
            WORDS="text html attachments",
            AGENT="operator",
            OURS="id event_id",
        ),
        "messages",
    ),
    schema.blob.name: Holding(_columns(FACT="message_row position", WORDS="content"), "files"),
    schema.bucket.name: Holding(
        _columns(OURS="portal_id slots blocked_until pauses open_until trips probe_until"),
    ),
    schema.installation.name: Holding(
        _columns(OURS="portal_id secret lease_until fence state scopes inbox_id added_at revoked_at")
    ),
    schema.channel.name: Holding(_columns(OURS="app_id channel_id webhook_url updated_at")),
    schema.channel_account.name: Holding(
        _columns(OURS="portal_id account_id channel_id inbox_id name identifier authorized updated_at")
    ),
    schema.once.name: Holding(_columns(PERSON="key value", FACT="expires_at"), "remembered"),
    schema.audit.name: Holding(_columns(FACT="done_at what event_id handoff_id", AGENT="who", OURS="id"), "audit"),
    schema.bridge.name: Holding(_columns(FACT="bridge updated_at", PERSON="key", WORDS="value"), "bridges"),
}

EXPORTED = (Holds.FACT, Holds.PERSON, Holds.WORDS)


def exported(table: str) -> list[str]:
    """Return the columns of a table that an export has, in the table's order."""
    held = HOLDINGS[table].columns
    return [name for name in schema.metadata.tables[table].columns.keys() if held[name] in EXPORTED]  # noqa: SIM118
