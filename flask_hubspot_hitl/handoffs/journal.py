"""Read HubSpot's journal again and again, and ask the token of each portal that it tells of.

One event is the timer, in a lane of its own: whoever leases the lane polls, and the place in the journal is stored in
the transaction that stores what was read (docs/rules.rst F1).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from ..dispatch.tasks import Again, CallingTask, Done, Effect, Outcome, Retry, outage
from ..errors import HubSpotRejected, HubSpotUnavailable, NotConfigured, TokenRevoked, WrongPortal
from ..hubspot.journal import REMOVED, Entry, JournalCalls, OffsetGone, Page, Unreadable
from ..hubspot.tokens import RefreshingToken
from ..hubspot.transport import deadline
from ..ledger import Event, Lease, State, Transaction
from ..ledger.states import stored
from ..portals import journal
from ..portals.clients import Services
from ..portals.journal import Place

logger = logging.getLogger(__name__)

SECONDS = 30.0
"""Seconds that one look, with a file of the journal, may take."""
IN_A_ROW = 100
"""Files that are read without a pause: a journal that goes in a circle must not keep a thread."""
TRIES = 5
"""Tries to read a file before it is passed over."""
REFUSED_MS = 300_000
"""Milliseconds to the next look after HubSpot has refused one."""
ASK_AGAIN_MS = (20_000, 60_000, 300_000)
"""Milliseconds to the next question, when a portal's token still works that has removed the app."""


@dataclass(slots=True, kw_only=True, eq=False)
class PollState(State):
    """Hold what is known of the looks since the last pause."""

    files: int = field(default=0, metadata=stored("files"))
    tries: int = field(default=0, metadata=stored("tries"))
    """How often the file that comes next could not be read."""


class JournalTask(CallingTask):
    """Read the journal as a timer, again and again: one file in each run, then a pause when there is nothing newer."""

    def __init__(self, services: Services) -> None:
        super().__init__(services.ledger)
        self._services = services
        self._settings = services.settings

    def limits_starts(self, event: Event) -> bool:
        """Go on however often the process was killed: a look that is repeated does no harm."""
        return True

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Read the next file; the outcome's effect stores the place and what was read together."""
        if not self._settings.journal:
            return Done()
        with self._ledger.read() as tx:
            place = journal.load(tx)
        with deadline(SECONDS):
            outcome = self._look(event.state(PollState), self._services.journal(), place, now)
        event.attempts = 0
        return outcome

    def _look(self, state: PollState, calls: JournalCalls, place: Place, now: int) -> Outcome:
        ask_all, offset = place.may_miss(now), place.offset_for(now)
        try:
            entry = calls.following(offset)
        except OffsetGone:
            logger.info("HubSpot's journal has lost our place: it is read anew, and every portal's token is asked")
            return self._pause(state, replace(place.read(now), offset=None), now, ask_all=True)
        if entry is None or entry.offset == offset:
            return self._pause(state, place.read(now), now, ask_all=ask_all)
        page = self._page(state, calls, entry)
        if page is None or not page.is_whole:
            logger.warning("A file of HubSpot's journal can't be read whole; every portal's token is asked instead")
            ask_all = True
        return self._on(state, place.after(entry, page, now), page, now, ask_all=ask_all)

    def _pause(self, state: PollState, place: Place, now: int, *, ask_all: bool) -> Outcome:
        state.files = state.tries = 0
        effect = self._storing(place, None, now, ask_all=ask_all)
        return Retry("until the next look", at_ms=now + journal.EVERY_MS, effect=effect, is_planned=True)

    def _page(self, state: PollState, calls: JournalCalls, entry: Entry) -> Page | None:
        """Read a file; None when it is given up."""
        try:
            return calls.read(entry)
        except Unreadable:
            state.tries += 1
            if state.tries < TRIES:
                raise
            return None

    def _on(self, state: PollState, place: Place, page: Page | None, now: int, *, ask_all: bool) -> Outcome:
        """Go on to the next file at once, but for a pause after many."""
        state.tries = 0
        state.files += 1
        effect = self._storing(place, page, now, ask_all=ask_all)
        if state.files < IN_A_ROW:
            return Again(effect)
        state.files = 0
        return Retry("a pause after many files", at_ms=now + journal.EVERY_MS, effect=effect, is_planned=True)

    def _storing(self, place: Place, page: Page | None, now: int, *, ask_all: bool) -> Effect:
        asking = place.asking(now) if ask_all else place

        def effect(tx: Transaction) -> None:
            journal.save(tx, asking)
            if ask_all:
                journal.put_all(tx, self._settings, at=asking.asked_at or now, now=now)
            if page is not None:
                journal.put(tx, page.events, now=now)

        return effect

    def unavailable(self, event: Event, error: HubSpotUnavailable, now: int) -> Outcome:
        """Look again after a back-off; what has been read stays read."""
        return replace(outage(error, now), effect=_noting(error, is_refused=False))

    def refused(self, event: Event, error: Exception) -> Outcome:
        """Look again in some minutes; warn once."""
        with self._ledger.read() as tx:
            was_refused = journal.load(tx).is_refused
        if not was_refused:
            logger.warning(
                "HubSpot refuses its journal (%s): removed apps are noticed at the next call only. It is asked again "
                "every %d minutes without further warnings; see 'flask hubspot-hitl doctor' (HH417)",
                error,
                REFUSED_MS // 60_000,
            )
        at_ms = self._ledger.now_ms() + REFUSED_MS
        return Retry(str(error), at_ms=at_ms, effect=_noting(error, is_refused=True))


def _noting(error: Exception, *, is_refused: bool) -> Effect:
    """Return the effect of storing why the journal can't be read, for doctor."""

    def effect(tx: Transaction) -> None:
        place = journal.load(tx)
        journal.save(tx, replace(place, problem=str(error), is_refused=is_refused or place.is_refused))

    return effect


@dataclass(slots=True, kw_only=True, eq=False)
class AskState(State):
    """Hold how often a portal's token has been found to work."""

    asked: int = field(default=0, metadata=stored("asked"))


class LifecycleTask(CallingTask):
    """Ask HubSpot whether a portal's token still works: that alone decides, and tells whoever listens."""

    refusals = (HubSpotRejected, WrongPortal)

    def __init__(self, services: Services) -> None:
        super().__init__(services.ledger)
        self._services = services

    def limits_starts(self, event: Event) -> bool:
        """Go on however often the process was killed: a question that is repeated does no harm."""
        return True

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Ask, unless the answer is known."""
        portal_id, action = str(event.portal_id), journal.action_of(event.payload)
        with self._ledger.read() as tx:
            is_asked = journal.is_asked(tx, self._services.settings, portal_id, action)
        if not is_asked:
            return Done()
        with deadline(SECONDS):
            self._ask(portal_id)
        state = event.state(AskState)
        if action != REMOVED or state.asked >= len(ASK_AGAIN_MS):
            return Done()
        state.asked += 1  # it has been installed again since, or HubSpot takes its time
        return Retry("the token works still", at_ms=now + ASK_AGAIN_MS[state.asked - 1], is_planned=True)

    def _ask(self, portal_id: str) -> None:
        """Call HubSpot with the access token, and with one that HubSpot makes now: the old one may live out its time.

        What a refused token means is stored, and told, by whoever provides it.
        """
        client = self._services.client(portal_id)
        client.account_info()
        if isinstance(client.tokens, RefreshingToken):
            client.tokens.refresh(client.tokens.token())
            client.account_info()

    def unavailable(self, event: Event, error: HubSpotUnavailable, now: int) -> Outcome:
        """Know a token that HubSpot refuses for good as told; ask later when HubSpot does not answer."""
        return Done() if isinstance(error, TokenRevoked) else super().unavailable(event, error, now)

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """Leave a portal alone that there is no token for any more."""
        return Done()

    def refused(self, event: Event, error: Exception) -> Outcome:
        """Take any other answer of HubSpot's for a token that works."""
        return Done()
