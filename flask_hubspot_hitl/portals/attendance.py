"""Find out whether a live agent is there for an inbox: by HubSpot's users, or by business hours alone.

What HubSpot told is known for seconds, in each process. What can't be found out is "not known", and never "closed".
Source: docs/hubspot.rst (Availability); docs/rules.rst J1.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

from ..clock import to_datetime
from ..config import PREFIX, Settings
from ..domain import Availability, AvailabilityReason
from ..errors import HubSpotError, HubSpotNotFound, HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot.client import HubSpotClient
from ..hubspot.fields import PERSON
from ..hubspot.hours import ALWAYS, Hours, read_line, read_zone
from ..hubspot.staff import User
from ..hubspot.transport import deadline
from ..ledger import Ledger, lanes
from ..ledger.lanes import Work

logger = logging.getLogger(__name__)

SECONDS = 2.5
"""Seconds that HubSpot is waited for, at most, in one question."""
KNOWN_MS = 15_000
"""Milliseconds that an answer of HubSpot's is known."""
FAILED_MS = 5_000
"""Milliseconds that HubSpot is not asked again after a failure."""
TEAM_MS = 300_000
"""Milliseconds that the members of a team are known."""
LEARNED_FROM = 500
"""Handoffs of an inbox that are looked at for who answers there, at most."""
LISTED_MS = 600_000
"""Milliseconds after which all users are listed again for one who was not among them."""
INBOXES = 1_000
"""Inboxes of a portal that are remembered."""
TEAM = "team:"


class _Nobody(Exception):
    """Nobody is known who answers in the inbox."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """Hold what HubSpot told of an inbox's members."""

    users: tuple[User, ...]
    reason: AvailabilityReason | None
    """Why nothing is known; None when the users are."""
    began: float
    """Monotonic seconds when it began to be asked."""
    at: int
    """Epoch ms."""


@dataclass(slots=True)
class _Portal:
    """Hold what is known of one portal, and whose turn it is to ask."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    answers: dict[str | None, _Answer] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    """User id → id of the CRM object."""
    everybody: frozenset[str] = frozenset()
    """The ids of all users' CRM objects."""
    listed_at: int | None = None
    teams: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def object_of(self, member: str) -> str | None:
        """Return the CRM object of a user, by an id of either domain."""
        return self.objects.get(member, member if member in self.everybody else None)


class Attendance:
    """Tell who is there, for one app in one process.

    :param client: gives the client that calls HubSpot for a portal.
    """

    def __init__(self, settings: Settings, ledger: Ledger, client: Callable[[str], HubSpotClient]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._lock = threading.Lock()
        self._portals: dict[str, _Portal] = {}

    def read(self, portal_id: str, inbox_id: str | None, *, fresh: bool = False) -> Availability:
        """Return whether anybody is there for an inbox.

        :param inbox_id: None: an inbox that HubSpot does not tell.
        :param fresh: ask HubSpot now; else what it told within the last :data:`KNOWN_MS` milliseconds will do.
        :raises NotConfigured: when ``AVAILABILITY`` is none, or there is no token for the portal.
        :raises LedgerUnavailable: when the database can't be read.
        """
        how = self._settings.availability
        if how == "none":
            raise NotConfigured(f"{PREFIX}AVAILABILITY is none: set it to hubspot, or to hours with BUSINESS_HOURS")
        business = business_hours(self._settings)
        if how == "hours":
            return judge_hours(business or Hours(zone=ZoneInfo("UTC")), self._ledger.now_ms())
        answer = self._answer(portal_id, inbox_id, fresh=fresh)
        if answer.reason is not None:
            return Availability(None, reason=answer.reason)
        return judge(answer.users, business, self._ledger.now_ms())

    def _answer(self, portal_id: str, inbox_id: str | None, *, fresh: bool) -> _Answer:
        client, asked = self._client(portal_id), time.monotonic()
        with self._lock:
            portal = self._portals.setdefault(portal_id, _Portal())
        known = portal.answers.get(inbox_id)
        if known is not None and not fresh and _is_recent(known, self._ledger.now_ms()):
            return known
        with deadline(SECONDS), _live():
            if not portal.lock.acquire(timeout=deadline.left()):
                return _Answer((), AvailabilityReason.UNREACHABLE, asked, self._ledger.now_ms())
            try:
                known = portal.answers.get(inbox_id)
                if known is not None and (
                    known.began >= asked or (not fresh and _is_recent(known, self._ledger.now_ms()))
                ):
                    return known  # somebody else has asked meanwhile
                return self._ask(client, portal, portal_id, inbox_id)
            finally:
                portal.lock.release()

    def _ask(self, client: HubSpotClient, portal: _Portal, portal_id: str, inbox_id: str | None) -> _Answer:
        """Ask HubSpot, and remember the answer; the caller has the portal's turn."""
        began, users = time.monotonic(), tuple[User, ...]()
        reason: AvailabilityReason | None = None
        try:
            users = tuple(self._users(client, portal, self._members(client, portal, portal_id, inbox_id)))
        except _Nobody:
            reason = AvailabilityReason.NO_MEMBERS
        except (HubSpotRejected, HubSpotUnavailable, ValueError) as error:
            lacks = isinstance(error, HubSpotError) and error.category == "MISSING_SCOPES"
            reason = AvailabilityReason.NOT_GRANTED if lacks else AvailabilityReason.UNREACHABLE
            if portal.answers.get(inbox_id, _UNASKED).reason is not reason:
                logger.warning(
                    "Portal %s does not tell who is available (%s); until it does, handoffs go on as if that were not "
                    "known. See 'flask hubspot-hitl doctor'",
                    portal_id,
                    error,
                )
        if len(portal.answers) >= INBOXES:
            portal.answers.clear()
        portal.answers[inbox_id] = answer = _Answer(users, reason, began, self._ledger.now_ms())
        return answer

    # Who answers in an inbox -----------------------------------------------------------------------------

    def _members(self, client: HubSpotClient, portal: _Portal, portal_id: str, inbox_id: str | None) -> list[str]:
        """Return the ids of who answers in an inbox: as set, else as seen."""
        wanted = set_members(self._settings.inbox_members, inbox_id)
        if not wanted:
            with self._ledger.read() as tx:
                seen = tx.inboxes.operators(portal_id, inbox_id, limit=LEARNED_FROM)
            wanted = [one for one in seen if one.startswith(PERSON)]
        members: list[str] = []
        for one in wanted:
            if one.startswith(TEAM):
                members += self._team(client, portal, one.removeprefix(TEAM))
            else:
                members.append(one.removeprefix(PERSON))
        if not members:
            raise _Nobody
        return list(dict.fromkeys(members))

    def _team(self, client: HubSpotClient, portal: _Portal, team_id: str) -> list[str]:
        now = self._ledger.now_ms()
        at, members = portal.teams.get(team_id, (0, []))
        if not 0 <= now - at < TEAM_MS:
            members = client.team_members(team_id)
            portal.teams[team_id] = now, members
        return members

    def _users(self, client: HubSpotClient, portal: _Portal, members: Sequence[str]) -> list[User]:
        """Return the users of these ids, which may be of either domain: by their objects, once those are known."""
        now = self._ledger.now_ms()
        listed = None if portal.listed_at is None else now - portal.listed_at
        known = [object_id for one in members if (object_id := portal.object_of(one)) is not None]
        found: list[User] | None = None
        if listed is not None and (len(known) == len(members) or 0 <= listed < LISTED_MS):
            found = _read(client, known)
        if found is None:
            found = self._list(client, portal, members, now)
        if not found:
            raise _Nobody
        return found

    def _list(self, client: HubSpotClient, portal: _Portal, members: Sequence[str], now: int) -> list[User]:
        """Return the users of these ids out of all that there are."""
        users = client.users()
        portal.objects = {one.user_id: one.object_id for one in users if one.user_id is not None}
        portal.everybody = frozenset(one.object_id for one in users)
        portal.listed_at = now
        wanted = {portal.object_of(one) for one in members}
        return [one for one in users if one.object_id in wanted]


def _read(client: HubSpotClient, object_ids: Sequence[str]) -> list[User] | None:
    """Return users by their objects; None when one of them is gone, and HubSpot therefore tells none."""
    try:
        return client.users_by_id(object_ids)
    except HubSpotNotFound:
        return None


_UNASKED = _Answer((), None, 0, 0)


def _is_recent(answer: _Answer, now: int) -> bool:
    return 0 <= now - answer.at < (KNOWN_MS if answer.reason is None else FAILED_MS)


@contextmanager
def _live() -> Iterator[None]:
    """Count what is asked in a lane as live work: somebody waits to be told."""
    if lanes.doing.get(None) is None:
        yield
        return
    token = lanes.doing.set(Work.LIVE)
    try:
        yield
    finally:
        lanes.doing.reset(token)


# What follows from it ---------------------------------------------------------------------------------------


def set_members(said: Iterable[str], inbox_id: str | None) -> list[str]:
    """Return who answers in an inbox by the setting: user ids, some with ``A-``, and teams, ``team:55``.

    :param said: each for all inboxes, or for one: ``700200300/team:55``.
    """
    parts = (one.rpartition("/") for one in said)
    return [member for inbox, _, member in parts if inbox in ("", inbox_id)]


def business_hours(settings: Settings) -> Hours | None:
    """Return the app's own business hours; None when it has none."""
    zone = read_zone(settings.business_time_zone)
    if not settings.business_hours or zone is None:
        return None
    periods = tuple(read_line(one) for one in settings.business_hours)
    return Hours(zone=zone, periods=periods, holidays=frozenset(settings.business_holidays))


def hours_of(user: User, business: Hours | None) -> Hours:
    """Return when a user works: by HubSpot, else by the business hours, else always; but for absences.

    The breaks that a user has by the days of the week are by the clock of the user's own zone, or left out.
    """
    if user.periods and user.zone is not None:
        return Hours(zone=user.zone, periods=user.periods, breaks=user.breaks, absences=user.absences)
    if business is not None:
        return replace(business, absences=user.absences)
    zone = user.zone or ZoneInfo("UTC")
    return Hours(zone=zone, periods=ALWAYS, breaks=user.breaks, absences=user.absences)


def judge(users: Sequence[User], business: Hours | None, now: int) -> Availability:
    """Return whether one of an inbox's users is there: available, and within working hours.

    :param business: for those who keep no working hours in HubSpot.
    :param now: epoch ms.
    """
    working = [(one, hours_of(one, business)) for one in users]
    on_time = [one for one, hours in working if hours.cover(now)]
    there = [one for one in on_time if one.is_available]
    if there:
        agents = tuple(f"{PERSON}{one.user_id}" for one in there if one.user_id is not None)
        return Availability(True, agents, reason=AvailabilityReason.AVAILABLE)
    starts = [start for _, hours in working if (start := hours.next_start(now)) is not None]
    reason = AvailabilityReason.AWAY if on_time else AvailabilityReason.CLOSED
    return Availability(False, opens_at=to_datetime(min(starts)) if starts else None, reason=reason)


def judge_hours(business: Hours, now: int) -> Availability:
    """Return whether it is business time; ``now`` is in epoch ms."""
    if business.cover(now):
        return Availability(True, reason=AvailabilityReason.AVAILABLE)
    start = business.next_start(now)
    opens_at = None if start is None else to_datetime(start)
    return Availability(False, opens_at=opens_at, reason=AvailabilityReason.CLOSED)
