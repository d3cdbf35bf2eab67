"""Store the portals that have installed the app: their tokens (as ciphertext), and which process may renew them.

Runs inside the caller's transaction; what an installation means is the business of ``portals``, one level up.
Times are epoch ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from . import codec
from .parts import Part
from .schema import EventState, event, in_state, installation, lane


class InstallationState(StrEnum):
    """Name whether HubSpot takes a portal's tokens."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Hold one portal. ``added_at`` is None when its token comes from the configuration."""

    portal_id: str
    state: InstallationState
    secret: str | None = field(repr=False)
    """The tokens, encrypted."""
    scopes: tuple[str, ...] | None
    """The scopes that HubSpot granted; None when it did not tell."""
    inbox_id: str | None
    """The portal's default inbox."""
    added_at: int | None
    revoked_at: int | None


_COLUMNS = [installation.c[name] for name in Installation.__dataclass_fields__]


class Installations(Part):
    """Read and write installations, in one transaction."""

    def get(self, portal_id: str) -> Installation | None:
        """Return one portal's installation, or None."""
        row = self._connection.execute(sa.select(*_COLUMNS).where(_of(portal_id))).first()
        return None if row is None else _installation(row)

    def all(self) -> list[Installation]:
        """Return every portal that has, or had, tokens here; the first installed first."""
        rows = self._connection.execute(sa.select(*_COLUMNS).where(installation.c.secret.is_not(None)))
        return sorted(map(_installation, rows), key=lambda one: (one.added_at or 0, one.portal_id))

    def install(self, portal_id: str, secret: str, *, scopes: tuple[str, ...] | None, now: int) -> None:
        """Store a portal's tokens; a refresh that is under way elsewhere will not overwrite them."""
        values: dict[str, Any] = {
            "secret": secret,
            "scopes": None if scopes is None else codec.dumps(list(scopes)),
            "state": InstallationState.ACTIVE.value,
            "added_at": now,
            "revoked_at": None,
            "lease_until": 0,
        }
        self._put(installation, {"portal_id": portal_id}, values, fence=installation.c.fence + 1)

    def set_state(self, portal_id: str, state: InstallationState, *, now: int) -> bool:
        """Change a portal's state.

        :returns: False when it had that state before.
        """
        revoked_at = now if state == InstallationState.REVOKED else None
        other = sa.update(installation).where(_of(portal_id), installation.c.state != state.value)
        return self._changed(other.values(state=state.value, revoked_at=revoked_at)) == 1

    def set_inbox(self, portal_id: str, inbox_id: str | None) -> None:
        """Store a portal's default inbox, for ``start`` without ``inbox_id``."""
        self._put(installation, {"portal_id": portal_id}, {"inbox_id": inbox_id})

    def replace_secret(self, portal_id: str, *, old: str, new: str) -> bool:
        """Store the same tokens in another encryption.

        :returns: False when they have changed since.
        """
        same = sa.update(installation).where(_of(portal_id), installation.c.secret == old)
        return self._changed(same.values(secret=new)) == 1

    # The lease of the process that renews a token ---------------------------------------------------------

    def claim(self, portal_id: str, *, now: int, until: int) -> int | None:
        """Take the refresh lease.

        :returns: its fence, or None while another process holds it.
        """
        self._add(installation, portal_id=portal_id)
        fence: int | None = self._connection.scalar(
            sa.update(installation)
            .where(_of(portal_id), installation.c.lease_until <= now)
            .values(lease_until=until, fence=installation.c.fence + 1)
            .returning(installation.c.fence)
        )
        return fence

    def release(self, portal_id: str, *, fence: int, secret: str | None = None) -> bool:
        """Release the refresh lease, with new tokens if any.

        :returns: False when another process holds it now.
        """
        values: dict[str, object] = {"lease_until": 0}
        if secret is not None:
            values["secret"] = secret
        ours = sa.update(installation).where(_of(portal_id), installation.c.fence == fence)
        return self._changed(ours.values(values)) == 1

    # The queue of a portal that has come back --------------------------------------------------------------

    def wake(self, portal_id: str, *, now: int) -> int:
        """Make the portal's lanes due now that wait because a call to HubSpot failed.

        :returns: the number of lanes.
        """
        waiting = sa.select(event.c.lane).where(in_state(EventState.PENDING), event.c.portal_id == portal_id)
        chosen = (
            sa.select(lane.c.key)
            .where(lane.c.owner.is_(None), lane.c.failures > 0, lane.c.due_at > now, lane.c.key.in_(waiting))
            .with_for_update(skip_locked=True)
        )
        return self._changed(sa.update(lane).where(lane.c.key.in_(chosen)).values(due_at=now, failures=0))


def _of(portal_id: str) -> sa.ColumnElement[bool]:
    return installation.c.portal_id == portal_id


def _installation(row: sa.Row[Any]) -> Installation:
    values = dict(row._mapping)
    values["state"] = InstallationState(row.state)
    scopes = codec.loads(row.scopes)
    values["scopes"] = None if scopes is None else tuple(scopes)
    return Installation(**values)
