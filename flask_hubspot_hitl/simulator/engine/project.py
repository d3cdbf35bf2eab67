"""A project's folder as HubSpot's own reader takes it: which components come out, and which are lost without a word.

Judges what a component is and where it lies, not what is in it; that is ``behaviour/uploads.py``.
Source: docs/hubspot.rst (Project apps; What the project reader drops).
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...hubspot import strict_json
from ..model.errors import ApiError
from ..model.world import JSON

PLATFORMS = ("2025.2", "2026.03-beta", "2026.03", "2026.09-beta", "2026.09", "2027.03-beta", "2027.03", "unstable")
ENDING = "-hsmeta.json"
FIELDS = frozenset({"uid", "type", "config", "dependencies", "permissions"})
ONE_OF_A_KIND = frozenset({"api-client", "calling", "mcp-client", "mcp-server", "page", "pages", "scim", "settings"})
SINGLE = ONE_OF_A_KIND | {"telemetry", "webhooks", "webhooks-journal"}
FOLDERS = {
    **{name: name for name in ("app", "cms-assets", "theme")},
    **{name: f"app/{name}" for name in (*SINGLE - {"page"}, "media-bridge", "video-conferencing")},
    "page": "app/pages",
    "app-event": "app/app-events",
    "app-function": "app/functions",
    "app-object": "app/app-objects",
    "app-object-association": "app/app-object-associations",
    "card": "app/cards",
    "crm-bulk-action": "app/actions",
    "marketing-event": "app/marketing-events",
    "workflow-action": "app/workflow-actions",
}
"""Every kind of component, and the folder below ``srcDir`` that it belongs in."""
VARIABLE = re.compile(r"\$\{(.*?)\}")
ALONE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Component:
    """A component that was read; ``path`` is below the project's folder, as all paths here."""

    uid: str
    type: str
    path: str
    config: JSON


@dataclass
class Project:
    """What was read. ``lost`` is what HubSpot's reader drops or does not link, ``wrong`` what validation refuses."""

    name: str = ""
    source: str = ""
    components: list[Component] = field(default_factory=list)
    misplaced: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    account: str | None = None

    def of_type(self, kind: str) -> Component | None:
        """The component of a kind that counts: of two the last."""
        return next((one for one in reversed(self.components) if one.type == kind), None)


def refusal(wrong: list[tuple[str, str]]) -> ApiError:
    """Make the 400 of an upload that fails validation, with everything that is wrong: pairs of file and words."""
    lines = [f"{path}: {why}" for path, why in wrong]
    details = [{"message": why, "in": path, "code": "INVALID"} for path, why in wrong]
    return ApiError(400, "VALIDATION_ERROR", "Project validation failed. " + " / ".join(lines), errors=details)


def parsed(text: str) -> Any:
    """Parse a file as JavaScript does: no byte order mark, no comment. Raises ValueError."""
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark")
    try:
        return strict_json.loads(text.encode())
    except (ValueError, RecursionError):
        raise ValueError("no JSON, which has no comments either") from None


def read(files: Mapping[str, str], profile: str | None) -> Project:
    """Read a project's files.

    :param files: their contents by path below the project's folder, with slashes.
    :param profile: the profile to fill variables from; without one they stay as they stand.
    :raises ApiError: when there is no project to read, or no profile of that name (400).
    """
    made = Project()
    _head(made, files)
    variables = _variables(made, files, profile)
    for path, content in _contents(made, files).items():
        try:
            filled = content if variables is None else _filled_component(content, variables, path)
        except ValueError as problem:
            made.wrong.append((path, str(problem)))
        else:
            _take(made, path, filled)
    _link(made)
    return made


def _head(made: Project, files: Mapping[str, str]) -> None:
    """Read ``hsproject.json``."""
    where = "hsproject.json"
    if where not in files:
        raise refusal([(where, "Could not read hsproject.json")])
    try:
        head = parsed(files[where])
    except ValueError as problem:
        raise refusal([(where, f"Failed to parse hsproject.json: invalid JSON ({problem})")]) from None
    if not isinstance(head, dict):
        raise refusal([(where, "hsproject.json must be a JSON object")])
    lacking = [name for name in ("name", "srcDir", "platformVersion") if not isinstance(head.get(name), str)]
    lacking += [name for name in head if name in ("name", "srcDir", "platformVersion") and head[name] == ""]
    if lacking:
        raise refusal([(where, f"hsproject.json is missing required field(s): {', '.join(lacking)}")])
    if head["platformVersion"] not in PLATFORMS:
        raise refusal([(where, f"Unsupported platform version: '{head['platformVersion']}'")])
    made.name, made.source = head["name"], posixpath.normpath(head["srcDir"])
    if made.source.startswith(("..", "/")):
        raise refusal([(where, '"srcDir" in hsproject.json must be within the project directory')])


def _below(made: Project, path: str) -> str | None:
    """A path below ``srcDir``, or None."""
    if made.source == ".":
        return path
    return path.removeprefix(f"{made.source}/") if path.startswith(f"{made.source}/") else None


def _variables(made: Project, files: Mapping[str, str], profile: str | None) -> JSON | None:
    """The variables of the profile, and its account."""
    if profile is None:
        return None
    name = f"hsprofile.{profile}.json"
    where = posixpath.normpath(posixpath.join(made.source, name))
    try:
        content = parsed(files[where])
    except (KeyError, ValueError):
        raise refusal([(where, f"Failed to load profile {name}")]) from None
    content = content if isinstance(content, dict) else {}
    account, variables = content.get("accountId"), content.get("variables")
    made.account = None if account is None else str(account)
    return variables if isinstance(variables, dict) else {}


def _contents(made: Project, files: Mapping[str, str]) -> dict[str, JSON]:
    """The component files that lie where the reader looks and can be read, in the order of their paths."""
    found, looked_at = {}, 0
    for path in sorted(files):
        below = _below(made, path)
        if below is None or not below.endswith(ENDING) or "node_modules" in below.split("/"):
            continue
        looked_at += 1
        if posixpath.dirname(below) not in FOLDERS.values():
            made.misplaced[path] = "not directly in the folder of a kind of component"
            continue
        try:
            content = parsed(files[path])
        except ValueError as problem:
            made.lost[path] = f"Invalid JSON: {problem}"
            continue
        if isinstance(content, dict):
            found[path] = content
        else:
            made.lost[path] = "not a JSON object"
    if looked_at == len(made.misplaced):
        raise refusal([(made.source, "No *-hsmeta.json files found where components belong"), *made.misplaced.items()])
    return found


def _filled_component(content: JSON, variables: JSON, path: str) -> JSON:
    """Fill a component's uid and config from a profile. Raises ValueError for a variable that is not there."""
    uid = content.get("uid")
    uid = VARIABLE.sub(lambda found: _text(_value(found[1], variables, path)), uid) if isinstance(uid, str) else uid
    return {**content, "uid": uid, "config": filled(content.get("config"), variables, path)}


def filled(value: Any, variables: JSON, path: str) -> Any:
    """Fill variables into a JSON value: one that stands alone keeps its type, else all becomes text."""
    if isinstance(value, dict):
        return {key: filled(item, variables, path) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, variables, path) for item in value]
    if not isinstance(value, str):
        return value
    alone = ALONE.fullmatch(value)
    if alone:
        return _value(alone[1], variables, path)
    return VARIABLE.sub(lambda found: _text(_value(found[1], variables, path)), value)


def _value(name: str, variables: JSON, path: str) -> str | float | bool:
    if name not in variables:
        raise ValueError(f"Missing value for {name} in {path}. Add {name} to your profile variables.")
    value = variables[name]
    if not isinstance(value, str | int | float):
        raise ValueError(f"Invalid value for {name}. Value must be a string, number, or boolean.")
    return value


def _text(value: str | float | bool) -> str:
    """A variable within a text, as JavaScript writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _take(made: Project, path: str, content: JSON) -> None:
    """Judge what a file says that it is, and keep it, or tell what is the matter."""
    extra = sorted(set(content) - FIELDS)
    if extra:
        made.wrong.append((path, f"Unexpected top-level properties found: {', '.join(extra)}"))
    kind, uid, config = content.get("type"), content.get("uid"), content.get("config")
    if not isinstance(kind, str) or not kind:
        made.wrong.append((path, "Missing required field: 'type'"))
    elif kind not in FOLDERS and kind.lower() in FOLDERS:
        made.lost[path] = f"its type is written {kind!r} and not {kind.lower()!r}"
    elif kind not in FOLDERS:
        made.wrong.append((path, f"Unsupported type: {kind}"))
    elif not uid:
        made.lost[path] = "Missing required field: 'uid'"
    elif not isinstance(uid, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", uid):
        made.wrong.append((path, "'uid' should use only letters, numbers, periods, hyphens, and underscores"))
    elif len(uid) > 64:
        made.wrong.append((path, "'uid' must be 64 characters or less"))
    elif not isinstance(config, dict):
        made.wrong.append((path, "Missing required field: 'config'"))
    elif posixpath.dirname(_below(made, path) or "") != FOLDERS[kind]:
        made.wrong.append((path, f"The directory is incorrect for type '{kind}': it belongs in '{FOLDERS[kind]}'"))
    else:
        made.components.append(Component(uid, kind, path, config))


def _link(made: Project) -> None:
    """Link features to the app: of two apps they follow the last, and without one they are lost."""
    for uid, times in Counter(one.uid for one in made.components).items():
        if times > 1:
            paths = [one.path for one in made.components if one.uid == uid]
            made.wrong.append((paths[-1], f"Duplicate uid '{uid}' found in: {', '.join(paths)}"))
    for kind, times in Counter(one.type for one in made.components).items():
        if times > 1 and kind in SINGLE:
            path = next(one.path for one in reversed(made.components) if one.type == kind)
            made.wrong.append((path, f"Only one {kind} component is allowed"))
    app = made.of_type("app")
    for one in list(made.components):
        if one.type == "app" and one is not app:
            made.lost[one.path] = "Only one app component is allowed: everything follows the last"
        elif app is None and FOLDERS[one.type].startswith("app/"):
            made.lost[one.path] = f"This '{one.type}' component must be a child of the 'app' component"
        else:
            continue
        made.components.remove(one)
