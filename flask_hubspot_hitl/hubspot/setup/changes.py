"""Define what ``setup`` and ``teardown`` may change at HubSpot: one type each, with the words that announce it.

Imports nothing of ours but ``wanted``. ``plan`` finds out which are needed, ``apply`` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from .wanted import Subscription


@dataclass(frozen=True, slots=True)
class Change:
    """Describe one change; ``str()`` is the line for a person, :meth:`facts` the object for a machine."""

    words: ClassVar[str] = ""
    """The line, in which ``{0}`` is the change."""

    def __str__(self) -> str:
        return self.words.format(self)

    def facts(self) -> dict[str, Any]:
        """Return ``change``, the name of the type, and its fields."""
        return {"change": type(self).__name__, **asdict(self)}


@dataclass(frozen=True, slots=True)
class MakeChannel(Change):
    """Make the app's channel, and wait until HubSpot shows it."""

    words = "make the channel “{0.body[name]}” that delivers to {0.body[webhookUrl]}"
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AwaitChannel(Change):
    """Wait for a channel that an earlier run has made."""

    words = "wait until HubSpot shows the channel {0.channel_id}, which was made before"
    channel_id: str


@dataclass(frozen=True, slots=True)
class ChangeChannel(Change):
    """Change fields of the channel; ``before`` has what they hold now."""

    channel_id: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def __str__(self) -> str:
        told = []
        for name, value in self.after.items():
            if name == "capabilities":
                told.append("capabilities: " + ", ".join(_differing(self.before.get(name), value)))
            else:
                told.append(f"{name}: {self.before.get(name) or 'nothing'} → {value}")
        return f"change the channel {self.channel_id}: {'; '.join(told)}"


def _differing(before: Any, after: Mapping[str, Any]) -> list[str]:
    have = before if isinstance(before, Mapping) else {}
    return [name for name, value in after.items() if have.get(name) != value]


@dataclass(frozen=True, slots=True)
class ConnectInbox(Change):
    """Make an account of the channel in an inbox or help desk."""

    words = "connect {0.inbox} as “{0.name}”"
    channel_id: str | None
    """None: the one that is to be made first."""
    inbox_id: str
    inbox: str
    name: str


@dataclass(frozen=True, slots=True)
class AccountChange(Change):
    """Describe what is done to an account that is there."""

    channel_id: str
    account_id: str
    inbox: str


@dataclass(frozen=True, slots=True)
class TakeOverAccount(AccountChange):
    """Use an account that bears another mark, or none, from now on; nothing changes at HubSpot."""

    words = "take over the account {0.account_id} in {0.inbox}, “{0.identifier}”"
    identifier: str


class AuthorizeAccount(AccountChange):
    """Say that our side of an account works again."""

    words = "authorise the account {0.account_id} in {0.inbox}"


@dataclass(frozen=True, slots=True)
class SetTarget(Change):
    """Set the target URL of the app's webhooks; ``body`` is ``SettingsChangeRequest``."""

    before: str
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return f"send the app's webhooks to {self.body['targetUrl']} (before: {self.before or 'nowhere'})"


@dataclass(frozen=True, slots=True)
class Subscribe(Change):
    """Make a subscription."""

    words = "subscribe to {0.subscription}"
    subscription: Subscription


@dataclass(frozen=True, slots=True)
class ActivateSubscription(Change):
    """Switch a paused subscription on."""

    words = "activate the subscription {0.subscription_id} to {0.subscription}"
    subscription_id: str
    subscription: Subscription


@dataclass(frozen=True, slots=True)
class SubscribeToJournal(Change):
    """Subscribe to a kind of event of HubSpot's journal."""

    words = "subscribe to {0.action} of the journal"
    action: str


# Of teardown ----------------------------------------------------------------------------------------------


class DisableAccount(AccountChange):
    """Say that our side of an account works no more; HubSpot lets nobody delete one by API."""

    words = "switch off the account {0.account_id} in {0.inbox}"


@dataclass(frozen=True, slots=True)
class ArchiveChannel(Change):
    """Take the channel from HubSpot for good."""

    words = "archive the channel {0.channel_id}, “{0.name}”"
    channel_id: str
    name: str
