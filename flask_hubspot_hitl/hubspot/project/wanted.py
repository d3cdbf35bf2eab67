"""Say what a project's files shall hold for an app of ours. Pure. Source: docs/hubspot.rst (Project apps)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..scopes import FILES_SCOPES, LEGACY_FILES_SCOPE
from ..subscriptions import MAX_CONCURRENT_REQUESTS, SUBSCRIPTIONS

PROJECT_FILE = "hsproject.json"
SOURCE = "src"
APP_FILE = f"{SOURCE}/app/app-hsmeta.json"
WEBHOOKS_FILE = f"{SOURCE}/app/webhooks/webhooks-hsmeta.json"
APP_UID = "hubspot_hitl_app"
WEBHOOKS_UID = "hubspot_hitl_webhooks"
PLATFORM_VERSION = "2026.09"
VARIABLE = "HITL_URL"
"""A profile's variable: the deployment's public URL with our prefix."""
NAME_LIMIT = 200
DESCRIPTION_LIMIT = 8_192
"""Both in UTF-16 units, of which a letter beyond the basic plane has two."""
PRIVATE_LIMIT = 10
UNLISTED_LIMIT = 25
"""How many accounts may install a private app, and one of the marketplace that is not listed yet."""
DISTRIBUTIONS = ("private", "marketplace")
PERMITTED = ("fetch", "iframe", "img")
PROFILE_NAME = re.compile(r"[A-Za-z0-9]+")
UID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Profile:
    """A deployment of the project: its name, its base URL, and the account that it is uploaded to."""

    name: str
    base_url: str
    account_id: int | None = None
    """None: the number that the file has already."""

    @property
    def path(self) -> str:
        """Return the file's name; it stands in the project's source folder."""
        return f"hsprofile.{self.name}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the files shall hold. Where a value is None the file's own stays, and a new file gets a default."""

    base_urls: tuple[str, ...]
    """The deployment's public URLs, each with our prefix. HubSpot calls the first."""
    scopes: tuple[str, ...]
    profile: str | None = None
    """The profile of this deployment."""
    name: str | None = None
    description: str | None = None
    distribution: str | None = None
    support_email: str | None = None
    support_url: str | None = None
    new_name: str = "Assistant"
    """What an app without a name is called."""

    @property
    def redirect_urls(self) -> tuple[str, ...]:
        """Return where HubSpot may send a browser back to."""
        return tuple(f"{base}/oauth/callback" for base in self.base_urls)

    @property
    def target_url(self) -> str:
        """Return where HubSpot sends webhooks to."""
        return f"{self.base_urls[0]}/webhook"

    @property
    def support(self) -> dict[str, str]:
        """Return what people who look for help are told, as far as it is given."""
        given = {"supportEmail": self.support_email, "supportUrl": self.support_url}
        return {key: value for key, value in given.items() if value is not None}

    def problems(self) -> list[str]:
        """Return what HubSpot would refuse, each with what to do about it."""
        found = name_problems(self.new_name if self.name is None else self.name)
        found += [] if self.description is None else description_problems(self.description)
        if self.distribution is not None and self.distribution not in DISTRIBUTIONS:
            found.append(f"The distribution is {quoted(self.distribution)}: say {' or '.join(DISTRIBUTIONS)}.")
        for key, value in self.support.items():
            if "${" in value or not _is_writable(value) or value != value.strip() or not value:
                found.append(f"{key} is {quoted(value)}: say an address.")
        found += [problem for url in self.base_urls for problem in address_problems(url)]
        if LEGACY_FILES_SCOPE in self.scopes:
            found.append(
                f"HUBSPOT_HITL_SCOPES holds {LEGACY_FILES_SCOPE}, which project apps are refused: write "
                f"{','.join(FILES_SCOPES)} instead."
            )
        if self.profile is not None and not PROFILE_NAME.fullmatch(self.profile):
            found.append(f"The profile is {quoted(self.profile)}: a profile's name is letters and digits.")
        return found


def name_problems(name: str) -> list[str]:
    """Return what HubSpot would refuse in the app's name."""
    return _text_problems("name", name, NAME_LIMIT)


def description_problems(description: str) -> list[str]:
    """Return what HubSpot would refuse in the app's description."""
    return _text_problems("description", description, DESCRIPTION_LIMIT)


def _text_problems(what: str, text: str, limit: int) -> list[str]:
    if not _is_writable(text):
        return [f"The {what} has a character that is no text: type it anew."]
    found = []
    if not text.strip():
        found.append(f"The {what} is empty: say one.")
    elif text != text.strip():
        found.append(f"The {what} begins or ends with a blank: take it away.")
    if (length := len(text.encode("utf-16-le")) // 2) > limit:
        found.append(f"The {what} has {length:,} characters, and HubSpot takes {limit:,}: shorten it.")
    if "${" in text:
        found.append(f"The {what} has '${{' in it, which HubSpot reads as a profile's variable: write it otherwise.")
    return found


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def address_problems(url: str) -> list[str]:
    """Return what HubSpot would refuse in a public URL: http, but for ``http://localhost``, and a variable."""
    parts = urlsplit(url)
    if "${" in url:
        return [f"{url} has '${{' in it, which HubSpot reads as a profile's variable: serve the app elsewhere."]
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "localhost"):
        return []
    port = f":{parts.port}" if parts.port else ""
    return [
        f"HubSpot sends browsers back to https addresses and to http://localhost only, not to {url}: set "
        f"HUBSPOT_HITL_PUBLIC_URL to an https address, or on your own machine to http://localhost{port}."
    ]


def new_app(uid: str, name: str) -> dict[str, Any]:
    """Return a new app's file without what this deployment wants in it."""
    auth = {
        "type": "oauth",
        "redirectUrls": [],
        "requiredScopes": [],
        "optionalScopes": [],
        "conditionallyRequiredScopes": [],
    }
    config = {
        "name": name,
        "description": "Hands conversations of our assistant over to your team.",
        "distribution": "private",
        "auth": auth,
        "permittedUrls": {key: [] for key in PERMITTED},
    }
    return {"uid": uid, "type": "app", "config": config}


def webhooks_file(target_url: str, uid: str = WEBHOOKS_UID) -> dict[str, Any]:
    """Return the content of :data:`WEBHOOKS_FILE`."""
    events = [
        {
            "subscriptionType": one.event_type,
            **({"propertyName": one.property_name} if one.property_name else {}),
            "active": True,
        }
        for one in SUBSCRIPTIONS
    ]
    settings = {"targetUrl": target_url, "maxConcurrentRequests": MAX_CONCURRENT_REQUESTS}
    subscriptions = {"crmObjects": [], "legacyCrmObjects": [], "hubEvents": events}
    return {"uid": uid, "type": "webhooks", "config": {"settings": settings, "subscriptions": subscriptions}}


def written(value: Any) -> str:
    """Return JSON as a new file has it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def quoted(value: object) -> str:
    """Return a value from a file for people to read, on one line and in printable ASCII."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else f"{text[:117]}…"
