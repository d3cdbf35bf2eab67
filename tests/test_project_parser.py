"""HubSpot's own reader of projects: it reads what ``project init`` writes, and ``check`` names what it loses.

npm ``@hubspot/project-parsing-lib``, without validation, which would need an account. Source: docs/hubspot.rst (Project
apps).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .peers.node import run
from .project_commands import APP, URL, WEBHOOKS, Json, bot, call, checked, load, save

BASE_SCOPES = [
    *("oauth", "conversations.custom_channels.read", "conversations.custom_channels.write", "conversations.read"),
    *("conversations.write", "conversations.visitor_identification.tokens.create", "crm.objects.contacts.read"),
    *("files.read", "files.write"),
]
SUBSCRIPTIONS = [
    {"subscriptionType": "conversation.newMessage", "active": True},
    {"subscriptionType": "conversation.propertyChange", "propertyName": "assignedTo", "active": True},
    {"subscriptionType": "conversation.propertyChange", "propertyName": "status", "active": True},
    {"subscriptionType": "conversation.propertyChange", "propertyName": "isArchived", "active": True},
    {"subscriptionType": "conversation.deletion", "active": True},
    {"subscriptionType": "conversation.privacyDeletion", "active": True},
]
ODD = '“Größe” \\ "x" 日本 <b>&amp;</b> $1 {y} %s 🙂 \t—'


def odd(length: int) -> str:
    """A name of so many UTF-16 units, with no blank at its ends."""
    text = ODD * 20
    while len(text.encode("utf-16-le")) // 2 > length or text != text.strip():
        text = text[:-1]
    return text + "." * (length - len(text.encode("utf-16-le")) // 2)


@dataclass(frozen=True)
class Setting:
    """Settings of an app, what ``init`` is told, and what HubSpot's reader is to find."""

    settings: Json = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    name: str = "Assistant"
    description: str = "Hands conversations of our assistant over to your team."
    distribution: str = "private"
    bases: tuple[str, ...] = (f"{URL}/hubspot",)
    scopes: tuple[str, ...] = tuple(BASE_SCOPES)
    support: Json | None = None
    profile: str | None = None


SETTINGS = {
    "defaults": Setting(),
    "a name of 200 characters": Setting(arguments=("--name", odd(200)), name=odd(200)),
    "200 letters beyond the basic plane": Setting(arguments=("--name", "🙂" * 100), name="🙂" * 100),
    "a description of 8,192": Setting(
        arguments=("--description", odd(8192)), description=odd(8192), settings={"channel_name": "Acme"}, name="Acme"
    ),
    "three domains and a prefix": Setting(
        settings={
            "public_url": "https://a.example.test/bots,https://b.example.test,http://localhost:5000",
            "url_prefix": "/live",
        },
        bases=("https://a.example.test/bots/live", "https://b.example.test/live", "http://localhost:5000/live"),
    ),
    "contacts are made": Setting(
        settings={"contact_policy": "create"}, scopes=(*BASE_SCOPES, "crm.objects.contacts.write")
    ),
    "scopes of one's own": Setting(
        settings={"scopes": "oauth,conversations.read"}, scopes=("oauth", "conversations.read")
    ),
    "the marketplace, with support": Setting(
        arguments=(
            *("--distribution", "marketplace", "--support-email", "help@example.test"),
            *("--support-url", "https://example.test/help?a=b#c"),
        ),
        distribution="marketplace",
        support={"supportEmail": "help@example.test", "supportUrl": "https://example.test/help?a=b#c"},
    ),
    "a profile": Setting(arguments=("--profile", "staging", "--account", "77"), profile="staging"),
    "two profiles, two domains, all on": Setting(
        settings={
            "public_url": f"{URL},https://old.example.test",
            "contact_policy": "create",
            "journal": "true",
            "client_id": "a-client-id",
            "channel_name": odd(200),
        },
        arguments=(
            *("--profile", "production", "--account", "424242", "--distribution", "marketplace"),
            *("--profile", "Staging2=https://s.example.test", "--account", f"Staging2={2**40}"),
        ),
        name=odd(200),
        distribution="marketplace",
        bases=(f"{URL}/hubspot", "https://old.example.test/hubspot"),
        scopes=(*BASE_SCOPES, "crm.objects.contacts.write"),
        profile="production",
    ),
}


def written(folder: Path, setting: Setting) -> None:
    """A folder as ``init`` leaves it, which ``check`` finds nothing wrong with."""
    with bot(folder.parent / f"{folder.name}-app", **setting.settings) as app:
        call(app, "init", folder, *setting.arguments)
        profile = ("--profile", setting.profile) if setting.profile else ()
        assert checked(app, folder, *profile) == []


# What the reader loses -----------------------------------------------------------------------------------

Damage = Callable[[Path], None]


def move(source: str, target: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).rename(folder / target)

    return damage


def rewrite(path: str, change: Callable[[str], str]) -> Damage:
    return lambda folder: save(folder, path, change((folder / path).read_text(encoding="utf-8")))


def second_app(folder: Path) -> None:
    save(folder, "src/app/zz-hsmeta.json", {**load(folder, APP), "uid": "another_app"})


def with_variable(folder: Path) -> None:
    rewrite(APP, lambda text: text.replace('"Assistant"', '"${port}"'))(folder)


def unfilled(folder: Path) -> None:
    with_variable(folder)
    save(folder, "src/hsprofile.staging.json", {"accountId": 7, "variables": {}})


def linked(folder: Path) -> None:
    """The webhooks' file becomes a link to itself, elsewhere."""
    move(WEBHOOKS, "src/kept.txt")(folder)
    (folder / WEBHOOKS).symlink_to(folder / "src/kept.txt")


def twice(folder: Path) -> None:
    rewrite(WEBHOOKS, lambda text: text.replace('"type":', '"type": "card",\n  "type":', 1))(folder)


APP_UID, WEBHOOKS_UID = "hubspot_hitl_app", "hubspot_hitl_webhooks"


def no_webhooks(seen: Json) -> bool:
    return WEBHOOKS_UID not in seen["nodes"] and APP_UID in seen["nodes"]


def no_link(seen: Json) -> bool:
    return "app" not in seen["nodes"][WEBHOOKS_UID]["componentDeps"]


def no_app(seen: Json) -> bool:
    return APP_UID not in seen["nodes"] and no_link(seen)


def unnamed(seen: Json) -> bool:
    """Left out, and not among those that the reader says that it has left out."""
    return no_webhooks(seen) and not seen["skipped"]


def bom(text: str) -> str:
    return f"\ufeff{text}"


def comment(text: str) -> str:
    return f"// what the app hears\n{text}"


LOSSES: dict[str, tuple[Damage, Callable[[Json], bool], set[str], str | None]] = {
    "webhooks too deep": (
        move(WEBHOOKS, "src/app/webhooks/bot/webhooks-hsmeta.json"),
        lambda seen: no_webhooks(seen) and seen["skipped"] == ["app/webhooks/bot/webhooks-hsmeta.json"],
        {"place", "no webhooks"},
        None,
    ),
    "app too deep": (move(APP, "src/app/bot/app-hsmeta.json"), no_app, {"place", "no app"}, None),
    "webhooks with a byte order mark": (rewrite(WEBHOOKS, bom), unnamed, {"unreadable", "no webhooks"}, None),
    "app with a byte order mark": (rewrite(APP, bom), no_app, {"unreadable", "no app"}, None),
    "webhooks with a comment": (rewrite(WEBHOOKS, comment), unnamed, {"unreadable", "no webhooks"}, None),
    "app with a comment": (rewrite(APP, comment), no_app, {"unreadable", "no app"}, None),
    "webhooks with a comma too many": (
        rewrite(WEBHOOKS, lambda text: text[: text.rindex("}")] + ",}"),
        unnamed,
        {"unreadable", "no webhooks"},
        None,
    ),
    "empty webhooks": (rewrite(WEBHOOKS, lambda _: ""), unnamed, {"unreadable", "no webhooks"}, None),
    "linked webhooks": (linked, unnamed, {"unreadable", "no webhooks"}, None),
    "another name": (
        move(WEBHOOKS, "src/app/webhooks/webhooks-hsmeta.JSON"),
        unnamed,
        {"file name", "no webhooks"},
        None,
    ),
    "type of the webhooks in capitals": (
        rewrite(WEBHOOKS, lambda text: text.replace('"webhooks"', '"Webhooks"')),
        no_link,
        {"unknown type", "no webhooks"},
        None,
    ),
    "type of the app in capitals": (
        rewrite(APP, lambda text: text.replace('"app"', '"App"')),
        lambda seen: no_link(seen) and seen["nodes"][APP_UID]["componentType"] == "APP",
        {"unknown type", "no app"},
        None,
    ),
    "no app": (lambda folder: (folder / APP).unlink(), no_app, {"no app"}, None),
    "two apps": (
        second_app,
        lambda seen: seen["nodes"][WEBHOOKS_UID]["componentDeps"]["app"] == "another_app",
        {"two of a kind"},
        None,
    ),
    "no uid": (
        rewrite(WEBHOOKS, lambda text: text.replace(f'"uid": "{WEBHOOKS_UID}",', "")),
        lambda seen: "undefined" in seen["nodes"],
        {"no uid"},
        None,
    ),
    "a uid with a blank": (
        rewrite(APP, lambda text: text.replace(APP_UID, "my app")),
        lambda seen: seen["refused"] == ["my app"],
        {"bad uid"},
        None,
    ),
    "a uid of 65 characters": (
        rewrite(APP, lambda text: text.replace(APP_UID, "a" * 65)),
        lambda seen: seen["refused"] == ["a" * 65],
        {"bad uid"},
        None,
    ),
    "a uid twice": (
        rewrite(WEBHOOKS, lambda text: text.replace(WEBHOOKS_UID, APP_UID)),
        lambda seen: "Duplicate uid" in seen["error"],
        {"uid twice"},
        None,
    ),
    "a key twice": (
        twice,
        lambda seen: seen["nodes"][WEBHOOKS_UID]["componentType"] == "WEBHOOKS",
        {"key twice"},
        None,
    ),
    "no profile named": (
        with_variable,
        lambda seen: seen["nodes"][APP_UID]["config"]["name"] == "${port}",
        {"no profile", "app's name"},
        None,
    ),
    "a variable that is not there": (
        unfilled,
        lambda seen: "Missing value for port" in seen["error"],
        {"variable missing", "app's name"},
        "staging",
    ),
    "a profile that is not there": (
        lambda _: None,
        lambda seen: "Failed to load profile" in seen["error"],
        {"profile missing"},
        "nowhere",
    ),
    "a source folder that is not there": (
        rewrite("hsproject.json", lambda text: text.replace('"src"', '"source"')),
        lambda seen: "does not exist" in seen["error"],
        {"source folder"},
        None,
    ),
    "a source folder outside": (
        rewrite("hsproject.json", lambda text: text.replace('"src"', '"../src"')),
        lambda seen: "must be within the project" in seen["error"],
        {"source folder"},
        None,
    ),
}


@dataclass
class Read:
    """What HubSpot's reader and ``check`` say of every case."""

    seen: dict[str, Json]
    kinds: dict[str, set[str]]
    folders: dict[str, Path]


@pytest.fixture(scope="module")
def reading(node_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Read:
    """All cases, read by one process of node."""
    root = tmp_path_factory.mktemp("projects")
    asked: list[Json] = []
    names: list[str] = []
    found = Read({}, {}, {})

    def ask(name: str, folder: Path, profile: str | None) -> None:
        names.append(name)
        asked.append({"folder": str(folder), "profile": profile})
        found.folders[name] = folder

    for number, (name, setting) in enumerate(SETTINGS.items()):
        folder = root / f"setting-{number}"
        written(folder, setting)
        ask(name, folder, setting.profile)
        if setting.profile == "production":
            ask("the other profile", folder, "Staging2")
    with ExitStack() as stack:
        app = stack.enter_context(bot(root / "app"))
        for number, (name, (damage, _, _, profile)) in enumerate(LOSSES.items()):
            folder = root / f"loss-{number}"
            call(app, "init", folder)
            damage(folder)
            ask(name, folder, profile)
            more = ("--profile", profile) if profile else ()
            found.kinds[name] = {one["kind"] for one in checked(app, folder, *more)}
    found.seen = dict(zip(names, run(node_library, "parse_projects.mjs", asked), strict=True))
    return found


def app_config(setting: Setting) -> Json:
    """The app's config, as HubSpot shall have it."""
    config: Json = {
        "name": setting.name,
        "description": setting.description,
        "distribution": setting.distribution,
        "auth": {
            "type": "oauth",
            "redirectUrls": [f"{base}/oauth/callback" for base in setting.bases],
            "requiredScopes": list(setting.scopes),
            "optionalScopes": [],
            "conditionallyRequiredScopes": [],
        },
        "permittedUrls": {"fetch": [], "iframe": [], "img": []},
    }
    return config if setting.support is None else {**config, "support": setting.support}


def webhooks_config(base: str) -> Json:
    """The webhooks' config, as HubSpot shall have it."""
    return {
        "settings": {"targetUrl": f"{base}/webhook", "maxConcurrentRequests": 10},
        "subscriptions": {"crmObjects": [], "legacyCrmObjects": [], "hubEvents": SUBSCRIPTIONS},
    }


def nodes(seen: Json) -> dict[str, Any]:
    """The components, with all that HubSpot's reader tells of them but where nothing stands."""
    assert "error" not in seen, seen["error"]
    assert (seen["skipped"], seen["refused"]) == ([], [])
    return dict(seen["nodes"])


def component(uid: str, kind: str, path: str, config: Json, **links: Any) -> Json:
    """A component as HubSpot's reader has it."""
    return {
        "uid": uid,
        "componentType": kind,
        "metaFilePath": path,
        "config": config,
        "componentDeps": links,
        "files": {},
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_hubspots_reader_finds_what_was_wanted(reading: Read, name: str) -> None:
    setting, seen = SETTINGS[name], reading.seen[name]
    assert nodes(seen) == {
        APP_UID: component(APP_UID, "APPLICATION", "app/app-hsmeta.json", app_config(setting)),
        WEBHOOKS_UID: component(
            WEBHOOKS_UID,
            "WEBHOOKS",
            "app/webhooks/webhooks-hsmeta.json",
            webhooks_config(setting.bases[0]),
            app=APP_UID,
            allAppObjects=[],
        ),
    }
    assert seen["project"].keys() == {"name", "srcDir", "platformVersion"}
    assert (seen["project"]["srcDir"], seen["project"]["platformVersion"]) == ("src", "2026.09")


def test_the_other_profile_of_a_folder_has_its_own_address(reading: Read) -> None:
    seen = nodes(reading.seen["the other profile"])
    base = "https://s.example.test/hubspot"
    assert seen[WEBHOOKS_UID]["config"] == webhooks_config(base)
    assert seen[APP_UID]["config"]["auth"]["redirectUrls"][0] == f"{base}/oauth/callback"
    assert load(reading.folders["the other profile"], "src/hsprofile.Staging2.json")["accountId"] == 2**40


@pytest.mark.parametrize("name", LOSSES)
def test_what_hubspots_reader_loses_is_named(reading: Read, name: str) -> None:
    _, is_lost, kinds, _ = LOSSES[name]
    assert is_lost(reading.seen[name]), reading.seen[name]
    assert reading.kinds[name] == kinds
