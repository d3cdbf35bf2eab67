"""Store our channel at HubSpot and its accounts, one in each inbox that it is connected to. ``setup`` writes them.

Runs inside the caller's transaction. Times are epoch ms.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from . import codec
from .parts import Part
from .schema import channel, channel_account


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRecord:
    """Hold the app's channel, which serves every portal that installs the app."""

    app_id: str
    channel_id: str
    webhook_url: str | None = None
    """The channel's webhook URL, as last read from HubSpot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """Hold one account: the channel in one inbox (or help desk) of one portal."""

    portal_id: str
    account_id: str
    channel_id: str
    inbox_id: str
    name: str | None = None
    identifier: dict[str, str] | None = None
    """The delivery identifier, ``{"type": …, "value": …}``; it bears the deployment id when the account is ours."""
    authorized: bool = True


_ACCOUNT = [channel_account.c[name] for name in AccountRecord.__dataclass_fields__]


def _is(portal_id: str, account_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(channel_account.c.portal_id == portal_id, channel_account.c.account_id == account_id)


class Channels(Part):
    """Read and write the channel of an app, and the channel's accounts."""

    def get(self, app_id: str | None) -> ChannelRecord | None:
        """Return the app's channel. Without an app id: the only one there is."""
        statement = sa.select(channel.c.app_id, channel.c.channel_id, channel.c.webhook_url)
        if app_id is not None:
            statement = statement.where(channel.c.app_id == app_id)
        rows = self._connection.execute(statement.limit(2)).all()
        return ChannelRecord(**rows[0]._mapping) if len(rows) == 1 else None

    def save(self, record: ChannelRecord, *, now: int) -> None:
        """Store an app's channel; one stored before is replaced."""
        values = {"channel_id": record.channel_id, "webhook_url": record.webhook_url, "updated_at": now}
        self._put(channel, {"app_id": record.app_id}, values)

    def forget(self, app_id: str) -> None:
        """Delete the app's channel."""
        self._connection.execute(sa.delete(channel).where(channel.c.app_id == app_id))

    # Accounts --------------------------------------------------------------------------------------------

    def accounts(self, portal_id: str | None = None) -> list[AccountRecord]:
        """Return the accounts of one portal, or of all, in the order in which they were made."""
        statement = sa.select(*_ACCOUNT)
        if portal_id is not None:
            statement = statement.where(channel_account.c.portal_id == portal_id)
        found = [_account(row) for row in self._connection.execute(statement)]
        return sorted(found, key=lambda one: (one.portal_id, len(one.account_id), one.account_id))

    def account(self, portal_id: str, account_id: str) -> AccountRecord | None:
        """Return one account, or None."""
        row = self._connection.execute(sa.select(*_ACCOUNT).where(_is(portal_id, account_id))).first()
        return None if row is None else _account(row)

    def account_of_inbox(self, portal_id: str, channel_id: str, inbox_id: str) -> AccountRecord | None:
        """Return the inbox's oldest authorised account, through which messages are published."""
        usable = (
            one
            for one in self.accounts(portal_id)
            if one.channel_id == channel_id and one.inbox_id == inbox_id and one.authorized
        )
        return next(usable, None)

    def save_account(self, record: AccountRecord, *, now: int) -> None:
        """Store an account as HubSpot has it now."""
        values = asdict(record)
        key = {name: values.pop(name) for name in ("portal_id", "account_id")}
        values |= {"identifier": codec.dumps(record.identifier), "authorized": int(record.authorized)}
        self._put(channel_account, key, {**values, "updated_at": now})

    def forget_account(self, portal_id: str, account_id: str) -> None:
        """Delete an account that is gone from HubSpot."""
        self._connection.execute(sa.delete(channel_account).where(_is(portal_id, account_id)))

    def own_accounts(self, account_ids: Collection[str]) -> set[tuple[str, str, str]]:
        """Return which of the channel accounts are stored here: (portal, channel, account)."""
        if not account_ids:
            return set()
        found = sa.select(channel_account.c.portal_id, channel_account.c.channel_id, channel_account.c.account_id)
        rows = self._connection.execute(found.where(channel_account.c.account_id.in_(account_ids)))
        return {(row[0], row[1], row[2]) for row in rows}


def _account(row: sa.Row[Any]) -> AccountRecord:
    decoded = {"identifier": codec.loads(row.identifier), "authorized": bool(row.authorized)}
    return AccountRecord(**{**row._mapping, **decoded})
