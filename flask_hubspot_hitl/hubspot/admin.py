"""Call HubSpot about the app itself: its channels and its webhooks; with the developer API key.

Of ours it may import its neighbours here; no Flask, no database. What every method may raise is said in ``client``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .calls import Caller


class AppCalls(Caller):
    """Call HubSpot's API for one app; see :class:`.options.ClientOptions` for the settings.

    Without a developer API key the portal's token is sent instead; HubSpot may take it for channels.
    """

    # Channels (HubSpot OpenAPI, custom channels)

    def list_channels(self) -> list[dict[str, Any]]:
        """Return every custom channel of the app that HubSpot shows, ``PublicChannelIntegrationChannel``."""
        return self.read_list(self.paths.channels(), doing="listing channels", developer=True)

    def get_channel(self, channel_id: str) -> dict[str, Any]:
        """Return one custom channel of the app."""
        return self.call("GET", self.paths.channel(channel_id), doing="reading a channel", developer=True)

    def create_channel(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a channel, ``PublicChannelIntegrationChannelCreate``. Not idempotent: repeating makes another one."""
        return self.call("POST", self.paths.channels(), doing="making the channel", body=body, developer=True)

    def update_channel(self, channel_id: str, changes: Mapping[str, Any]) -> None:
        """Change the fields given; HubSpot's guides say that the others stay."""
        path = self.paths.channel(channel_id)
        self.call("PATCH", path, doing="changing the channel", body=changes, developer=True, answer=False)

    def archive_channel(self, channel_id: str) -> None:
        """Remove the channel from every portal; HubSpot can't restore it."""
        path = self.paths.channel(channel_id)
        self.call("DELETE", path, doing="archiving the channel", developer=True, answer=False)

    # Webhooks (HubSpot OpenAPI, webhooks; from 2026-09 on named app-webhooks)

    def webhook_settings(self) -> dict[str, Any]:
        """Return ``SettingsResponse``: ``targetUrl`` and ``throttling``; a 404 when they were never set."""
        path = self.paths.webhook_settings(self._app())
        return self.call("GET", path, doing="reading the webhook settings", developer=True)

    def put_webhook_settings(self, body: Mapping[str, Any]) -> None:
        """Set the webhooks' target URL (``SettingsChangeRequest``).

        It takes effect within five minutes (docs/hubspot.rst: Deliveries).
        """
        path = self.paths.webhook_settings(self._app())
        self.call("PUT", path, doing="changing the webhook settings", body=body, developer=True, answer=False)

    def webhook_subscriptions(self) -> list[dict[str, Any]]:
        """Return the app's ``SubscriptionResponse`` objects: ``id``, ``eventType``, ``propertyName``, ``active``."""
        path = self.paths.webhook_subscriptions(self._app())
        return self.read_list(path, doing="listing the webhook subscriptions", developer=True)

    def subscribe(self, body: Mapping[str, Any]) -> None:
        """Make a subscription, ``SubscriptionCreateRequest``."""
        path = self.paths.webhook_subscriptions(self._app())
        self.call("POST", path, doing="subscribing to events", body=body, developer=True, answer=False)

    def activate_subscription(self, subscription_id: str) -> None:
        """Switch a paused subscription on."""
        path = self.paths.webhook_subscription(self._app(), subscription_id)
        self.call("PATCH", path, doing="activating a subscription", body={"active": True}, developer=True, answer=False)

    def _app(self) -> str:
        if self.options.app_id is None:
            raise ValueError("these calls need an app id")
        return self.options.app_id
