"""Keep the files of a HubSpot project for an app of ours: read, compare, work out, write. Calls nobody.

``document`` changes JSON in place, ``folder`` reads and writes, ``wanted`` says what is wanted, ``values`` and
``differences`` compare, ``edits`` works out the files. Source: docs/hubspot.rst (Project apps).
"""

from .differences import differences, profile_of
from .edits import Refused, changes
from .folder import Folder, FolderError, read, write
from .kinds import Difference, Kind
from .wanted import APP_FILE, PROJECT_FILE, WEBHOOKS_FILE, Profile, Wanted, webhooks_file

__all__ = [
    "APP_FILE",
    "PROJECT_FILE",
    "WEBHOOKS_FILE",
    "Difference",
    "Folder",
    "FolderError",
    "Kind",
    "Profile",
    "Refused",
    "Wanted",
    "changes",
    "differences",
    "profile_of",
    "read",
    "webhooks_file",
    "write",
]
