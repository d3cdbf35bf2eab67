"""What may be said of a run: facts in, counts and faults out. Pure functions; they know no process and no file.

Three times are compared, all of one machine's clock: when HubSpot's side had its 2xx for an event (``acked_at``),
when a receiver bore witness (``at``), and when a kill fell. HubSpot's own time of an event is ``time`` (epoch ms).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

TAKEN_SECONDS = 0.5
"""A busy machine may need this long from the reading of a lane's head to its receiver's line."""
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event of HubSpot's that was answered with 2xx; ``acked_at`` is when for the first time."""

    key: str
    thread: str
    time: int
    acked_at: float
    actor: str | None = None
    """Of an assignment that must be heard unless there is a newer one; None where nothing is known of it."""

    @property
    def kind(self) -> str:
        return self.key.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """A receiver's line."""

    at: float
    life: str
    """Which process."""
    kind: str
    thread: str | None
    conversation: str | None
    time: int | None
    key: str
    actor: str | None = None
    error: str | None = None
    text: str = ""

    @property
    def name(self) -> str:
        """What repeats: one event of HubSpot's, or the fate of one message of the user's."""
        return event_key(self.kind, self.thread, self.time, self.key)


@dataclass(slots=True, kw_only=True)
class Chat:
    """A user's conversation, as the user, HubSpot and the host saw it."""

    id: str
    thread: str | None = None
    accepted: list[str] = field(default_factory=list)
    """Message ids that ``send`` answered True for, in this order."""
    refused: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    """What HubSpot has of the user, in its order."""
    written: list[str] = field(default_factory=list)
    """Ids of what agents wrote."""
    notes: list[str] = field(default_factory=list)
    """What ``note`` answered True for; a call that was repeated after a kill may be two notes, and is here once."""
    noted: list[str] = field(default_factory=list)
    """The notes that HubSpot has."""
    read: list[str] = field(default_factory=list)
    """Ids of agents' messages that the host has shown."""
    seen: list[str] = field(default_factory=list)
    """Ids of agents' messages below which HubSpot says READ."""
    threads: int = 1
    """How many threads HubSpot has for it."""
    here: tuple[bool, str | None] | None = None
    """Open, and with whom, as the host sees it at the end; None when it was not asked."""
    there: tuple[bool, str | None] | None = None
    """The same as HubSpot sees it."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """All that is left of a run."""

    told: Sequence[Told]
    emissions: Sequence[Emission]
    chats: Sequence[Chat]
    kills: Sequence[tuple[float, float]]
    """Beginning and end of each kill."""
    at_once: int
    """How many receivers can run at the same time, in all processes."""
    pending: int
    dead: int
    broken: Sequence[str] = ()
    """What ended the run early, or a part of it."""


@dataclass(slots=True, kw_only=True)
class Verdict:
    """The counts of a run. ``faults`` says what must not be, in words."""

    kills: int
    acknowledged: int = 0
    delivered: int = 0
    superseded: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    repeated: int = 0
    repeats_allowed: int = 0
    late: int = 0
    close_calls: int = 0
    found: int = 0
    never_told: int = 0
    sent: int = 0
    published: int = 0
    handed_back: int = 0
    user_lost: int = 0
    user_doubled: int = 0
    user_out_of_order: int = 0
    on_both_sides: int = 0
    untold: int = 0
    disagree: int = 0
    notes: int = 0
    noted: int = 0
    notes_at_users: int = 0
    read: int = 0
    unseen: int = 0
    pending: int = 0
    dead: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        return {"passed": self.passed, **asdict(self)}


def event_key(kind: str, thread: str | None, time: int | None, key: str = "") -> str:
    """The name of an event: a message's id; of a change, its thread and time."""
    return f"{kind}:{key}" if key else f"{kind}:{thread}:{time}"


def judge(evidence: Evidence) -> Verdict:
    """Count, and find the faults."""
    verdict = Verdict(kills=len(evidence.kills), pending=evidence.pending, dead=evidence.dead)
    _Judge(evidence, verdict).all()
    return verdict


@dataclass(frozen=True, slots=True)
class _Read:
    """An event with HubSpot's time when it was heard first; ``at`` is when it was read at the earliest."""

    line: Emission
    time: int
    at: float


def _reads(lane: Sequence[Emission]) -> list[_Read]:
    """The head of a lane is read after the lane's line before, and not long before its own line."""
    seen: set[str] = set()
    found = []
    before = 0.0
    for one in lane:
        if one.time is not None and one.name not in seen:
            seen.add(one.name)
            found.append(_Read(one, one.time, max(before, one.at - TAKEN_SECONDS)))
        if one.kind != "reopened":  # one event may say that and a second thing
            before = one.at
    return found


class _Judge:
    """One judgement."""

    def __init__(self, evidence: Evidence, verdict: Verdict) -> None:
        self._evidence = evidence
        self._verdict = verdict
        self._told = {one.key: one for one in evidence.told}
        self._lanes: dict[str, list[Emission]] = {}
        for one in evidence.emissions:
            if one.thread is not None:
                self._lanes.setdefault(one.thread, []).append(one)
        self._last_line = {one.life: one.at for one in evidence.emissions}
        self._heard = {one.name for one in evidence.emissions}
        self._read = {thread: _reads(lane) for thread, lane in self._lanes.items()}

    def all(self) -> None:
        for what in self._evidence.broken:
            self._fault(f"the run broke: {what}")
        self._losses()
        for thread, lane in self._lanes.items():
            self._order(self._read[thread])
            self._repeats(lane)
        self._verdict.repeats_allowed = len(self._evidence.kills) * self._evidence.at_once
        if self._verdict.repeated > self._verdict.repeats_allowed:
            self._fault(f"{self._verdict.repeated} repeats, {self._verdict.repeats_allowed} allowed")
        for one in self._evidence.emissions:
            if one.kind == "message" and "note chat-" in one.text:
                self._verdict.notes_at_users += 1
                self._fault(f"a note was told as an agent's message: {one.name}")
        for chat in self._evidence.chats:
            self._chat(chat)
            self._beside(chat)
        if self._evidence.pending:
            self._fault(f"{self._evidence.pending} events still wait")
        if self._evidence.dead:
            self._fault(f"{self._evidence.dead} events are dead")

    def _fault(self, text: str) -> None:
        if len(self._verdict.faults) < SHOWN:
            self._verdict.faults.append(text)

    # From HubSpot ----------------------------------------------------------------------------------------

    def _losses(self) -> None:
        """Every acknowledged message is heard; so is an assignment, unless a newer one was, or it changes nothing."""
        for told in self._told.values():
            self._verdict.acknowledged += 1
            if told.key in self._heard:
                self._verdict.delivered += 1
            elif told.kind == "message" or (told.actor and not self._superseded(told)):
                self._verdict.lost += 1
                self._fault(f"lost: {told.key} of thread {told.thread}, acknowledged at {told.acked_at:.3f}")
            else:
                self._verdict.superseded += 1
        for chat in self._evidence.chats:
            for message_id in chat.written:
                key = event_key("message", None, None, message_id)
                if key not in self._told:
                    heard = key in self._heard
                    self._verdict.found += heard
                    self._verdict.never_told += not heard

    def _superseded(self, told: Told) -> bool:
        """True when a newer assignment was, or may have been, applied before this one was acknowledged."""
        heard = [one for one in self._read.get(told.thread, []) if one.line.kind == "assigned"]
        newer = [self._decided_at(one) for one in heard if one.time > told.time]
        older = max((one for one in heard if one.time < told.time), key=lambda one: one.time, default=None)
        no_change = older is not None and older.line.actor == told.actor
        return no_change or (bool(newer) and told.acked_at >= min(newer))

    def _decided_at(self, one: _Read) -> float:
        """When an event was applied at the earliest: a life that was killed may have done so without being heard."""
        lives = [begin for begin, _ in self._evidence.kills if one.time / 1000 <= begin <= one.line.at]
        return min([one.at, *(end - TAKEN_SECONDS for end in lives)])

    def _order(self, reads: list[_Read]) -> None:
        """An event heard after a newer one is a fault if it was acknowledged before that one's lane was looked at.

        What was acknowledged between the look and the line may have come too late to be seen: a close call.
        """
        newer: list[_Read] = []
        for one in reads:
            newer = [other for other in newer if other.time > one.time]
            if newer:
                told = self._told.get(one.line.name)
                acked_at = told.acked_at if told else float("inf")
                if any(acked_at < other.at for other in newer):
                    self._verdict.out_of_order += 1
                    self._fault(f"out of order: {one.line.name} of thread {one.line.thread} at {one.line.at:.3f}")
                elif any(acked_at < other.line.at for other in newer):
                    self._verdict.close_calls += 1
                else:
                    self._verdict.late += 1
            newer.append(one)

    def _repeats(self, lane: list[Emission]) -> None:
        """A line may come again when its process was killed in between, and nothing newer was heard meanwhile."""
        last: dict[str, int] = {}
        for place, one in enumerate(lane):
            if not one.key and one.time is None:
                continue  # "unassigned" and "reopened" carry nothing to know them by
            if one.name in last:
                first = lane[last[one.name]]
                killed = any(
                    first.at <= end and one.at >= begin and self._last_line[first.life] <= end
                    for begin, end in self._evidence.kills
                )
                between = lane[last[one.name] + 1 : place]
                newer = one.time is not None and any(other.time and other.time > one.time for other in between)
                if killed and not newer:
                    self._verdict.repeated += 1
                else:
                    self._verdict.doubled += 1
                    why = "after a newer one" if newer else "and it was no kill"
                    self._fault(f"doubled: {one.name} of thread {one.thread} at {first.at:.3f} and {one.at:.3f}, {why}")
            last[one.name] = place

    def _beside(self, chat: Chat) -> None:
        """Notes only agents have, and what the host has shown is READ for them."""
        verdict = self._verdict
        verdict.notes += len(chat.notes)
        verdict.noted += len(set(chat.noted))
        if strange := set(chat.noted) - set(chat.notes):
            self._fault(f"notes that nobody wrote: {chat.id}, {sorted(strange)}")
        if shown := [one for one in chat.published if one.startswith("note ")]:
            self._fault(f"notes as the user's messages: {chat.id}, {shown}")
        verdict.read += len(chat.read)
        if unseen := set(chat.read) - set(chat.seen):
            verdict.unseen += len(unseen)
            self._fault(f"shown, but not READ in HubSpot: {chat.id}, {sorted(unseen)}")

    # To HubSpot ------------------------------------------------------------------------------------------

    def _chat(self, chat: Chat) -> None:
        verdict = self._verdict
        verdict.sent += len(chat.accepted)
        there = Counter(chat.published)
        verdict.published += len(there)
        doubles = sum(count - 1 for count in there.values()) + max(0, chat.threads - 1)
        if doubles:
            verdict.user_doubled += doubles
            self._fault(f"doubled in HubSpot: {chat.id}, {[key for key, count in there.items() if count > 1]}")
        place = {key: number for number, key in enumerate(chat.accepted)}
        order = [place[key] for key in chat.published if key in place]
        disorder = sum(a > b for a, b in itertools.pairwise(order))
        if disorder:
            verdict.user_out_of_order += disorder
            self._fault(f"out of order in HubSpot: {chat.id}: {chat.published}")
        for key in chat.accepted:
            failed, delivered = f"failed:{key}" in self._heard, f"delivered:{key}" in self._heard
            verdict.handed_back += failed and key not in there
            if key not in there and not failed:
                verdict.user_lost += 1
                self._fault(f"lost on the way to HubSpot: {key}")
            elif key in there and failed:
                verdict.on_both_sides += 1
                self._fault(f"in HubSpot, but the host was told that it failed: {key}")
            elif key in there and not delivered:
                verdict.untold += 1
                self._fault(f"in HubSpot, but the host was not told: {key}")
        for key in chat.refused:
            if key in there:
                verdict.on_both_sides += 1
                self._fault(f"in HubSpot, but send answered False: {key}")
        if not _agree(chat):
            verdict.disagree += 1
            self._fault(f"{chat.id} (thread {chat.thread}) is {chat.here} here and {chat.there} in HubSpot")


def _agree(chat: Chat) -> bool:
    if chat.here is None or chat.there is None or chat.here[0] != chat.there[0]:
        return chat.here is chat.there is None
    return not chat.here[0] or chat.here[1] == chat.there[1]


def table(verdict: Verdict, facts: Mapping[str, Any]) -> str:
    """The verdict for people; ``facts`` are the run's circumstances."""
    head = ", ".join(f"{name} {value}" for name, value in facts.items())
    rows: list[tuple[str, object, object]] = [
        ("", "from HubSpot", "to HubSpot"),
        ("acknowledged", verdict.acknowledged, verdict.sent),
        ("delivered", verdict.delivered, verdict.published),
        ("superseded before they were due", verdict.superseded, ""),
        ("handed back at the end of a chat", "", verdict.handed_back),
        ("lost", verdict.lost, verdict.user_lost),
        ("doubled", verdict.doubled, verdict.user_doubled),
        ("out of order", verdict.out_of_order, verdict.user_out_of_order),
        (f"repeated after a kill (at most {verdict.repeats_allowed})", verdict.repeated, ""),
        ("came in late", verdict.late, ""),
        ("came in while a newer one was taken", verdict.close_calls, ""),
        ("no webhook told, found by reading", verdict.found, ""),
        ("no webhook told, not found", verdict.never_told, ""),
        ("on both sides, or the host was not told", "", verdict.on_both_sides + verdict.untold),
        ("chats whose state differs from HubSpot's", "", verdict.disagree),
        ("notes: asked for, there, told to users", "", f"{verdict.notes}, {verdict.noted}, {verdict.notes_at_users}"),
        ("agents' messages: shown, not READ", verdict.read, verdict.unseen),
        ("still pending, dead", verdict.pending, verdict.dead),
    ]
    lines = [f"{verdict.kills} kills: {head}"]
    lines += [f"  {name:44} {one!s:>14} {other!s:>12}" for name, one, other in rows]
    lines += [f"FAULT {text}" for text in verdict.faults]
    lines.append("passed" if verdict.passed else "FAILED")
    return "\n".join(lines)


def line(verdict: Verdict, seed: int) -> str:
    """The verdict of one run among many."""
    both = [
        f"{name} {one}/{other}"
        for name, one, other in (
            ("lost", verdict.lost, verdict.user_lost),
            ("doubled", verdict.doubled, verdict.user_doubled),
            ("out of order", verdict.out_of_order, verdict.user_out_of_order),
        )
    ]
    facts = [
        f"seed {seed:2}: {verdict.kills} kills",
        f"{verdict.acknowledged:5} from and {verdict.sent:4} to HubSpot",
        *both,
        f"repeated {verdict.repeated}",
        f"found by reading {verdict.found}",
        "passed" if verdict.passed else f"FAILED: {verdict.faults[0]}",
    ]
    return ", ".join(facts)


def total(verdicts: Sequence[Verdict]) -> Verdict:
    """The counts of several runs together."""
    found = Verdict(kills=0)
    for verdict in verdicts:
        for name, value in asdict(verdict).items():
            setattr(found, name, getattr(found, name) + value)
    return found
