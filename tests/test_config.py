"""Settings: every problem at once, every key in its string form, no secret shown (rules A, B1, D; D11)."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import ConfigError
from flask_hubspot_hitl.config import PREFIX, Settings

NEEDED = {"client_secret": "s3cret-of-the-app", "public_url": "https://bot.example.com"}


def read(**values: Any) -> Settings:
    return Settings.from_config({PREFIX + name.upper(): value for name, value in {**NEEDED, **values}.items()})


def problems(**values: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(**values)
    return caught.value.problems


def test_only_the_secret_and_the_public_url_are_needed() -> None:
    settings = read()
    assert settings.webhook_urls() == ("https://bot.example.com/hubspot/webhook",)
    assert (settings.api_version, settings.dispatcher, settings.contact_policy) == (None, "thread", "require")
    assert (settings.rate_limit, settings.start_timeout, settings.lease_ttl) == (100, 5.0, 15.0)
    assert (settings.assignment_timeout, settings.reopen_window, settings.handler_timeout) == (0.0, 86_400.0, 300.0)


def test_every_problem_is_listed_at_once_with_its_name_why_and_an_example() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_config(
            {
                "HUBSPOT_HITL_PUBLIC_URL": "http://bot.example.com",
                "HUBSPOT_HITL_PORTAL_ID": "acme",
                "HUBSPOT_HITL_START_TIMEOUT": "soon",
                "HUBSPOT_HITL_SIGNATURE_VERSIONS": "v2",
                "HUBSPOT_HITL_DISPATCHER": "magic",
            }
        )
    found = caught.value.problems
    assert [line.split()[0].removeprefix(PREFIX) for line in found] == [
        "CLIENT_SECRET",
        "PUBLIC_URL",
        "PORTAL_ID",
        "DISPATCHER",
        "SIGNATURE_VERSIONS",
        "START_TIMEOUT",
    ]
    for line in found:
        assert " Example: " in line
        assert line in str(caught.value)
    assert "is missing" in found[0]
    assert "must be https" in found[1]
    assert "must be one of thread, external, inline" in found[3]
    assert "workflows sign v2" in found[4]


@pytest.mark.parametrize("value", ["v2", "v3,v2", ["v3", "v2"], '["v3", "v2"]'])
def test_b1_v2_is_a_config_error(value: Any) -> None:
    assert "v2" in problems(signature_versions=value)[0]


def test_b1_v1_is_opt_in_and_never_alone() -> None:
    assert read().signature_versions == ("v3",)
    assert read(signature_versions="v3,v1").signature_versions == ("v3", "v1")
    assert "must include v3" in problems(signature_versions="v1")[0]


STRINGS: dict[str, tuple[Any, Any]] = {
    "client_secret": ("one, two", ("one", "two")),
    "public_url": ('["https://a.example/x/", "https://b.example"]', ("https://a.example/x", "https://b.example")),
    "client_id": (" id ", "id"),
    "enabled": ("on", True),
    "dispatcher_max_threads": ("8", 8),
    "app_id": (3131, "3131"),
    "app_kind": ("project", "project"),
    "project_dir": ("hubspot-app", "hubspot-app"),
    "journal": ("on", True),
    "quick_replies": ("on", True),
    "inline_images": ("on", True),
    "developer_api_key": ("key", "key"),
    "portal_id": ("424242", "424242"),
    "channel_id": (100458, "100458"),
    "channel_account_id": ("880011", "880011"),
    "channel_name": (" Acme Assistant ", "Acme Assistant"),
    "channel_logo_url": ("https://bot.example.com/logo.png", "https://bot.example.com/logo.png"),
    "inbox_id": ("700200300,700200999", ("700200300", "700200999")),
    "refresh_token": ("refresh", "refresh"),
    "access_token": ("pat-na1", "pat-na1"),
    "database_url": ("sqlite:////tmp/x.sqlite3", "sqlite:////tmp/x.sqlite3"),
    "dispatcher": ("external", "external"),
    "dispatcher_threads": ("8", 8),
    "url_prefix": ("/bot/hubspot/", "/bot/hubspot"),
    "api_base_url": ("http://127.0.0.1:5080/", "http://127.0.0.1:5080"),
    "api_version": ("2026-09", "2026-09"),
    "oauth_version": ("v1", "v1"),
    "scopes": ("oauth, files", ("oauth", "files")),
    "proxy": ("http://proxy.internal:3128", "http://proxy.internal:3128"),
    "signature_versions": ("v3,v1", ("v3", "v1")),
    "encryption_key": ('["k1","k2"]', ("k1", "k2")),
    "contact_policy": ("create", "create"),
    "history": ("none", "none"),
    "notes_in": ("both", "both"),
    "tickets": ("1", True),
    "agents_may_start": ("true", True),
    "start_timeout": ("2.5", 2.5),
    "assignment_timeout": ("0", 0.0),
    "automation_as_operator": ("on", True),
    "idle_warning": ("60", 60.0),
    "idle_timeout": ("90.5", 90.5),
    "reopen_window": ("0", 0.0),
    "lease_ttl": ("15", 15.0),
    "handler_timeout": (" 300 ", 300.0),
    "max_attempts": ("12", 12),
    "keep_conversations": ("30", 30),
    "availability": ("hubspot", "hubspot"),
    "inbox_members": ("987, A-988,7/team:55", ("987", "A-988", "7/team:55")),
    "business_hours": ("mon-fri 09:00-17:30, sat 10:00-12:00", ("mon-fri 09:00-17:30", "sat 10:00-12:00")),
    "business_time_zone": ("Europe/Madrid", "Europe/Madrid"),
    "business_holidays": ("12-25,2027-03-26", ("12-25", "2027-03-26")),
    "rate_limit": ("190", 190),
    "max_body_bytes": ("4096", 4096),
    "max_attachment_bytes": ("1", 1),
    "log_json": ("1", True),
    "retention": ("86400", 86_400.0),
    "payload_ttl": ("3600", 3_600.0),
    "attachment_hosts": ("a.example, b.example", ("a.example", "b.example")),
    "private_hosts": (" Botpress.internal,[FD00::0:5],10.0.0.7", ("botpress.internal", "fd00::5", "10.0.0.7")),
}


def test_every_key_accepts_its_string_form() -> None:
    missing = {spec.name for spec in fields(Settings)} - STRINGS.keys()
    assert not missing, f"say how {missing} look(s) as a string"
    for name, (given, wanted) in STRINGS.items():
        more = {"client_id": "id"} if name in ("refresh_token", "journal") else {}
        more |= {"business_time_zone": "UTC"} if name in ("business_hours", "business_holidays") else {}
        more |= {"idle_warning": "1"} if name == "idle_timeout" else {}
        assert getattr(read(**{**more, name: given}), name) == wanted, name


BAD: dict[str, list[Any]] = {
    "client_secret": [True, 1.5, "", "  ", [], ["a", ""], {"a": 1}, float("inf"), "a,,b", "[broken"],
    "public_url": [
        "bot.example.com",
        "ftp://bot.example.com",
        "https://",
        "https://bot.example.com/?a=1",
        "https://u@bot.example",
        "https://bot.example.com#x",
        "https://[::1",
        "https://bot.example.com:port",
        "https://bot example.com",
        "https://bot.example.com\n.evil.test",
        "https://bót.example",
        5,
        True,
        "http://localhost.evil.test",
        "http://127.0.0.1.evil.test",
        "//bot.example.com",
    ],
    "attachment_hosts": [
        "https://files.example.com",
        "files.example.com:443",
        "files.example.com/",
        "*",
        "a..b",
        "1.2.3",
    ],
    "private_hosts": [
        "https://botpress.internal",
        "user@botpress.internal",
        "botpress.internal:8443",
        "b\u00f6t",
        "::zz",
    ],
    "portal_id": ["", "x", "-1", "1.0", 1.0, True, "9" * 20, "٤٢", [1], "1,2"],
    "inbox_id": ["a", "1,b", [None], "[]"],
    "database_url": [
        "mysql://x/y",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:////",
        "sqlite://///",
        "sqlite:///hitl\0.db",
        "postgresql://user:pass%00word@host/db",
        "postgresql://host/d\0b",
        5,
        "postgresql://h:port/db",
        "postgresql://[::1/db",
        "postgresql://user:pa@ss@host/db",
        "postgresql://user:pa/ss@word@host/db",
        "postgresql://host1,,host2/db",
        "postgresql://host1:5432:5433/db",
        "postgresql://ho st/db",
        "postgresql://host'/db",
    ],
    "dispatcher": ["", "threads", True, 1],
    "dispatcher_threads": [0, "-1", "2.5", True, "", 10**12, "٤"],
    "url_prefix": ["hubspot", "/", "", "/a b", "//", "/a?b", "/a/../../<b>x"],
    "api_version": ["v4", "2026-3", 3],
    "start_timeout": [0, "0", -1, "nan", "inf", "1e400", True, [], "5s", 10**12],
    "assignment_timeout": [-1, "nan", ""],
    "automation_as_operator": ["maybe", 2],
    "idle_warning": [-1, "nan", ""],
    "max_body_bytes": [0, "1MB"],
    "contact_policy": ["maybe"],
    "history": ["all"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_a_config_error_that_names_its_key(name: str, value: Any) -> None:
    found = problems(**{name: value})
    assert len(found) == 1
    assert found[0].startswith(PREFIX + name.upper())
    if isinstance(value, str) and len(value) > 12 and name in ("client_secret", "database_url"):
        assert value not in found[0]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/d",
        "postgresql+psycopg://u:p@h:5432/d",
        "postgresql://u:p%40ss@h1,h2:5433/d?target_session_attrs=read-write",
        "postgresql://u@[::1]:5432,127.0.0.1/d",
        "postgresql://u@%2Frun%2Fpostgresql/d",
        "postgresql://u:@/d?host=/run/postgresql",
        "postgresql:///d",
    ],
)
def test_a_database_may_have_several_servers(url: str) -> None:
    assert read(database_url=url).database_url == url


def test_none_is_the_same_as_missing() -> None:
    assert read(portal_id=None).portal_id is None
    assert "is missing" in problems(client_secret=None)[0]


@pytest.mark.parametrize("host", ["http://127.0.0.1:5000", "http://localhost", "http://[::1]:8080"])
def test_plain_http_is_for_loopback_only(host: str) -> None:
    assert read(public_url=host).public_url == (host,)


def test_d_secrets_never_show_in_repr() -> None:
    secrets = {
        "client_secret": "sec-1,sec-2",
        "developer_api_key": "sec-3",
        "refresh_token": "sec-4",
        "database_url": "postgresql://u:sec-5@h/d",
        "encryption_key": "sec-6",
        "proxy": "http://u:sec-7@p",
        "client_id": "i",
    }
    assert "sec-" not in repr(read(**secrets))
    assert "sec-" not in repr(read(access_token="sec-8"))


def test_d_a_problem_never_quotes_a_secret() -> None:
    found = problems(client_secret=["hush-hush", ""], refresh_token="hush-1", access_token="hush-2")
    assert len(found) == 3  # the empty secret, both tokens, no client id
    assert "hush" not in " ".join(found)


def test_d_stand_in_secrets_are_refused_off_loopback() -> None:
    given = {
        "client_secret": "sim-client-secret-0001",
        "developer_api_key": "sim-key",
        "refresh_token": "sim-refresh",
        "client_id": "sim-client-0001",
    }
    found = problems(**given)
    assert [line.split()[0] for line in found] == [
        "HUBSPOT_HITL_CLIENT_SECRET",
        "HUBSPOT_HITL_DEVELOPER_API_KEY",
        "HUBSPOT_HITL_REFRESH_TOKEN",
    ]
    assert all("API_BASE_URL" in line for line in found)
    assert "sim-client-secret" not in " ".join(found)
    assert problems(client_secret="right,sim-old")  # any of them
    read(**given, api_base_url="http://127.0.0.1:5080")


def test_a_refresh_token_needs_a_client_id_and_no_access_token() -> None:
    assert "CLIENT_ID" in problems(refresh_token="r")[0]
    assert "both set" in problems(refresh_token="r", client_id="c", access_token="a")[0]


@pytest.fixture
def prefixed_env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in NEEDED.items():
        monkeypatch.setenv(f"FLASK_{PREFIX}{name.upper()}", value)
    return monkeypatch


def from_env() -> Settings:
    app = Flask("bot")
    app.config.from_prefixed_env()
    return Settings.from_config(app.config)


def test_from_prefixed_env_works(prefixed_env: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PORTAL_ID": "424242",
        "INBOX_ID": "[700200300, 700200999]",
        "START_TIMEOUT": "2.5",
        "CLIENT_SECRET": "12345678",
        "API_VERSION": "2026-09",
        "DISPATCHER_THREADS": "8",
        "PUBLIC_URL": '["https://a.example", "https://b.example"]',
    }.items():
        prefixed_env.setenv(f"FLASK_{PREFIX}{name}", value)
    settings = from_env()
    assert (settings.portal_id, settings.inbox_id) == ("424242", ("700200300", "700200999"))
    assert (settings.start_timeout, settings.dispatcher_threads) == (2.5, 8)
    assert settings.client_secret == ("12345678",)
    assert settings.public_url == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("secret", ["12e45678", "1.5", "true", "12e4"])
def test_a_secret_that_the_environment_turned_into_something_else_is_refused(
    prefixed_env: pytest.MonkeyPatch, secret: str
) -> None:
    prefixed_env.setenv(f"FLASK_{PREFIX}CLIENT_SECRET", secret)
    with pytest.raises(ConfigError, match="double quotes"):
        from_env()
    prefixed_env.setenv(f"FLASK_{PREFIX}CLIENT_SECRET", f'"{secret}"')
    assert from_env().client_secret == (secret,)


def test_an_unknown_key_warns_with_did_you_mean(caplog: pytest.LogCaptureFixture) -> None:
    read(portal_idd="424242", nonsense="hush-hush", botpress_url="x")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said[0].endswith("did you mean HUBSPOT_HITL_PORTAL_ID?")
    assert "HUBSPOT_HITL_NONSENSE" in said[1]
    assert len(said) == 2
    assert "hush" not in caplog.text


def test_an_inbox_without_its_account_is_told(caplog: pytest.LogCaptureFixture) -> None:
    read(inbox_id="700200300", portal_id="424242")
    assert not caplog.records
    read(inbox_id="700200300")
    assert "HUBSPOT_HITL_INBOX_ID is ignored" in caplog.text
    assert "HUBSPOT_HITL_PORTAL_ID, which is not set" in caplog.text


def test_a_misspelt_key_is_named_also_when_it_makes_the_settings_fail(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError):
        Settings.from_config({"HUBSPOT_HITL_CLIENT_SECERT": "s", "HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.com"})
    assert "did you mean HUBSPOT_HITL_CLIENT_SECRET?" in caplog.text


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        read().portal_id = "1"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "why", "example"),
    [
        ("https://bot.example.com/hubspot/webhook/", "/hubspot/webhook", "https://bot.example.com"),
        (
            "https://bot.example.com/app/hubspot/oauth/callback",
            "/hubspot/oauth/callback",
            "https://bot.example.com/app",
        ),
        ("https://bot.example.com/hubspot/connect", "/hubspot/connect", "https://bot.example.com"),
        ("https://bot.example.com/hubspot/healthz", "/hubspot/healthz", "https://bot.example.com"),
        ("https://bot.example.com/hubspot/botpress/chat", "/hubspot/botpress/chat", "https://bot.example.com"),
    ],
)
def test_a_public_url_with_a_route_of_ours(given: str, why: str, example: str) -> None:
    [problem] = problems(public_url=given)
    assert problem == (
        f"HUBSPOT_HITL_PUBLIC_URL ends in a route of ours, {why}, which is added to it: leave that out. "
        f"Example: {example}"
    )
    assert read(public_url=given, url_prefix="/crm").public_url == (given.rstrip("/"),)


def test_a_public_url_may_have_the_path_of_its_mount() -> None:
    for url in ("https://bot.example.com/hubspot", "https://bot.example.com/webhook"):
        assert read(public_url=url).public_url == (url,)
    assert problems(public_url="https://bot.example.com/crm/webhook", url_prefix="/crm")


@pytest.mark.parametrize("value", [10**9, "-1", "0.5", "many"])
def test_a_count_that_is_none_or_too_large_is_told_what_it_may_be(value: Any) -> None:
    assert "must be a whole number of at most nine digits" in problems(keep_conversations=value)[0]
