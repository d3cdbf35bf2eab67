"""Find what HubSpot would drop or refuse in a project's folder, and where it differs from what is wanted. Pure.

HubSpot's own reader leaves most of this out without a word when it does not validate. Source: docs/hubspot.rst (Project
apps; What the project reader drops).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from . import profiles
from .document import Unreadable
from .folder import META, PARTS, PLACES, SINGLE, Component, Folder, inside
from .kinds import INIT, Difference, Kind
from .values import app_values, webhook_values
from .wanted import APP_FILE, PLATFORM_VERSION, PROJECT_FILE, UID, WEBHOOKS_FILE, Wanted, quoted

TOP_LEVEL = ("uid", "type", "config", "dependencies", "permissions")


def differences(folder: Folder, wanted: Wanted) -> list[Difference]:
    """Return everything that is wrong in a folder, in the order in which it should be mended; [] when all is well."""
    found = list(_project(folder))
    if any(one.kind in (Kind.NO_PROJECT, Kind.SOURCE) for one in found):
        return found
    components = folder.components()
    found += [*_files(folder), *(one for component in components for one in _component(component))]
    found += [*_links(components), *_profiles(folder, components, wanted)]
    profile = profile_of(folder, wanted)
    variables = folder.variables(profile) if profile else {}
    for name, values in (("app", app_values), ("webhooks", webhook_values)):
        for component in of_kind(components, name)[:1]:
            config = profiles.filled(component.field("config"), variables)
            if isinstance(config, dict):
                found += [Difference(kind, component.path, what, fix) for kind, what, fix in values(config, wanted)]
            else:
                found.append(Difference(Kind.NO_CONFIG, component.path, "It has no config.", INIT))
    return found


def of_kind(components: list[Component], kind: str) -> list[Component]:
    """Return the components that HubSpot takes for this kind."""
    return [one for one in components if one.field("type") == kind]


def profile_of(folder: Folder, wanted: Wanted) -> str | None:
    """Return this deployment's profile: the one that is named, the only one, or the one with our URL."""
    names = folder.profiles()
    if wanted.profile is not None or not names:
        return wanted.profile
    if len(names) == 1:
        return next(iter(names))
    ours = [name for name in names if wanted.base_urls[0] in folder.variables(name).values()]
    return ours[0] if len(ours) == 1 else None


def _project(folder: Folder) -> Iterator[Difference]:
    try:
        document = folder.document(PROJECT_FILE)
    except Unreadable as error:
        yield Difference(Kind.PROJECT_FILE, PROJECT_FILE, f"It {error}.", "Mend the file.")
        return
    if document is None:
        yield Difference(Kind.NO_PROJECT, PROJECT_FILE, "There is no project in this folder.", INIT)
        return
    for key in sorted(set(document.twice)):
        yield _twice(PROJECT_FILE, key)
    for key in ("name", "srcDir", "platformVersion"):
        if not document.value.get(key):
            yield Difference(Kind.PROJECT_FILE, PROJECT_FILE, f"It has no {key}.", INIT)
    version = document.value.get("platformVersion")
    if version and not is_new_enough(version):
        what = f"The platformVersion is {quoted(version)}, and {PLATFORM_VERSION} is wanted."
        yield Difference(Kind.PLATFORM, PROJECT_FILE, what, INIT)
    source = document.value.get("srcDir")
    if source and inside(source) is None:
        what = f"The srcDir {quoted(source)} leads out of the project."
        yield Difference(Kind.SOURCE, PROJECT_FILE, what, 'Write "srcDir": "src".')
    elif source and not any(folder.below_source(path) for path in {*folder.files, *folder.in_the_way} - {PROJECT_FILE}):
        what = f"The srcDir {quoted(source)} holds no file of a project."
        yield Difference(Kind.SOURCE, PROJECT_FILE, what, f"Name the folder that holds app/. {INIT}")
    if "node_modules" in str(folder.root.absolute()):
        what = "HubSpot's tools read nothing in a folder with node_modules in its address."
        yield Difference(Kind.SOURCE, ".", what, "Move the project elsewhere.")


def is_new_enough(version: object) -> bool:
    """Return True for the platform version that the files are written for, and for later ones."""
    return isinstance(version, str) and bool(re.fullmatch(r"\d{4}\.\d\d", version)) and version >= PLATFORM_VERSION


def _twice(path: str, key: str) -> Difference:
    what = f"The key {quoted(key)} is there twice, and HubSpot takes the last."
    return Difference(Kind.KEY_TWICE, path, what, "Take one out.")


def _files(folder: Folder) -> Iterator[Difference]:
    """What HubSpot's reader does not even look at."""
    for path in sorted({*folder.files, *folder.in_the_way}):
        below = folder.below_source(path)
        if below is None or path == PROJECT_FILE:
            continue
        place, _, name = below.rpartition("/")
        if name.endswith(META):
            if place not in PLACES:
                what = f"HubSpot does not look for components in {quoted(place)}, and leaves the file out."
                yield Difference(Kind.PLACE, path, what, _where_to(folder, path))
        elif "hsmeta" in name.lower():
            what = f"HubSpot reads files that end in {META} only, and leaves this one out."
            yield Difference(Kind.NAME, path, what, f"Name it {name.split('hsmeta')[0].rstrip('-._') or 'app'}{META}.")
        elif path in folder.in_the_way and path not in folder.profiles().values():
            yield Difference(Kind.UNREADABLE, path, f"It {folder.in_the_way[path]}.", "Mend it.")


def _where_to(folder: Folder, path: str) -> str:
    try:
        document = folder.document(path)
    except Unreadable:
        document = None
    kind = document.value.get("type") if document else None
    place = PARTS.get(kind.lower()) if isinstance(kind, str) else None
    return f"Move it directly into {folder.source}/{place or '… the folder of its kind'}."


def _component(one: Component) -> Iterator[Difference]:
    if one.document is None:
        yield Difference(Kind.UNREADABLE, one.path, f"It {one.why}. HubSpot leaves it out.", "Mend the file.")
        return
    for key in sorted(set(one.document.twice)):
        yield _twice(one.path, key)
    for key in one.document.value.keys() - set(TOP_LEVEL):
        what = f"The key {quoted(key)} is none of {', '.join(TOP_LEVEL)}: HubSpot refuses the file."
        yield Difference(Kind.UNKNOWN_KEY, one.path, what, "Take it out.")
    uid, kind = one.field("uid"), one.field("type")
    if uid is None or uid == "":
        yield Difference(Kind.NO_UID, one.path, "It has no uid.", INIT)
    elif not isinstance(uid, str) or (not UID.fullmatch(uid) and "${" not in uid):
        what = f"The uid {quoted(uid)} is not 1 to 64 letters, digits, dots, hyphens and underscores of ASCII."
        yield Difference(Kind.BAD_UID, one.path, what, "Write another one.")
    if kind is None or kind == "":
        yield Difference(Kind.NO_TYPE, one.path, "It has no type.", INIT)
    elif not isinstance(kind, str) or kind not in PARTS:
        near = kind.lower() if isinstance(kind, str) else ""
        what = f"The type {quoted(kind)} is unknown to HubSpot, which links nothing to it and it to nothing."
        yield Difference(Kind.UNKNOWN_TYPE, one.path, what, f"Write {quoted(near if near in PARTS else '…')}.")
    elif PARTS[kind] != one.place:
        what = f"A component of type {quoted(kind)} does not belong into {quoted(one.place)}: HubSpot refuses it."
        yield Difference(Kind.PLACE, one.path, what, f"Move it into {PARTS[kind]}.")


def _links(components: list[Component]) -> Iterator[Difference]:
    if not of_kind(components, "app"):
        what = "There is no app that HubSpot could read; whatever belongs to it, the webhooks too, is linked to none."
        yield Difference(Kind.NO_APP, APP_FILE, what, f"Mend its file, if it is there. {INIT}")
    if not of_kind(components, "webhooks"):
        what = "There are no webhooks that HubSpot could read: the app would hear nothing."
        yield Difference(Kind.NO_WEBHOOKS, WEBHOOKS_FILE, what, f"Mend the file, if it is there. {INIT}")
    kinds = Counter(kind for one in components if isinstance(kind := one.field("type"), str) and kind in SINGLE)
    for kind, count in kinds.items():
        if count > 1:
            paths = [one.path for one in of_kind(components, kind)]
            what = f"There are {count} components of type {quoted(kind)}, and HubSpot takes one: {', '.join(paths)}."
            more = " Webhooks follow one of the apps, whichever is read last." if kind == "app" else ""
            yield Difference(Kind.TWO_OF_A_KIND, paths[-1], what + more, "Take the others out.")
    uids = Counter(uid for one in components if isinstance(uid := one.field("uid"), str) and uid)
    for uid, count in uids.items():
        if count > 1:
            paths = [one.path for one in components if one.field("uid") == uid]
            what = f"The uid {quoted(uid)} is in {', '.join(paths)}: HubSpot refuses the project."
            yield Difference(
                Kind.UID_TWICE, paths[-1], what, "Give each a uid of its own; an app that exists keeps its."
            )


def _profiles(folder: Folder, components: list[Component], wanted: Wanted) -> Iterator[Difference]:
    names = folder.profiles()
    need = {one.path: sorted({*profiles.used([one.field("uid"), one.field("config")])}) for one in components}
    accounts: dict[Any, str] = {}
    for name, path in names.items():
        try:
            document = folder.document(path)
        except Unreadable as error:
            yield Difference(Kind.PROFILE, path, f"It {error}.", "Mend the file.")
            continue
        value = document.value if document else {}
        account = value.get("accountId")
        if not isinstance(account, int) or isinstance(account, bool) or account <= 0:
            what = "It has no accountId, the number of the account that this profile is uploaded to."
            yield Difference(Kind.PROFILE, path, what, 'Write "accountId": and the number of the account.')
        elif account in accounts:
            what = f"{accounts[account]} names the account {account} too: who uploads last overwrites the other's app."
            yield Difference(Kind.PROFILE, path, what, "Upload each profile to an account of its own.")
        else:
            accounts[account] = path
        yield from _variables(folder, name, path, need)
    if wanted.profile is not None and wanted.profile not in names:
        path = f"{folder.source}/hsprofile.{wanted.profile}.json"
        fix = f"Name one that is there ({', '.join(names) or 'there is none'}), or run 'project init' with --profile."
        yield Difference(Kind.PROFILE_MISSING, path, f"There is no profile {quoted(wanted.profile)}.", fix)
    elif profile_of(folder, wanted) is None:
        for path in (path for path, words in need.items() if words):
            spelled = ", ".join(f"${{{word}}}" for word in need[path])
            what = f"It has {spelled}, which stays as it stands when no profile is named."
            fix = (
                f"Name one with --profile: {', '.join(names)}." if names else "Make one: 'project init' with --profile."
            )
            yield Difference(Kind.NO_PROFILE, path, what, fix)


def _variables(folder: Folder, name: str, path: str, need: dict[str, list[str]]) -> Iterator[Difference]:
    have = folder.variables(name)
    for word, value in have.items():
        if not profiles.is_variable(value):
            what = f"The variable {quoted(word)} is no text, no number and neither true nor false."
            yield Difference(Kind.PROFILE, path, what, "Give it such a value.")
    for user, words in need.items():
        for word in words:
            if word not in have:
                what = f"The variable {quoted(word)} is missing, and {user} uses it."
                yield Difference(Kind.VARIABLE_MISSING, path, what, f"Add it to the variables of {path}.")
