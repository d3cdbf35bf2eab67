"""Define what ``setup`` and ``teardown`` may change at HubSpot: one type each, with the words that announce it.

Imports nothing of ours but ``wanted``. ``plan`` finds out which are needed, ``apply`` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .wanted import Subscription


@dataclass(frozen=True, slots=True)
class Change:
    """Describe one change; ``str()`` is the line for a person, :meth:`facts` the object for a machine."""

    def facts(self) -> dict[str, Any]:
        """Return ``change``, the name of the type, and its fields."""
        return {"change": type(self).__name__, **asdict(self)}


@dataclass(frozen=True, slots=True)
class MakeChannel(Change):
    """Make the app's channel, and wait until HubSpot shows it."""

    body: Mapping[str, Any]

    def __str__(self) -> str:
        return f"make the channel “{self.body['name']}” that delivers to {self.body['webhookUrl']}"


@dataclass(frozen=True, slots=True)
class AwaitChannel(Change):
    """Wait for a channel that an earlier run has made."""

    channel_id: str

    def __str__(self) -> str:
        return f"wait until HubSpot shows the channel {self.channel_id}, which was made before"


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

    channel_id: str | None
    """None: the one that is to be made first."""
    inbox_id: str
    inbox: str
    name: str

    def __str__(self) -> str:
        return f"connect {self.inbox} as “{self.name}”"


@dataclass(frozen=True, slots=True)
class TakeOverAccount(Change):
    """Use an account that bears another mark, or none, from now on; nothing changes at HubSpot."""

    channel_id: str
    account_id: str
    inbox: str
    identifier: str

    def __str__(self) -> str:
        return f"take over the account {self.account_id} in {self.inbox}, “{self.identifier}”"


@dataclass(frozen=True, slots=True)
class AuthorizeAccount(Change):
    """Say that our side of an account works again."""

    channel_id: str
    account_id: str
    inbox: str

    def __str__(self) -> str:
        return f"authorise the account {self.account_id} in {self.inbox}"


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

    subscription: Subscription

    def __str__(self) -> str:
        return f"subscribe to {self.subscription}"


@dataclass(frozen=True, slots=True)
class ActivateSubscription(Change):
    """Switch a paused subscription on."""

    subscription_id: str
    subscription: Subscription

    def __str__(self) -> str:
        return f"activate the subscription {self.subscription_id} to {self.subscription}"


@dataclass(frozen=True, slots=True)
class SubscribeToJournal(Change):
    """Subscribe to a kind of event of HubSpot's journal."""

    action: str

    def __str__(self) -> str:
        return f"subscribe to {self.action} of the journal"


# Of teardown ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DisableAccount(Change):
    """Say that our side of an account works no more; HubSpot lets nobody delete one by API."""

    channel_id: str
    account_id: str
    inbox: str

    def __str__(self) -> str:
        return f"switch off the account {self.account_id} in {self.inbox}"


@dataclass(frozen=True, slots=True)
class ArchiveChannel(Change):
    """Take the channel from HubSpot for good."""

    channel_id: str
    name: str

    def __str__(self) -> str:
        return f"archive the channel {self.channel_id}, “{self.name}”"
