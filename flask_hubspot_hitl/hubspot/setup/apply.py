"""Carry out a plan, change by change; a run that is interrupted is continued by the next one.

Of ours it may import ``errors``, ``clock`` and its neighbours here; no Flask, no database: what must be remembered is
told to a :class:`Notebook`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any, Protocol

from ...clock import Clock
from ...errors import HubSpotConflict, HubSpotError, HubSpotUnavailable, TokenRevoked
from ..admin import AppCalls
from ..client import HubSpotClient
from ..journal import JournalCalls
from . import changes, wanted
from .plan import Want, delivering
from .wanted import Json

#: Pauses between two looks for a new channel, in seconds: the first, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 5.0


class NotShown(HubSpotError):
    """Say that HubSpot did not show a new channel in time; the next run goes on from there."""


class Notebook(Protocol):
    """Store what was made, immediately."""

    def begin_channel(self, instead_of: str | None) -> bool:
        """Record that a channel is about to be made, by a plan that knew of channel ``instead_of`` only.

        :returns: False when another run made one since, or began one whose outcome is unknown.
        """
        ...

    def no_channel(self) -> None:
        """Record that HubSpot has made none."""
        ...

    def save_channel(self, channel_id: str, webhook_url: str) -> None:
        """Record the channel."""
        ...

    def forget_channel(self) -> None:
        """Record that there is no channel any more."""
        ...

    def save_account(self, account: Json) -> None:
        """Record an account of ours as HubSpot has it (``PublicChannelAccount``)."""
        ...


@dataclass(kw_only=True)
class Worker:
    """Carry changes out.

    ``patience`` is how many seconds a new channel is waited for; ``on_wait`` is told how many of them have gone by, and
    ``on_done`` which change is done.
    """

    app: AppCalls
    portal: HubSpotClient | None
    journal: JournalCalls | None
    want: Want
    notebook: Notebook
    clock: Clock
    patience: float
    on_wait: Callable[[float], None]
    on_done: Callable[[changes.Change], None]

    def carry_out(self, planned: list[changes.Change]) -> None:
        """Carry out all changes, in order.

        :raises NotShown: when HubSpot does not show a new channel in time.
        :raises HubSpotError: when a call fails; what was done before is done and remembered.
        """
        for change in planned:
            self._do(change)
            self.on_done(change)

    @singledispatchmethod
    def _do(self, change: changes.Change) -> None:
        raise TypeError(f"no way to carry out {type(change).__name__}")

    @property
    def _portal(self) -> HubSpotClient:
        if self.portal is None:
            raise TypeError("accounts are planned for a portal only")
        return self.portal

    # The channel -----------------------------------------------------------------------------------------

    @_do.register
    def _(self, change: changes.MakeChannel) -> None:
        self._make_channel(change.body)

    @_do.register
    def _(self, change: changes.AwaitChannel) -> None:
        self._await_channel(change.channel_id)

    @_do.register
    def _(self, change: changes.ChangeChannel) -> None:
        self.app.update_channel(change.channel_id, change.after)
        self.notebook.save_channel(change.channel_id, self.want.channel.webhook_urls[0])

    @_do.register
    def _(self, change: changes.ArchiveChannel) -> None:
        self.app.archive_channel(change.channel_id)
        self.notebook.forget_channel()

    def _make_channel(self, body: Mapping[str, Any]) -> None:
        """Make the channel once: after a lost answer, or beside another run, it is looked for instead."""
        channel_id = None
        if self.notebook.begin_channel(self.want.stored_channel):
            try:
                channel_id = str(self.app.create_channel(body).get("id") or "") or None
            except HubSpotError as error:
                if not (isinstance(error, HubSpotUnavailable) and error.ambiguous):
                    self.notebook.no_channel()
                    raise
        if channel_id is not None:
            self.notebook.save_channel(channel_id, str(body["webhookUrl"]))
        self._await_channel(channel_id)

    def _await_channel(self, channel_id: str | None) -> None:
        """Look until the channel is shown: by its id, or when that is not known by our URL."""
        began, pause = self.clock.now_ms(), FIRST_PAUSE
        while True:
            trouble = None
            try:
                channels = self.app.list_channels()
            except TokenRevoked:
                raise
            except HubSpotUnavailable as error:
                channels, trouble = [], error
            shown = {str(one.get("id")) for one in channels}
            if channel_id in shown or (channel_id is None and delivering(channels, self.want)):
                return
            waited = (self.clock.now_ms() - began) / 1000
            if waited >= self.patience:
                raise trouble or _not_shown(channel_id, waited)
            self.on_wait(waited)
            self.clock.sleep(min(pause, self.patience - waited))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    # Accounts --------------------------------------------------------------------------------------------

    @_do.register
    def _(self, change: changes.ConnectInbox) -> None:
        self._connect(str(change.channel_id), change.inbox_id, change.name)

    @_do.register
    def _(self, change: changes.TakeOverAccount) -> None:
        self.notebook.save_account(self._portal.channel_account(change.channel_id, change.account_id))

    @_do.register
    def _(self, change: changes.AuthorizeAccount) -> None:
        self._authorize(change.channel_id, change.account_id, True)

    @_do.register
    def _(self, change: changes.DisableAccount) -> None:
        self._authorize(change.channel_id, change.account_id, False)

    def _connect(self, channel_id: str, inbox_id: str, name: str) -> None:
        """Make an account; after a 409 accept an existing one only if it bears our mark."""
        deployment_id, portal_id = self.want.channel.deployment_id, str(self.want.portal_id)
        for again in ("", secrets.token_hex(3)):  # HubSpot may hold the identifier of an account that is gone
            identifier = wanted.account_identifier(deployment_id, portal_id, inbox_id, again=again)
            body = {"inboxId": inbox_id, "name": name, "authorized": True, "deliveryIdentifier": identifier}
            try:
                account: Json | None = self._portal.create_channel_account(channel_id, body)
            except (HubSpotConflict, HubSpotUnavailable) as error:
                is_conflict = isinstance(error, HubSpotConflict)
                account = self._marked_account(channel_id, inbox_id)
                if account is None and (again or not is_conflict):
                    raise
            if account is not None:
                self.notebook.save_account(account)
                return

    def _marked_account(self, channel_id: str, inbox_id: str) -> Json | None:
        for one in self._portal.channel_accounts(channel_id):
            if str(one.get("inboxId")) == inbox_id and wanted.mark_of_account(one) == self.want.channel.deployment_id:
                return one
        return None

    def _authorize(self, channel_id: str, account_id: str, authorized: bool) -> None:
        self._portal.authorize_channel_account(channel_id, account_id, authorized)
        self.notebook.save_account(self._portal.channel_account(channel_id, account_id))

    # The app's webhooks ----------------------------------------------------------------------------------

    @_do.register
    def _(self, change: changes.SetTarget) -> None:
        self.app.put_webhook_settings(change.body)

    @_do.register
    def _(self, change: changes.Subscribe) -> None:
        with contextlib.suppress(HubSpotConflict):  # another run was quicker
            self.app.subscribe({**change.subscription.fields(), "active": True})

    @_do.register
    def _(self, change: changes.ActivateSubscription) -> None:
        self.app.activate_subscription(change.subscription_id)

    @_do.register
    def _(self, change: changes.SubscribeToJournal) -> None:
        if self.journal is None:
            raise TypeError("subscriptions to the journal are planned where it is switched on only")
        self.journal.subscribe(change.action)


def _not_shown(channel_id: str | None, waited: float) -> NotShown:
    if channel_id is None:
        return NotShown(
            f"A channel was begun, but HubSpot's answer was lost or another run is making it, and after {waited:.0f} "
            "seconds HubSpot shows none. Nothing is lost: run setup again in a few minutes; it looks again first."
        )
    return NotShown(
        f"The channel {channel_id} was made, but after {waited:.0f} seconds HubSpot does not show it. Nothing is lost: "
        "run setup again, it goes on from here. If the channel was deleted in HubSpot, run setup with --new-channel."
    )
