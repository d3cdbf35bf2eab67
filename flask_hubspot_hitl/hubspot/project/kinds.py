"""Name the ways in which a project's folder can be wrong. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

INIT = "Run 'flask hubspot-hitl project init'."


class Kind(StrEnum):
    """Name each way in which a folder can be wrong."""

    NO_PROJECT = "no project"
    PROJECT_FILE = "project file"
    SOURCE = "source folder"
    PLATFORM = "platform version"
    UNREADABLE = "unreadable"
    KEY_TWICE = "key twice"
    UNKNOWN_KEY = "unknown key"
    NAME = "file name"
    PLACE = "place"
    NO_UID = "no uid"
    BAD_UID = "bad uid"
    UID_TWICE = "uid twice"
    NO_TYPE = "no type"
    UNKNOWN_TYPE = "unknown type"
    NO_APP = "no app"
    NO_WEBHOOKS = "no webhooks"
    TWO_OF_A_KIND = "two of a kind"
    NO_PROFILE = "no profile"
    PROFILE_MISSING = "profile missing"
    PROFILE = "profile"
    VARIABLE_MISSING = "variable missing"
    NO_CONFIG = "no config"
    APP_NAME = "app's name"
    DESCRIPTION = "description"
    DISTRIBUTION = "distribution"
    AUTH = "auth"
    REDIRECT = "redirect URL"
    SCOPE_MISSING = "scope missing"
    SCOPE_EXTRA = "scope too many"
    SCOPE_REFUSED = "scope refused"
    SUPPORT = "support"
    TARGET = "target URL"
    SUBSCRIPTION_MISSING = "subscription missing"
    SUBSCRIPTION_PAUSED = "subscription paused"


@dataclass(frozen=True, slots=True)
class Difference:
    """Say what is wrong in which file, and what puts it right. ``path`` is relative to the folder."""

    kind: Kind
    path: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what} {self.fix}"

    def facts(self) -> dict[str, str]:
        """Return it for machines."""
        return {"kind": self.kind.value, "path": self.path, "what": self.what, "fix": self.fix}
