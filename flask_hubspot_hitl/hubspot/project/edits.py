"""Work out the files of a project from what is there and what is wanted; what is not ours stays byte for byte. Pure.

Source: docs/hubspot.rst (Project apps).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from ..scopes import LEGACY_FILES_SCOPE
from ..subscriptions import MAX_CONCURRENT_REQUESTS, SUBSCRIPTIONS
from . import profiles as variables
from . import wanted as words
from .differences import is_new_enough, profile_of
from .document import Document, Path, Unreadable
from .folder import META, PARTS, Component, Folder, inside
from .values import SCOPE_LISTS, is_same
from .wanted import PROJECT_FILE, VARIABLE, Profile, Wanted, quoted, written

HUB_EVENTS: Path = ("config", "subscriptions", "hubEvents")


class Refused(Exception):
    """Nothing can be written: ``problems`` are sentences that say what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def changes(folder: Folder, wanted: Wanted, profiles: Sequence[Profile] = ()) -> dict[str, bytes]:
    """Return the files to write, with their whole content; {} when all is as wanted.

    :param profiles: to make or mend, that of this deployment among them.
    :raises Refused: when a file can't be read, or something of ours can't be put into it.
    """
    problems = wanted.problems() + [one for profile in profiles for one in _profile_problems(profile)]
    if problems:
        raise Refused(list(dict.fromkeys(problems)))
    work = _Work(folder, wanted, profiles)
    work.project()
    work.profiles()
    work.app()
    work.webhooks()
    work.variable()
    return work.changed


def _profile_problems(profile: Profile) -> list[str]:
    found = words.address_problems(profile.base_url)
    if not words.PROFILE_NAME.fullmatch(profile.name):
        found.append(f"The profile is {quoted(profile.name)}: a profile's name is letters and digits.")
    return found


class _Work:
    """Change one file after the other."""

    def __init__(self, folder: Folder, wanted: Wanted, profiles: Sequence[Profile]) -> None:
        self.folder = folder
        self.wanted = wanted
        self.wanted_profiles = profiles
        self.changed: dict[str, bytes] = {}
        self.chosen: str | None = None
        self.variables: dict[str, Any] = {}

    def _now(self) -> Folder:
        return self.folder.with_files(self.changed)

    def _open(self, path: str, new: Any) -> Document:
        """Read a file that is to be changed; ``new`` is its content when it is not there."""
        try:
            document = self._now().document(path)
        except Unreadable as error:
            raise Refused([f"{path} {error}. Nothing was written."]) from None
        if document is None:
            return Document(written(new))
        if document.twice:
            raise Refused([f"{path} has the key {quoted(document.twice[0])} twice: take one out. Nothing was written."])
        return document

    def _keep(self, path: str, document: Document) -> None:
        raw = document.text.encode()
        if raw != self.folder.files.get(path):
            self.changed[path] = raw

    # The project and its profiles ------------------------------------------------------------------------

    def project(self) -> None:
        """Name, source folder and platform version; the name makes the project what it is, so it stays."""
        name = (
            re.sub(r"[^A-Za-z0-9]+", "-", self.wanted.name or self.wanted.new_name).strip("-").lower()[:60].strip("-")
        )
        new = {"name": name or "assistant", "srcDir": words.SOURCE, "platformVersion": words.PLATFORM_VERSION}
        document = self._open(PROJECT_FILE, new)
        for key, value in new.items():
            if not document.value.get(key):
                document.put((key,), value)
        if inside(document.value["srcDir"]) is None:
            raise Refused([f'{PROJECT_FILE}: the srcDir leads out of the project. Write "srcDir": "src".'])
        if not is_new_enough(document.value["platformVersion"]):
            document.put(("platformVersion",), words.PLATFORM_VERSION)
        self._keep(PROJECT_FILE, document)

    def _path(self, below: str) -> str:
        return str(PurePosixPath(self._now().source) / below)

    def profiles(self) -> None:
        """The variable with a deployment's URL, and the account."""
        for profile in self.wanted_profiles:
            path = self._path(profile.path)
            new: dict[str, Any] = {"accountId": profile.account_id, "variables": {}}
            document = self._open(path, new)
            if not document.value.get("accountId") and profile.account_id is None:
                raise Refused(
                    [
                        f"The profile {profile.name} needs the number of the account that it is uploaded to: say "
                        f"--account {profile.name}=NUMBER. Nothing was written."
                    ]
                )
            if profile.account_id is not None:
                document.put(("accountId",), profile.account_id)
            _object(document, ("variables",), path)
            document.put(("variables", VARIABLE), profile.base_url)
            self._keep(path, document)
        folder = self._now()
        self.chosen = profile_of(folder, self.wanted)
        if self.chosen is not None:
            self.variables = {**folder.variables(self.chosen), VARIABLE: self.wanted.base_urls[0]}
        elif folder.profiles():
            names = ", ".join(folder.profiles())
            raise Refused([f"There are several profiles: say with --profile which is this deployment's, {names}."])

    def variable(self) -> None:
        """See that this deployment's profile has the variable, when a file uses it."""
        folder = self._now()
        users = [one for one in folder.components() if VARIABLE in variables.used(one.field("config"))]
        path = folder.profiles().get(self.chosen or "")
        if not users or path is None:
            return
        have, url = folder.variables(self.chosen or "").get(VARIABLE), self.wanted.base_urls[0]
        if have is not None and have != url:
            raise Refused(
                [
                    f"The profile {self.chosen} is the deployment's at {have}, and this one is at {url}: say --profile "
                    f"{self.chosen} if it has moved, or --profile with a name of its own."
                ]
            )
        document = self._open(path, {})
        _object(document, ("variables",), path)
        document.put(("variables", VARIABLE), url)
        self._keep(path, document)

    # The app ---------------------------------------------------------------------------------------------

    def app(self) -> None:
        """Mend the app's file, or make one."""
        path, uid = self._component("app", words.APP_UID)
        new = words.new_app(uid, self.wanted.new_name)
        document = self._open(path, new)
        self._mark(document, uid, "app")
        _object(document, ("config",), path)
        for key in ("name", "description", "distribution"):
            value = getattr(self.wanted, key) or (None if document.value["config"].get(key) else new["config"][key])
            if value is not None:
                self._put(document, ("config", key), value)
        if self.wanted.support:
            _object(document, ("config", "support"), path)
        for key, value in self.wanted.support.items():
            self._put(document, ("config", "support", key), value)
        _object(document, ("config", "auth"), path)
        document.put(("config", "auth", "type"), "oauth")
        self._redirects(document, path)
        self._scopes(document, path)
        self._keep(path, document)

    def _redirects(self, document: Document, path: str) -> None:
        place: Path = ("config", "auth", "redirectUrls")
        _list(document, place, path)
        texts = [self._text(self.wanted.redirect_urls[0]), *self.wanted.redirect_urls[1:]]
        for text, url in zip(texts, self.wanted.redirect_urls, strict=True):
            have = document.at(place)
            items = have.value if have else []
            same = [index for index, one in enumerate(items) if variables.filled(one, self.variables) == url]
            if not same:
                document.append(place, text)
            elif text != url and "${" not in items[same[0]]:
                document.put((*place, same[0]), text)

    def _scopes(self, document: Document, path: str) -> None:
        for key in SCOPE_LISTS:
            place: Path = ("config", "auth", key)
            _list(document, place, path)
            unwanted = {LEGACY_FILES_SCOPE} | (set() if key == SCOPE_LISTS[0] else set(self.wanted.scopes))
            while (at := _index(document, place, unwanted)) is not None:
                document.remove((*place, at))
        place = ("config", "auth", SCOPE_LISTS[0])
        for scope in self.wanted.scopes:
            if _index(document, place, {scope}) is None:
                document.append(place, scope)

    # The webhooks ----------------------------------------------------------------------------------------

    def webhooks(self) -> None:
        """Mend the webhooks' file, or make one."""
        path, uid = self._component("webhooks", words.WEBHOOKS_UID)
        document = self._open(path, words.webhooks_file(self._text(self.wanted.target_url), uid))
        self._mark(document, uid, "webhooks")
        for place in (("config",), ("config", "settings"), ("config", "subscriptions")):
            _object(document, place, path)
        target = self.wanted.target_url
        self._put(document, ("config", "settings", "targetUrl"), target, self._text(target))
        if document.at(("config", "settings", "maxConcurrentRequests")) is None:
            document.put(("config", "settings", "maxConcurrentRequests"), MAX_CONCURRENT_REQUESTS)
        _list(document, HUB_EVENTS, path)
        for want, entry in zip(SUBSCRIPTIONS, _entries(), strict=True):
            events = document.at(HUB_EVENTS)
            same = [
                index
                for index, one in enumerate(events.value if events else [])
                if isinstance(one, dict) and is_same(one, want.event_type, want.property_name)
            ]
            if not same:
                document.append(HUB_EVENTS, entry)
            elif not any(events.value[index].get("active") is True for index in same if events):
                document.put((*HUB_EVENTS, same[0], "active"), True)
        self._keep(path, document)

    # What both share -------------------------------------------------------------------------------------

    def _component(self, kind: str, uid: str) -> tuple[str, str]:
        """Return the file of the only component of a kind, and a uid for it if it has none."""
        folder = self._now()
        components = folder.components()
        default = self._path(f"{PARTS[kind]}/{kind}{META}")
        for one in components:
            if one.place == PARTS[kind] and one.document is None:
                raise Refused([f"{one.path} {one.why}. Nothing was written."])
        self._lost(kind)
        found = [one.path for one in components if _is_of(one, kind) or one.path == default]
        if len(found) > 1:
            raise Refused([f"There are several files for the {kind}: {', '.join(found)}. Take out all but one."])
        path = found[0] if found else default
        mine = next((one.field("uid") for one in components if one.path == path), None)
        taken = {one.field("uid") for one in components}
        free = next(name for name in (uid, *(f"{uid}_{number}" for number in range(2, 999))) if name not in taken)
        return path, mine if isinstance(mine, str) and mine else free

    def _lost(self, kind: str) -> None:
        """Refuse to write a second file for what stands where HubSpot does not look."""
        folder = self._now()
        for path in folder.files:
            below = folder.below_source(path)
            if below is None or not path.endswith(META) or str(PurePosixPath(below).parent) == PARTS[kind]:
                continue
            try:
                document = folder.document(path)
            except Unreadable:
                continue
            if document and str(document.value.get("type")).lower() == kind:
                raise Refused([f"{path} is in the wrong folder: move it into {self._path(PARTS[kind])}."])

    def _mark(self, document: Document, uid: str, kind: str) -> None:
        document.put(("uid",), uid)
        have = document.value.get("type")
        if have is not None and str(have).lower() != kind:
            raise Refused([f"A file for the {kind} has the type {quoted(have)}: give it another name, or that type."])
        document.put(("type",), kind)

    def _text(self, url: str) -> str:
        """Return a URL as the file has it: with the profile's variable, if there are profiles."""
        base = self.wanted.base_urls[0]
        return f"${{{VARIABLE}}}{url.removeprefix(base)}" if self.chosen else url

    def _put(self, document: Document, place: Path, value: str, text: str | None = None) -> None:
        """Put a value where it is not yet, whatever variables it is made of; ``text`` is the value as written."""
        node = document.at(place)
        have = node.value if node else None
        is_plain = not (isinstance(have, str) and "${" in have)
        if variables.filled(have, self.variables) != value or (is_plain and text not in (None, have)):
            document.put(place, value if text is None else text)


def _is_of(one: Component, kind: str) -> bool:
    return one.place == PARTS[kind] and str(one.field("type")).lower() == kind


def _entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = words.webhooks_file("")["config"]["subscriptions"]["hubEvents"]
    return found


def _index(document: Document, place: Path, wanted: set[str]) -> int | None:
    node = document.at(place)
    return next(
        (at for at, one in enumerate(node.value if node else []) if isinstance(one, str) and one in wanted), None
    )


def _object(document: Document, place: Path, path: str) -> None:
    _be(document, place, path, dict)


def _list(document: Document, place: Path, path: str) -> None:
    _be(document, place, path, list)


def _be(document: Document, place: Path, path: str, kind: type) -> None:
    """See that there is an object or a list, and refuse what is something else."""
    node = document.at(place)
    if node is None:
        document.put(place, kind())
    elif not isinstance(node.value, kind):
        name = "an object, {…}" if kind is dict else "a list, […]"
        raise Refused([f"{path}: {'.'.join(map(str, place))} has to be {name}. Nothing was written."])
