"""Define what the tasks of a handoff remember of an event between runs, and what an event tells its task.

A state is stored in the event's column ``progress``, what an event tells in ``payload``. Fields without a key belong to
one run: ``prepare`` leaves them for ``run``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..clock import to_datetime, to_ms
from ..domain import Author, Message, Operator
from ..hubspot.events import Kind
from ..ledger import HandoffRecord, State, Topic
from ..ledger.codec import operator_from_json, operator_to_json, parts_from_json, parts_to_json
from ..ledger.plans import Decided
from ..ledger.states import Codec, Facts, stored
from .receivers import Receiver

LOOK_MS = 30_000
"""Milliseconds that a handoff's end, or an assignment timeout, waits for HubSpot to be readable (docs/rules.rst B9)."""

# Signals -------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Receipt:
    """Hold how far one receiver is with one event."""

    verdict: str | None = None
    """``accepted``, ``refused`` or ``dead``; None while the receiver is to be called (again)."""
    starts: int = 0
    """Calls that have not come back."""
    attempts: int = 0
    error: str | None = None
    not_before: int = 0
    """Epoch ms before which it is not called again; 0: at any time."""


def _receipts_to_json(receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    return {
        receiver: {"verdict": one.verdict, "starts": one.starts, "attempts": one.attempts, "error": one.error}
        | ({"not_before": one.not_before} if one.not_before else {})
        for receiver, one in receipts.items()
    }


def _receipts_from_json(value: Mapping[str, Mapping[str, Any]]) -> dict[str, Receipt]:
    names = Receipt.__slots__
    return {receiver: Receipt(**{name: one[name] for name in names if name in one}) for receiver, one in value.items()}


@dataclass(slots=True, kw_only=True, eq=False)
class SignalState(Decided):
    """Hold how far an event's signals are, for ``emission``."""

    step: int = field(default=0, metadata=stored("step"))
    """Which step of the plan is being sent."""
    receipts: dict[str, Receipt] = field(
        default_factory=dict, metadata=stored("receipts", Codec(_receipts_to_json, _receipts_from_json))
    )
    """How far each receiver is, by step, signal, module:qualname and ordinal."""
    unheard: bool = field(default=False, metadata=stored("unheard"))
    """A signal that must be heard was given up, because no receiver is connected to it."""
    unheard_since: int | None = field(default=None, metadata=stored("unheard_since"))
    """Epoch ms."""
    delays: int = field(default=0, metadata=stored("delays"))
    """Times in a row that a receiver's service was down."""
    delayed_since: int | None = field(default=None, metadata=stored("delayed_since"))
    """Epoch ms."""

    record: HandoffRecord | None = field(default=None)
    """The handoff as the plan left it, when that was decided in this run."""
    receivers: tuple[int, list[tuple[str, Receiver]]] | None = field(default=None)
    """The receivers of a step, with the names of their receipts."""
    begun: tuple[str, Receiver] | None = field(default=None)
    """The receiver whose start is stored."""
    tried: set[str] = field(default_factory=set)
    """The receivers that were called in this run, and those whose time has not come."""
    later: set[str] = field(default_factory=set)
    """The receivers whose time has not come."""
    values: dict[str, Any] | None = field(default=None)
    """The keywords that the current step's receivers get."""
    raised: str | None = field(default=None)
    """The first receiver that failed in this run, by the name of its receipt."""
    not_asked: str | None = field(default=None)
    """Why a receiver's service was not asked in this run, in words of ours."""
    is_planned: bool = field(default=False)
    """That its time had not come yet, and nothing is amiss."""

    def forget_verdicts(self) -> None:
        """Have every receiver called again that has not accepted or refused the event."""
        self.step = self.delays = 0
        self.unheard = False
        self.unheard_since = self.delayed_since = None
        self.receipts = {name: one for name, one in self.receipts.items() if one.verdict != "dead"}

    def verdicts(self) -> list[dict[str, Any]]:
        """Return what each receiver said, as ``dead show`` prints it."""
        return [
            {"receiver": receiver, "verdict": one.verdict, "attempts": one.attempts, "error": one.error}
            for receiver, one in sorted(self.receipts.items())
        ]


@dataclass(slots=True, kw_only=True, eq=False)
class LookState(SignalState):
    """Hold since when an event waits for HubSpot to be readable before it is decided."""

    waiting_since: int | None = field(default=None, metadata=stored("waiting_since"))
    """Epoch ms of the first try."""

    def next_look(self, now: int) -> int | None:
        """Return the epoch ms of the next try after one that failed; None once LOOK_MS have passed."""
        self.waiting_since = since = now if self.waiting_since is None else self.waiting_since
        return min(now + 5_000, since + LOOK_MS) if now - since < LOOK_MS else None


# What HubSpot told us ------------------------------------------------------------------------------------

SOURCE = "reconcile"
"""Value of a payload's ``source`` when it was read from HubSpot: it needs no further check there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Hold what an event of HubSpot's tells: a message as HubSpot's JSON, or the new value of a thread's property."""

    value: str | None = None
    hint: bool = False
    """The webhook proved less than it should (v1): only what HubSpot answers is believed."""
    is_read: bool = False
    """It was read from the thread, together with all that comes before it."""
    entry: str | None = None
    """Where in the thread's history it was read."""
    message: Mapping[str, Any] | None = None
    """HubSpot's object, unchecked."""
    channel: Any = None
    """HubSpot's ``channelId``, unchecked."""
    integration_threads: Any = None
    """HubSpot's ``channelIntegrationThreadIds``, unchecked."""

    @classmethod
    def from_json(cls, value: Any) -> Told:
        """Return what a payload tells; nothing when it was erased."""
        given: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        return cls(
            value=given.get("value"),
            hint=bool(given.get("hint")),
            is_read=given.get("source") == SOURCE,
            entry=given.get("entry"),
            message=given.get("message"),
            channel=given.get("channelId"),
            integration_threads=given.get("channelIntegrationThreadIds"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what is stored of an event that is no webhook's message; such a one is stored as it came."""
        read = {"source": SOURCE, "entry": self.entry} if self.is_read else {"hint": self.hint}
        return {"value": self.value, **read} if self.message is None else {"message": self.message, **read}

    @property
    def channel_id(self) -> str | None:
        """The channel that a message came through."""
        found = self.channel or (self.message or {}).get("channelId")
        return None if found is None else str(found)

    @property
    def account_id(self) -> str | None:
        """The channel account that a message came through."""
        found = (self.message or {}).get("channelAccountId")
        return None if found is None else str(found)


_SAID = ("message_id", "text", "html")


def _message_to_json(message: Message) -> dict[str, Any]:
    return {
        **{name: getattr(message, name) for name in _SAID},
        "attachments": parts_to_json(message.attachments, message.choices),
        "operator": operator_to_json(message.operator),
        "created_at": message.created_at and to_ms(message.created_at),
    }


def _message_from_json(value: Mapping[str, Any]) -> Message:
    files, choices = parts_from_json(value["attachments"])
    return Message(
        **{name: value[name] for name in _SAID},
        author=Author.OPERATOR,
        attachments=files,
        choices=choices,
        operator=operator_from_json(value["operator"]),
        created_at=to_datetime(value["created_at"]),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what the thread itself says, where the event was only a hint."""

    value: str | None


@dataclass(slots=True, kw_only=True, eq=False)
class InboundState(LookState):
    """Hold what was fetched for an event of HubSpot's until it is decided."""

    seen: Seen | None = field(default=None, metadata=stored("value", Codec(lambda seen: seen.value, Seen)))
    operator: Operator | None = field(
        default=None, metadata=stored("operator", Codec(operator_to_json, operator_from_json))
    )
    message: Message | None = field(
        default=None, metadata=stored("message", Codec(_message_to_json, _message_from_json))
    )
    history_is_read: bool = field(default=False, metadata=stored("history"))
    """What no webhook told of the time before the end is in front of it."""
    inbox_id: str | None = field(default=None, metadata=stored("inbox"))
    """Where the thread is that an agent began."""
    is_erased: bool = field(default=False, metadata=stored("erased"))
    """HubSpot does not find the thread, not even among archived ones."""

    told: Told | None = field(default=None)
    """The payload, once it was asked for."""


@dataclass(slots=True, kw_only=True, eq=False)
class TimeoutState(LookState):
    """Hold whether something happened while no dispatcher ran that makes a timer needless."""

    taken: bool | None = field(default=None, metadata=stored("taken"))
    """None until HubSpot was asked."""


@dataclass(slots=True, kw_only=True, eq=False)
class WaitingState(State):
    """Hold whether there is nothing left to wait for; nothing of it is stored."""

    is_over: bool = field(default=False)


@dataclass(slots=True, kw_only=True, eq=False)
class CompareState(State):
    """Hold the handoff that is to be compared with its thread; nothing of it is stored."""

    record: HandoffRecord | None = field(default=None)


@dataclass(slots=True, kw_only=True)
class ListState:
    """Hold how far one of HubSpot's lists was read."""

    since_ms: int | None = None
    """Epoch ms that the list was asked for; a cursor belongs to it."""
    after: str | None = None
    """The cursor of the next page; None on the first."""
    size: int = 0
    """Threads on a page; 0: not known yet."""
    pages: int = 0
    in_vain: int = 0
    """How many pages in a row had no thread that was looked for."""
    is_over: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class LookBackState(State):
    """Hold how far a look at a portal is: one that has to wait for the budget of requests goes on where it was."""

    seen: list[str] = field(default_factory=list, metadata=stored("seen"))
    """The threads that have been dealt with."""
    lists: dict[str, ListState] = field(
        default_factory=dict,
        metadata=stored(
            "lists",
            Codec(
                lambda lists: {name: asdict(one) for name, one in lists.items()},
                lambda value: {name: ListState(**one) for name, one in value.items()},
            ),
        ),
    )
    """By inbox and list."""


# What we owe HubSpot -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """Hold the channel account to publish through, and the delivery identifier it is reached at."""

    id: str
    identifier: dict[str, str]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Account:
        """Return what ``asdict`` gave."""
        return cls(value["id"], value["identifier"])


@dataclass(slots=True, kw_only=True, eq=False)
class OutboundState(State):
    """Hold what is known of a call to HubSpot."""

    is_unsure: bool = field(default=False, metadata=stored("maybe"))
    """An answer was lost, or a run was cut short: HubSpot may have it."""
    first_at: int | None = field(default=None, metadata=stored("first_at"))
    """Epoch ms of the first try to publish."""
    account: Account | None = field(default=None, metadata=stored("account", Codec(asdict, Account.from_json)))
    sender: dict[str, str] | None = field(default=None, metadata=stored("sender"))
    is_refused: bool = field(default=False, metadata=stored("refused"))
    """HubSpot takes no notes: it goes as a message."""
    left_out: dict[str, str] = field(default_factory=dict, metadata=stored("left_out"))
    """Positions of the files that the message goes without, and why; "" when its link is in the text instead."""
    unanswered: tuple[int, int] | None = field(default=None, metadata=stored("unanswered", Codec(list, tuple)))
    """Uploads of the next file that had no answer, and the epoch ms of the first."""

    record: HandoffRecord | None = field(default=None)
    message: Message | None = field(default=None)
    fetch: int | None = field(default=None)
    """Position of the attachment that is to be fetched in this run."""
    upload: tuple[int, bytes | None] | None = field(default=None)
    """Position and content of the attachment that is to be uploaded in this run."""
    is_dropped: bool = field(default=False)
    """The thread is not to be closed any more."""

    @property
    def may_have_happened(self) -> bool:
        """True when HubSpot may have what the event is there for."""
        return self.is_unsure


# What an outbound event tells its task ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToOpen(Facts):
    """Open a thread; ``transcript`` and ``facts`` are put into the first message."""

    transcript: str | None = field(default=None, repr=False)
    facts: str | None = field(default=None, repr=False)
    ticket: dict[str, str] | None = field(default=None, repr=False)
    """What the ticket is to have, once it is there."""


@dataclass(frozen=True, slots=True)
class ToChangeTicket(Facts):
    """Set properties of the thread's ticket."""

    properties: dict[str, str] = field(repr=False)


RATING = "rating"
"""What a note is about that the user's rating is; it is written once a handoff, also after its end."""


@dataclass(frozen=True, slots=True)
class ToNote(Facts):
    """Write a note that only agents see."""

    text: str = field(repr=False)
    about: str = "history"
    """What it is about: each is written once."""
    title: str | None = None
    """Stands above the text, which is a block of its own then."""
    instead: bool = False
    """On the ticket alone: no comment on the thread says it."""
    as_comment: bool = False
    """On the thread alone: the ticket can't have it."""


@dataclass(frozen=True, slots=True)
class ToAssign(Facts):
    """Assign the thread to an agent, or to nobody."""

    actor_id: str | None


@dataclass(frozen=True, slots=True)
class ToPublish(Facts):
    """Publish a user's message, by its row."""

    row: int


@dataclass(frozen=True, slots=True)
class ToClose(Facts):
    """Close the thread, after the farewell if there is one."""

    row: int | None = None


@dataclass(frozen=True, slots=True)
class ToReceipt(Facts):
    """Set SENT on an agent's message, READ, or FAILED with the reason in ``error``."""

    channel_id: str
    message_id: str
    error: str | None = field(repr=False)
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class ToIdle(Facts):
    """Warn of a user's silence, or end the handoff for it."""

    since: int
    """Epoch ms."""
    ends_at: int | None = None
    """Epoch ms of the end; None: the host is to be warned."""


@dataclass(frozen=True, slots=True)
class ToSweep(Facts):
    """Have handoffs compared with HubSpot."""

    at_start: bool = False


@dataclass(frozen=True, slots=True)
class ToLookBack(Facts):
    """Find the handoffs of a portal whose threads have moved."""

    thorough: bool = False
    """Look for what became of closed handoffs, too."""


@dataclass(frozen=True, slots=True)
class ToCompare(Facts):
    """Compare one handoff with its thread."""

    glance: bool = False
    """Read the history only if the thread's own fields differ from what is stored."""
    seen: str | None = None
    """What both sides showed, to be remembered once the thread is read."""


# Which state the events of a topic have ------------------------------------------------------------------

_STATELESS = (Kind.NEW_MESSAGE, Kind.ACCOUNT, Kind.OTHER, Kind.PRIVACY_DELETED)
_KINDS: dict[str, type[State]] = {
    **dict.fromkeys((kind.value for kind in Kind if kind not in _STATELESS), InboundState),
    **dict.fromkeys((Topic.SIGNAL, Topic.ACCOUNT_REMOVED, Topic.INBOX), InboundState),
    **dict.fromkeys((Topic.ASSIGNMENT_TIMEOUT, Topic.IDLE), TimeoutState),
    **dict.fromkeys((Topic.OPEN, Topic.NOTE, Topic.ASSIGN, Topic.PUBLISH, Topic.CLOSE, Topic.RECEIPT), OutboundState),
    **dict.fromkeys((Topic.TICKET, Topic.TICKET_NOTE), OutboundState),
}


def kind_of(topic: str) -> type[State]:
    """Return the state of a topic's events, for the ledger; of other parts' topics it is the one that keeps all."""
    return _KINDS.get(topic, State)
