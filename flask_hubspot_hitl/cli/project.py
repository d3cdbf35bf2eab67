"""Keep the folder of a project app: ``flask hubspot-hitl project init|check|upload``.

The folder is what HubSpot's own command line uploads. Source: docs/hubspot.rst (Project apps).
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import requests
from flask.cli import AppGroup, with_appcontext

from ..config import PREFIX, Settings
from ..handoffs.words import count
from ..hubspot import project as folders
from ..hubspot.project import Folder, FolderError, Profile, Refused, Wanted
from ..hubspot.project.wanted import DISTRIBUTIONS, PRIVATE_LIMIT, UNLISTED_LIMIT
from ..hubspot.setup import files
from ..portals import arrivals
from ..portals.project import META, remembered, wanted_of
from ..runtime import Runtime
from .common import Command, app_runtime, say

T = TypeVar("T")

UPLOAD_SECONDS = 30.0
WORDS = ("app_id", "client_id", "client_secret", "developer_api_key")
WHERE = (
    ("CLIENT_ID", "Development, Projects, the project, the app, Auth"),
    ("CLIENT_SECRET", "the same page"),
    ("APP_ID", "the number in the address of the app's page"),
    ("DEVELOPER_API_KEY", "Development, Keys"),
)


@click.group(cls=AppGroup)
def project() -> None:
    """Write, check and upload the files of a project app."""


_folder = click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="For machines.")
_profile = click.option("--profile", help="This deployment's, if the folder has several.")


@project.command(cls=Command)
@_folder
@click.option("--name", help="The app's name.")
@click.option("--description", help="What the app is for.")
@click.option("--distribution", type=click.Choice(DISTRIBUTIONS), help="Who may install it; 'private' for a new app.")
@click.option("--support-email", help="Where people who use the app find help.")
@click.option("--support-url", help="The same, a page.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME[=URL]", help="One deployment; this one is first.")
@click.option("--account", "accounts", multiple=True, metavar="[NAME=]NUMBER", help="Which account it is uploaded to.")
@click.option("--yes", is_flag=True, help="Change files that are there without asking.")
@click.option("--plan", "only_plan", is_flag=True, help="Only show what would be written.")
@_json
@with_appcontext
def init(
    folder: Path | None,
    profiles: tuple[str, ...],
    accounts: tuple[str, ...],
    yes: bool,
    only_plan: bool,
    as_json: bool,
    **texts: str | None,
) -> None:
    """Write the files of a project app into DIR, or mend them; what is not ours stays as it is."""
    runtime = app_runtime()
    wanted = wanted_of(runtime.settings, profile=profiles[0].partition("=")[0] if profiles else None, **texts)
    found = _read(runtime, folder)
    try:
        changed = folders.changes(found, wanted, _profiles(profiles, accounts, wanted, runtime.settings))
    except Refused as refused:
        raise click.ClickException("\n".join(refused.problems)) from None
    diffs = {path: _diff(path, found.files.get(path), after) for path, after in changed.items()}
    if not as_json:
        _show(diffs)
    mends = any(path in found.files for path in changed)
    if not only_plan:
        if mends and not yes:
            _ask(as_json)
        _plain_errors(lambda: folders.write(found, changed))
        with runtime.ledger.write() as tx:
            tx.set_meta(META, str(found.root))
            if mends:
                arrivals.forget(tx)
    after = found.with_files(changed)
    facts = {
        "folder": str(found.root),
        "written": not only_plan,
        "files": [
            {"path": path, "change": "changed" if path in found.files else "made", "diff": "".join(diff)}
            for path, diff in diffs.items()
        ],
        "commands": _commands(after, wanted, runtime.settings),
        "where": {f"{PREFIX}{words}": place for words, place in WHERE},
        "by_hand": _by_hand(after, wanted, runtime.settings),
    }
    say(facts, as_json, _lines(facts))


@project.command(cls=Command)
@_folder
@_profile
@_json
@with_appcontext
def check(folder: Path | None, profile: str | None, as_json: bool) -> None:
    """Name what HubSpot would drop or refuse in DIR, and what differs from what this app needs."""
    runtime = app_runtime()
    found = _read(runtime, folder)
    wanted = wanted_of(runtime.settings, profile=profile)
    wrong = folders.differences(found, wanted)
    facts = {
        "folder": str(found.root),
        "profile": folders.profile_of(found, wanted),
        "differences": [one.facts() for one in wrong],
    }
    lines = [line for one in wrong for line in (f"{one.path}: {one.what}", f"  {one.fix}")]
    say(facts, as_json, lines or ["All is well."])
    if wrong:
        raise click.ClickException(f"{count(len(wrong), 'thing')} to mend in {found.root}.")


@project.command(cls=Command)
@_folder
@_profile
@click.option(
    "--env",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write them into this file, as FLASK_{PREFIX}…, instead.",
)
@_json
@with_appcontext
def upload(folder: Path | None, profile: str | None, env: Path | None, as_json: bool) -> None:
    """Give DIR to the stand-in, as 'hs project upload' gives it to HubSpot; print the app's four words as settings."""
    runtime = app_runtime()
    found = _read(runtime, folder)
    base = runtime.settings.api_base_url
    if not runtime.settings.is_stand_in:
        raise click.ClickException(
            f"This is for the stand-in on your own machine, and {PREFIX}API_BASE_URL is {base}. For HubSpot: "
            f"{files.upload(str(found.root), profile, for_stand_in=False)}"
        )
    profile = folders.profile_of(found, wanted_of(runtime.settings, profile=profile))
    texts = {path: raw.decode("utf-8", "replace") for path, raw in found.files.items()}
    facts = _send(base, {"files": texts, "profile": profile, "portal_id": None})
    words = {f"{PREFIX}{word.upper()}": facts[word] for word in WORDS}
    lines = [f"{name}={value}" for name, value in words.items()]
    if env is not None:
        changed = _write_env(env, {f"FLASK_{name}": value for name, value in words.items()})
        lines = [f"{env} has the app's settings." if changed else f"{env} has the app's settings already."]
    for one in facts.get("skipped", ()):
        click.echo(f"Left out: {one['path']}: {one['why']}", err=True)
    say(facts, as_json, lines)
    if env is None and not as_json:
        click.echo("With '--env .env' they are written there, as FLASK_… for app.config.from_prefixed_env().", err=True)


# What the commands share ----------------------------------------------------------------------------------


def _read(runtime: Runtime, folder: Path | None) -> Folder:
    if folder is None:
        with runtime.ledger.read() as tx:
            folder = remembered(tx, runtime.settings)
    if folder is None:
        how = "'flask hubspot-hitl project init DIR' makes one"
        raise click.UsageError(f"Name the project's folder, or set {PREFIX}PROJECT_DIR; {how}.")
    return _plain_errors(lambda: folders.read(folder.absolute()))


def _plain_errors(action: Callable[[], T]) -> T:
    try:
        return action()
    except FolderError as error:
        raise click.ClickException(str(error)) from None


def _profiles(profiles: Sequence[str], accounts: Sequence[str], wanted: Wanted, settings: Settings) -> list[Profile]:
    """The profiles as they were asked for; one without an address is this deployment's."""
    numbers: dict[str, int] = {}
    for one in accounts:
        name, _, number = one.rpartition("=")
        if not (number.isascii() and number.isdecimal() and 0 < int(number) < 2**63):
            raise click.UsageError("--account is a number, such as 424242, or NAME=424242.")
        numbers[name] = int(number)
    found: list[Profile] = []
    for one in profiles:
        name, _, url = one.partition("=")
        if not url and found:
            raise click.UsageError(f"--profile {name}: say where that deployment is, --profile {name}=https://….")
        if url and not urlsplit(url).hostname:
            raise click.UsageError(f"--profile {name}: {url} is no address.")
        base = f"{url.rstrip('/')}{settings.url_prefix}" if url else wanted.base_urls[0]
        if not found and base != wanted.base_urls[0]:
            raise click.UsageError(f"--profile {name}: the first is this deployment's, at {settings.public_url[0]}.")
        found.append(Profile(name, base, numbers.get(name, numbers.get("") if not found else None)))
    unknown = numbers.keys() - {one.name for one in found} - {""}
    if unknown or ("" in numbers and not found):
        raise click.UsageError("--account belongs to a --profile: name it as NAME=NUMBER.")
    return found


def _diff(path: str, before: bytes | None, after: bytes) -> list[str]:
    """Lines of a unified diff, each with its end."""
    have = [] if before is None else before.decode().splitlines(keepends=True)
    want = after.decode().splitlines(keepends=True)
    lines = difflib.unified_diff(have, want, "/dev/null" if before is None else f"a/{path}", f"b/{path}")
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]


def _show(diffs: Mapping[str, list[str]]) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for lines in diffs.values():
        for number, line in enumerate(lines):
            style = {"bold": True} if number < 2 else {"fg": colours.get(line[0])}
            click.echo(click.style(line.rstrip("\r\n"), **style))
        click.echo()


def _ask(as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise click.ClickException("Files that are there would change. Nothing was written: run it again with --yes.")
    click.confirm("Write this?", abort=True)


def _commands(folder: Folder, wanted: Wanted, settings: Settings) -> list[str]:
    if settings.is_stand_in:
        return [files.upload(str(folder.root), wanted.profile, for_stand_in=True)]
    flag = files.flag(folders.profile_of(folder, wanted))
    return [
        "npm install -g @hubspot/cli",
        "hs account auth",
        f"cd {shlex.quote(str(folder.root))}",
        f"hs project validate{flag}",
        f"hs project upload{flag}",
    ]


def _by_hand(folder: Folder, wanted: Wanted, settings: Settings) -> list[str]:
    """What no file can say."""
    found = [str(one) for one in folders.differences(folder, wanted)]
    if wanted.base_urls[0].startswith("http://") and not settings.is_stand_in:
        found.append(f"HubSpot can't reach {wanted.base_urls[0]}: give {PREFIX}PUBLIC_URL an https address.")
    found.append("Custom channels need an account with Sales Hub or Service Hub Professional.")
    found.append(
        f"A private app may be installed in {PRIVATE_LIMIT} accounts, one of the marketplace in {UNLISTED_LIMIT} until "
        "it is listed."
    )
    return found


def _lines(facts: Mapping[str, Any]) -> list[str]:
    head = "Written." if facts["written"] else "Nothing was written: this was the plan."
    lines = [head if facts["files"] else "Nothing to change.", "", "Next, in this order:"]
    lines += [f"  {number}. {command}" for number, command in enumerate(facts["commands"], 1)]
    if len(facts["commands"]) > 1:
        lines += ["", "'hs account auth' asks for a personal access key, and leads to the page that has it.", ""]
        lines += ["After the upload HubSpot has your settings:"]
        lines += [f"  {words}: {place}" for words, place in facts["where"].items()]
    else:
        lines += ["", "It prints the app's settings; with '--env .env' it writes them into that file."]
    lines += ["", "Then 'flask hubspot-hitl install-url', and 'flask hubspot-hitl setup'.", "", "Still by hand:"]
    return [*lines, *(f"  - {one}" for one in facts["by_hand"])]


def _write_env(path: Path, values: Mapping[str, str]) -> bool:
    """Put values into a file of environment variables; other lines stay. Tell whether that changed anything."""
    try:
        before = path.read_bytes().decode() if path.exists() else ""
        after = before if before.endswith("\n") or not before else f"{before}\n"
        for name, value in values.items():
            line = f"{name}={value}\n"
            after, found = re.subn(rf"^{name}=.*\n", line.replace("\\", r"\\"), after, flags=re.MULTILINE)
            after += "" if found else line
        if after != before:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(after.encode())
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} can't be written: {error}.") from None
    return after != before


def _send(base: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Post the files to the stand-in; its answer has the app's words."""
    try:
        with requests.Session() as http:
            http.trust_env = False
            answer = http.post(f"{base}/_control/project", json=body, timeout=UPLOAD_SECONDS, allow_redirects=False)
        found = answer.json()
    except requests.JSONDecodeError:
        found = None
    except requests.RequestException:
        raise click.ClickException(f"Nobody answers at {base}: start 'flask hubspot-hitl simulate' first.") from None
    if answer.status_code == 200 and isinstance(found, dict) and found.keys() >= set(WORDS):
        return found
    why = found.get("message") if isinstance(found, dict) else None
    raise click.ClickException(f"The stand-in refused the folder: {why or f'it answered {answer.status_code}'}")
