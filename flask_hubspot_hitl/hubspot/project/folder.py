"""Read a project's folder as HubSpot's tools do, and write changed files: all of them or none.

Knows no meaning of the files but where they stand. Source: docs/hubspot.rst (Project apps).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from .document import Document, Unreadable
from .wanted import PROJECT_FILE, SOURCE

LIMIT = 1_000_000
"""Bytes of a file; none of a project's JSON files is near it."""
META = "-hsmeta.json"
NOT_WALKED = "node_modules"
PARTS = {
    "app": "app",
    "theme": "theme",
    "cms-assets": "cms-assets",
    "api-client": "app/api-client",
    "app-object": "app/app-objects",
    "app-object-association": "app/app-object-associations",
    "page": "app/pages",
    "pages": "app/pages",
    "calling": "app/calling",
    "card": "app/cards",
    "app-function": "app/functions",
    "scim": "app/scim",
    "settings": "app/settings",
    "marketing-event": "app/marketing-events",
    "media-bridge": "app/media-bridge",
    "app-event": "app/app-events",
    "video-conferencing": "app/video-conferencing",
    "webhooks": "app/webhooks",
    "webhooks-journal": "app/webhooks-journal",
    "workflow-action": "app/workflow-actions",
    "crm-bulk-action": "app/actions",
    "telemetry": "app/telemetry",
    "mcp-client": "app/mcp-client",
    "mcp-server": "app/mcp-server",
}
"""The kinds of components, each with its folder below the source folder."""
PLACES = frozenset(PARTS.values())
_PLURAL = frozenset(
    {"theme", "cms-assets", "app-object", "app-object-association", "card", "app-function", "marketing-event"}
    | {"media-bridge", "app-event", "video-conferencing", "workflow-action", "crm-bulk-action"}
)
SINGLE = frozenset(PARTS) - _PLURAL
"""The kinds of which a project has one at the most."""


class FolderError(Exception):
    """A folder can't be read or written; the text is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Component:
    """A file that HubSpot takes for a component. ``document`` is None when it can't be read; ``why`` says then why."""

    path: str
    place: str
    document: Document | None
    why: str = ""

    def field(self, name: str) -> Any:
        """Return ``uid``, ``type`` or ``config``; None when there is none."""
        value = self.document.value if self.document else None
        return value.get(name) if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a project that matter here, with their bytes; paths are relative to ``root``, with slashes."""

    root: Path
    files: Mapping[str, bytes]
    in_the_way: Mapping[str, str] = field(default_factory=dict)
    """What is no plain file where one was looked for, and why it is not read."""

    def document(self, path: str) -> Document | None:
        """Read a JSON object; None when the file is not there.

        :raises Unreadable: when it can't be read.
        """
        if path in self.in_the_way:
            raise Unreadable(self.in_the_way[path])
        raw = self.files.get(path)
        if raw is None:
            return None
        document = Document.of(raw)
        if not isinstance(document.value, dict):
            raise Unreadable("is no JSON object: it has to begin with {")
        return document

    @property
    def source(self) -> str:
        """Return the source folder that the project file names; ``src`` when it names none that can be used."""
        try:
            document = self.document(PROJECT_FILE)
        except Unreadable:
            return SOURCE
        named = document.value.get("srcDir") if document else None
        return inside(named) or SOURCE

    def below_source(self, path: str) -> str | None:
        """Return a path as seen from the source folder; None for one that is not in it."""
        if self.source == ".":
            return path
        return path.removeprefix(f"{self.source}/") if path.startswith(f"{self.source}/") else None

    def components(self) -> list[Component]:
        """Return what HubSpot's reader finds, in the order of the paths."""
        found = []
        for path in sorted({*self.files, *self.in_the_way}):
            below = self.below_source(path)
            place = str(PurePosixPath(below).parent) if below else ""
            if not path.endswith(META) or place not in PLACES:
                continue
            try:
                found.append(Component(path, place, self.document(path)))
            except Unreadable as error:
                found.append(Component(path, place, None, str(error)))
        return found

    def profiles(self) -> dict[str, str]:
        """Return the names of the profiles with their files."""
        found = {}
        for path in sorted({*self.files, *self.in_the_way}):
            words = (self.below_source(path) or "").split(".")
            if len(words) == 3 and words[0] == "hsprofile" and words[1] and words[2] == "json":
                found[words[1]] = path
        return found

    def variables(self, profile: str) -> dict[str, Any]:
        """Return a profile's variables; {} when it has none that can be read."""
        try:
            document = self.document(self.profiles().get(profile, ""))
        except Unreadable:
            return {}
        found = document.value.get("variables") if document else None
        return found if isinstance(found, dict) else {}

    def with_files(self, changed: Mapping[str, bytes]) -> Folder:
        """Return the folder as it will be."""
        return replace(self, files={**self.files, **changed})


def inside(source: object) -> str | None:
    """Return a source folder in one spelling; None when it is no folder inside of the project."""
    if not isinstance(source, str) or not source or "\\" in source or "\0" in source:
        return None
    normal = os.path.normpath(source)
    return None if normal.startswith(("/", "..")) else normal


def read(root: Path) -> Folder:
    """Read a folder; one that is not there is empty.

    :raises FolderError: when ``root`` is no folder, or can't be read.
    """
    if root.exists() and not root.is_dir():
        raise FolderError(f"{root} is a file: name a folder.")
    files: dict[str, bytes] = {}
    in_the_way: dict[str, str] = {}
    try:
        _look(root, root / PROJECT_FILE, files, in_the_way)
        source = root / Folder(root, files, in_the_way).source
        for here, folders, names in os.walk(source, onerror=_fail):
            folders[:] = sorted(name for name in folders if name != NOT_WALKED)
            for name in sorted([*folders, *names]):
                path = Path(here) / name
                if _matters(name) or (name in folders and path.is_symlink()):
                    _look(root, path, files, in_the_way)
    except OSError as error:
        raise FolderError(f"{error.filename or root} can't be read: {error.strerror}.") from None
    return Folder(root, files, in_the_way)


def _matters(name: str) -> bool:
    return name.lower().endswith((".json", ".jsonc", ".json5")) or "hsmeta" in name.lower()


def _fail(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _look(root: Path, path: Path, files: dict[str, bytes], in_the_way: dict[str, str]) -> None:
    name = path.relative_to(root).as_posix()
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode) and found.st_size <= LIMIT:
        files[name] = path.read_bytes()
    elif stat.S_ISLNK(found.st_mode):
        in_the_way[name] = "is a symbolic link, which HubSpot's tools pass over: put the file itself there"
    elif stat.S_ISREG(found.st_mode):
        in_the_way[name] = f"is larger than {LIMIT:,} bytes: put a project's file there"
    else:
        in_the_way[name] = "is no file: take it away"


def write(folder: Folder, changed: Mapping[str, bytes]) -> None:
    """Write files into a folder that was read before; each is there whole or not at all.

    :raises FolderError: when something is in the way, or was changed meanwhile; then nothing was written.
    """
    ready: list[tuple[Path, Path]] = []
    try:
        for name in changed:
            _check(folder, name)
        for name, content in changed.items():
            target = folder.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            ready.append((_beside(target, content), target))
        for made, target in ready:
            made.replace(target)
    except OSError as error:
        raise FolderError(f"{error.filename or folder.root} can't be written: {error.strerror}.") from None
    finally:
        for made, _ in ready:
            made.unlink(missing_ok=True)


def _check(folder: Folder, name: str) -> None:
    for parent in PurePosixPath(name).parents:
        if (folder.root / parent).is_symlink() and str(parent) != ".":
            raise FolderError(f"{folder.root / parent} is a symbolic link: put a folder there. Nothing was written.")
    files: dict[str, bytes] = {}
    in_the_way: dict[str, str] = {}
    _look(folder.root, folder.root / name, files, in_the_way)
    if name in in_the_way:
        raise FolderError(f"{folder.root / name} {in_the_way[name]}. Nothing was written.")
    if files.get(name) != folder.files.get(name):
        raise FolderError(f"{folder.root / name} was changed meanwhile: run it again. Nothing was written.")


def _beside(target: Path, content: bytes) -> Path:
    """Write a file beside another one, with the permissions that the other one has or a new one would have."""
    made = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        try:
            if target.exists():
                made.chmod(stat.S_IMODE(target.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            made.unlink(missing_ok=True)
            raise
    return made
