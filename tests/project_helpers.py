"""A project's folder to change and to upload to the stand-in, as ``hs project upload`` does."""

from __future__ import annotations

import json
from typing import Any

from .simulator_helpers import Stand

APP, HOOKS = "src/app/app-hsmeta.json", "src/app/webhooks/webhooks-hsmeta.json"
BACK = "https://bot.example.test/hubspot/oauth/callback"
NEEDED = ["oauth", "conversations.read", "conversations.write", "files.read", "files.write"]
NEEDED += ["conversations.custom_channels.read", "conversations.custom_channels.write"]


class Folder:
    """A project's files, to be changed and uploaded. ``app`` and ``hooks`` are the two components."""

    def __init__(self, name: str = "handoff") -> None:
        self.head: Any = {"name": name, "srcDir": "src", "platformVersion": "2026.09"}
        self.app: Any = {
            "uid": "handoff_app",
            "type": "app",
            "config": {
                "name": "Live agents",
                "description": "Hands conversations to live agents.",
                "distribution": "private",
                "auth": {
                    "type": "oauth",
                    "redirectUrls": [BACK, "http://localhost:5000/hubspot/oauth/callback"],
                    "requiredScopes": list(NEEDED),
                    "optionalScopes": ["crm.objects.contacts.write"],
                    "conditionallyRequiredScopes": ["tickets"],
                },
                "permittedUrls": {"fetch": ["https://bot.example.test"], "iframe": [], "img": []},
            },
        }
        self.hooks: Any = {
            "uid": "handoff_webhooks",
            "type": "webhooks",
            "config": {
                "settings": {"targetUrl": "https://bot.example.test/hubspot/webhook", "maxConcurrentRequests": 12},
                "subscriptions": {
                    "crmObjects": [],
                    "legacyCrmObjects": [],
                    "hubEvents": [
                        {"subscriptionType": "conversation.newMessage", "active": True},
                        {"subscriptionType": "conversation.propertyChange", "propertyName": "status", "active": True},
                    ],
                },
            },
        }
        self.more: dict[str, str] = {}

    @property
    def config(self) -> Any:
        """The app's config."""
        return self.app["config"]

    @property
    def auth(self) -> Any:
        """The app's auth."""
        return self.config["auth"]

    @property
    def events(self) -> Any:
        """The webhooks' hubEvents."""
        return self.hooks["config"]["subscriptions"]["hubEvents"]

    def files(self) -> dict[str, str]:
        """Every file's text; ``more`` stands in place of what is made here."""
        made = {"hsproject.json": self.head, APP: self.app, HOOKS: self.hooks}
        return {path: json.dumps(what) for path, what in made.items() if what is not None} | self.more


def send(stand: Stand, folder: Folder, **more: Any) -> Any:
    """Upload a folder, whatever comes of it."""
    return stand.http.post(f"{stand.base}/_control/project", json={"files": folder.files(), **more}, timeout=30)


def upload(stand: Stand, folder: Folder, **more: Any) -> Any:
    """Upload a folder that is taken; the answer's JSON."""
    answer = send(stand, folder, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(stand: Stand, folder: Folder, **more: Any) -> str:
    """Upload a folder that is refused; HubSpot's words."""
    answer = send(stand, folder, **more)
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert body["category"] == "VALIDATION_ERROR"
    return str(body["message"])


def shown(stand: Stand, app_id: str) -> Any:
    """An app as the page of projects shows it."""
    [found] = [one for one in stand.sim("GET", "projects")["apps"] if one["id"] == app_id]
    return found


def install_here(stand: Stand, app_id: str, portal_id: str = "424242") -> None:
    """Install an app without asking."""
    stand.sim("POST", "apps", {"appId": app_id, "portalId": portal_id})
