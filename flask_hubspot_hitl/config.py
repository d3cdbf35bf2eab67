"""Read ``HUBSPOT_HITL_*`` into one frozen :class:`Settings`, or one :class:`ConfigError` that lists every problem.

Of ours it may import ``errors``, ``ledger.url``, ``hubspot.addresses``, ``hubspot.hours`` and ``hubspot.scopes`` only.
Read once, at ``init_app``.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigError, NotConfigured
from .hubspot import addresses, hours
from .hubspot.scopes import AppKind
from .ledger.url import SCHEMES, split_servers

logger = logging.getLogger(__name__)

PREFIX = "HUBSPOT_HITL_"
ENVIRONMENT = f"FLASK_{PREFIX}"
"""How the environment variables begin that Flask's ``from_prefixed_env()`` reads."""
MOST_THREADS = 64
_DURATION_MAX = 10 * 365 * 86_400.0
_ROUTES = "/webhook|/healthz|/readyz|/connect|/oauth/[a-z]+|/botpress(?:/.*)?"


class _Problem(ValueError):
    """Say why one value is not acceptable; the text completes "HUBSPOT_HITL_X …"."""


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Problem(f"must be text, not {type(value).__name__}")
    text = str(value).strip()
    if not text:
        raise _Problem("is empty")
    return text


def _id(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise _Problem("must be a number, such as 424242")
    return text


def _secret(value: Any) -> str:
    # from_prefixed_env() parses values as JSON: the secret 12e45678 would arrive as the float inf.
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Problem(
            f"must be text, not {type(value).__name__}"
            " (from_prefixed_env() reads values as JSON: put the value in double quotes inside the quotes)"
        )
    if not str(value).strip():
        raise _Problem("is empty")
    return str(value).strip()


def _scope(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise _Problem("must be scopes, such as conversations.read")
    return text


def _list_of(item: Callable[[Any], str]) -> Callable[[Any], tuple[str, ...]]:
    def parse(value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            if value.lstrip().startswith("["):
                try:
                    value = json.loads(value)
                except ValueError:
                    raise _Problem("looks like a JSON list but can't be read") from None
            else:
                value = value.split(",")
        elif not isinstance(value, list | tuple):
            value = [value]
        found = tuple(item(part) for part in value)
        if not found:
            raise _Problem("is empty")
        return found

    return parse


def _split(text: str) -> SplitResult:
    """Return a URL's parts, its port checked."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise _Problem("is not a URL that can be read") from None
    return parts


def _url(value: Any) -> str:
    text = _text(value).rstrip("/")
    try:
        address = addresses.parse(text)
    except addresses.AddressRefused as why:
        raise _Problem(f"{why}: it must be a full URL in plain ASCII (other letters as xn--… or %XX)") from None
    if "?" in text or "#" in text:
        raise _Problem("must have no query and no fragment")
    if address.scheme == "http" and not address.is_loopback:
        raise _Problem("must be https (http only for a loopback address)")
    return text


def _host(value: Any) -> str:
    text = _text(value).removeprefix(".")
    try:
        return addresses.host_of(f"[{text}]" if ":" in text and "[" not in text else text)
    except addresses.AddressRefused:
        raise _Problem("must be names of hosts, without https:// and port") from None


def _database_url(value: Any) -> str:
    text = _text(value)
    if not text.startswith(SCHEMES):
        raise _Problem("must start with sqlite:/// or postgresql://")
    if "\0" in text or ("%00" in text and not text.startswith("sqlite:")):
        raise _Problem("has a NUL character in it (%00), which no name and no password can have")
    if text == "sqlite:///:memory:" or text.startswith("sqlite:///file:") or not text[len("sqlite:///") :].strip("/"):
        raise _Problem("must be a file: what is accepted has to survive a restart")
    if text.startswith("sqlite:") and "?" in text:
        raise _Problem("must be nothing but a path for SQLite: there are no options, and no '?' in a name")
    if not text.startswith("sqlite:"):
        try:
            split_servers(text)
        except ValueError as error:
            raise _Problem(str(error)) from None
    return text


def _prefix(value: Any) -> str:
    text = _text(value).rstrip("/")
    if not re.fullmatch(r"(/[\w.~-]+)+", text):
        raise _Problem("must be a path, such as /hubspot")
    return text


def _seconds(value: Any) -> float:
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        raise _Problem("must be a number of seconds, such as 30") from None
    if not 0 <= seconds <= _DURATION_MAX:
        raise _Problem("must be a number of seconds, zero or more")
    return seconds


def _positive(parse: Callable[[Any], float]) -> Callable[[Any], float]:
    def positive(value: Any) -> float:
        number = parse(value)
        if number <= 0:
            raise _Problem("must be more than zero")
        return number

    return positive


def _count(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value).strip()):
        raise _Problem("must be a whole number of at most nine digits, such as 4")
    if (number := int(value)) < 1:
        raise _Problem("must be at least 1")
    return number


def _days(value: Any) -> int:
    return 0 if str(value).strip() == "0" else _count(value)


def _said(read: Callable[[str], Any]) -> Callable[[Any], str]:
    """Return what takes a text that ``read`` understands, and leaves it as it is."""

    def parse(value: Any) -> str:
        text = _text(value)
        try:
            read(text)
        except ValueError as error:
            raise _Problem(str(error)) from None
        return text

    return parse


def _time_zone(value: Any) -> str:
    text = _text(value)
    if hours.read_zone(text) is None:
        raise _Problem("must be a time zone that this machine knows (if it knows none, install tzdata)")
    return text


def _member(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"(?:[0-9]{1,19}/)?(?:A-|team:)?[0-9]{1,19}", text):
        raise _Problem("must be agents or teams, each for all inboxes or for one, such as A-987,700200300/team:55")
    return text


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = str(value).strip()
        if text not in allowed:
            raise _Problem(f"must be one of {', '.join(allowed)}")
        return text

    return parse


def _switch(value: Any) -> bool:
    found = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "off": False, "no": False}
    text = str(value).strip().lower()
    if text not in found:
        raise _Problem("must be true or false")
    return found[text]


def _signature_version(value: Any) -> str:
    text = _text(value)
    if text == "v2":
        raise _Problem("can't accept v2: HubSpot's workflows sign v2 for any app id an admin types; use v3")
    if text not in ("v3", "v1"):
        raise _Problem("must be v3 or v3,v1")
    return text


def is_loopback(url: str) -> bool:
    """Return True when ``url`` names this machine only."""
    try:
        return addresses.parse(url).is_loopback
    except addresses.AddressRefused:
        return False


def _setting(parse: Callable[[Any], Any], default: Any = MISSING, *, example: str, secret: bool = False) -> Any:
    """Declare a setting: how it is read, its default, an example for the error, and whether ``repr`` hides it."""
    metadata = {"parse": parse, "example": example}
    if default is MISSING:
        return field(repr=not secret, metadata=metadata)
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hold everything read from ``HUBSPOT_HITL_*``. Durations are seconds, ids strings; repr hides secrets."""

    client_secret: tuple[str, ...] = _setting(
        _list_of(_secret), example="the client secret, under Auth in the settings of the app", secret=True
    )
    """Verifies webhooks. Several while the secret is being rotated; the first is used for OAuth."""
    public_url: tuple[str, ...] = _setting(_list_of(_url), example="https://bot.example.com")
    """The address HubSpot calls, with any mount prefix. Several while a domain moves."""
    enabled: bool = _setting(_switch, True, example="true")
    """False: nothing is handed over, and no other setting is read, see :func:`why_off`."""
    client_id: str | None = _setting(_text, None, example="the app's client id")
    app_id: str | None = _setting(_id, None, example="3131")
    app_kind: str | None = _setting(_choice(*AppKind), None, example="project")
    """``project``, ``legacy-public`` or ``legacy-private``. Default: what HubSpot's answers and the store tell."""
    project_dir: str | None = _setting(_text, None, example="hubspot-app")
    """The folder of a project app. Default: the one that ``project init`` wrote last."""
    developer_api_key: str | None = _setting(_secret, None, example="the developer API key", secret=True)
    portal_id: str | None = _setting(_id, None, example="424242")
    channel_id: str | None = _setting(_id, None, example="100458")
    channel_account_id: str | None = _setting(_id, None, example="880011")
    channel_name: str | None = _setting(_text, None, example="Acme Assistant")
    """What ``setup`` names the channel, and its accounts in the inboxes."""
    channel_logo_url: str | None = _setting(_url, None, example="https://bot.example.com/static/logo.png")
    inbox_id: tuple[str, ...] = _setting(_list_of(_id), (), example="700200300")
    """Inboxes or help desks; the first is the default."""
    refresh_token: str | None = _setting(_secret, None, example="the portal's refresh token", secret=True)
    access_token: str | None = _setting(_secret, None, example="a private app's token", secret=True)
    database_url: str | None = _setting(_database_url, None, example="postgresql://user:password@host/bot", secret=True)
    """Default: a SQLite file in the app's instance folder, which a relative path is taken from, too."""
    dispatcher: str = _setting(_choice("thread", "external", "inline"), "thread", example="thread")
    dispatcher_threads: int | None = _setting(_count, None, example="4")
    """Default: 4 in a serving process, 32 in ``flask hubspot-hitl worker``."""
    dispatcher_max_threads: int | None = _setting(_count, None, example="64")
    """How many threads a process may have, with those that wait or hang. Default: see :attr:`most_threads`."""
    url_prefix: str = _setting(_prefix, "/hubspot", example="/hubspot")
    api_base_url: str = _setting(_url, "https://api.hubapi.com", example="https://api.hubapi.com")
    api_version: str | None = _setting(_choice("v3", "2026-03", "2026-09"), None, example="2026-09")
    """Default: the newest for a new store; ``v3`` for one from before, until ``setup --migrate`` moves it."""
    oauth_version: str | None = _setting(_choice("v1", "v3", "2026-03", "2026-09"), None, example="2026-09")
    """Of the token endpoint. Default: as ``api_version``."""
    scopes: tuple[str, ...] = _setting(_list_of(_scope), (), example="oauth,conversations.read")
    """What an installation asks for, when the app has other scopes than the features in use need."""
    proxy: str | None = _setting(_text, None, example="http://proxy.internal:3128", secret=True)
    """Proxy for calls to HubSpot; the environment's proxy settings are not used."""
    journal: bool = _setting(_switch, False, example="true")
    """Whether HubSpot's journal is asked who has installed and uninstalled the app."""
    signature_versions: tuple[str, ...] = _setting(_list_of(_signature_version), ("v3",), example="v3")
    encryption_key: tuple[str, ...] = _setting(
        _list_of(_secret), (), example="a Fernet key; the first encrypts, all decrypt", secret=True
    )
    contact_policy: str = _setting(_choice("require", "create", "anonymous"), "require", example="require")
    history: str = _setting(_choice("note", "message", "none"), "note", example="note")
    quick_replies: bool = _setting(_switch, False, example="true")
    """Whether agents may offer choices, and they come as ``Message.choices``; else as a line of text."""
    inline_images: bool = _setting(_switch, False, example="true")
    """Whether agents may put pictures into their text."""
    notes_in: str | None = _setting(_choice("comment", "ticket", "both"), None, example="both")
    """Where notes go in a help desk: the thread, its ticket, or both. Default: both, where the scopes are granted."""
    tickets: bool = _setting(_switch, False, example="true")
    """Whether ``start(ticket=…)`` may change tickets."""
    availability: str = _setting(_choice("none", "hubspot", "hours"), "none", example="hubspot")
    """What tells whether a live agent is there: HubSpot's users, or ``business_hours`` alone."""
    inbox_members: tuple[str, ...] = _setting(_list_of(_member), (), example="A-987,700200300/team:55")
    """Who answers in an inbox, or in all of them. Default: whoever has had a conversation there."""
    business_hours: tuple[str, ...] = _setting(_list_of(_said(hours.read_line)), (), example="mon-fri 09:00-17:30")
    """For agents who keep no working hours in HubSpot, and for ``availability = hours``."""
    business_time_zone: str | None = _setting(_time_zone, None, example="Europe/Madrid")
    business_holidays: tuple[str, ...] = _setting(_list_of(_said(hours.read_holiday)), (), example="12-25,2027-03-26")
    automation_as_operator: bool = _setting(_switch, False, example="true")
    """Whether a bot or AI agent of HubSpot's that has a conversation counts as its operator."""
    agents_may_start: bool = _setting(_switch, False, example="true")
    """Whether agents may begin conversations, which ``operator_started`` tells of."""
    start_timeout: float = _setting(_positive(_seconds), 5.0, example="5")
    assignment_timeout: float = _setting(_seconds, 0.0, example="300")
    idle_warning: float = _setting(_seconds, 0.0, example="600")
    """Seconds of the user's silence, once an agent has written, after which the host is warned."""
    idle_timeout: float = _setting(_seconds, 0.0, example="900")
    """Seconds of that silence after which the handoff ends; more than ``idle_warning``."""
    reopen_window: float = _setting(_seconds, 86_400.0, example="86400")
    lease_ttl: float = _setting(_positive(_seconds), 15.0, example="15")
    handler_timeout: float = _setting(_positive(_seconds), 300.0, example="300")
    max_attempts: int = _setting(_count, 12, example="12")
    rate_limit: int = _setting(_count, 100, example="100")
    """Requests to HubSpot per ten seconds and portal."""
    max_body_bytes: int = _setting(_count, 1_048_576, example="1048576")
    """A webhook's body may have this many bytes; more is 413."""
    max_attachment_bytes: int = _setting(_count, 20_971_520, example="20971520")
    attachment_hosts: tuple[str, ...] = _setting(_list_of(_host), (), example="files.example.com")
    """Hosts, with their subdomains, that a message's attachments given by URL are fetched from."""
    private_hosts: tuple[str, ...] = _setting(_list_of(_host), (), example="botpress.internal")
    """Hosts, without their subdomains, that may be in a private network: all others have to be public."""
    payload_ttl: float = _setting(_seconds, 86_400.0, example="86400")
    """How long what an event brought is kept once it is done; its dedupe key stays for ``RETENTION``."""
    log_json: bool = _setting(_switch, False, example="true")
    """Whether our loggers write JSON to standard error, one object a line, whatever the host has set up."""
    retention: float = _setting(_positive(_seconds), 7 * 86_400.0, example="604800")
    """How long dedupe keys are kept; older events are acknowledged and ignored."""
    keep_conversations: int = _setting(_days, 400, example="400")
    """Days after which a handoff that has ended is deleted, with all that was said in it; 0: never."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, not_yet: Collection[str] = ()) -> Settings:
        """Read every ``HUBSPOT_HITL_*`` key of a Flask config.

        Each key accepts its string form. None and a missing key are the same.

        :param not_yet: names of fields that have no default and may be missing all the same; they are empty then.
        :raises ConfigError: listing every problem, each with its name, why, and an example.
        """
        problems: list[str] = []
        hint = ""
        values: dict[str, Any] = {}
        for spec in fields(cls):
            raw = config.get(PREFIX + spec.name.upper())
            if raw is None:
                if spec.name in not_yet:
                    values[spec.name] = ()
                elif spec.default is MISSING:
                    problems.append(_missing(spec.name, spec.metadata["example"]))
                    hint = NO_SETTINGS_YET
                continue
            try:
                values[spec.name] = spec.metadata["parse"](raw)
            except _Problem as problem:
                problems.append(_line(spec.name, str(problem), spec.metadata["example"]))
        problems += _across(values)
        for sentence in (*unknown_settings(config), *_not_used(values)):
            logger.warning("%s", sentence)
        if problems:
            raise ConfigError(problems, hint)
        return cls(**values)

    @property
    def most_threads(self) -> int:
        """Return how many threads a process may have that run lanes."""
        return MOST_THREADS if self.dispatcher_max_threads is None else self.dispatcher_max_threads

    @property
    def is_stand_in(self) -> bool:
        """Return True when API_BASE_URL is loopback: a stand-in plays HubSpot."""
        return is_loopback(self.api_base_url)

    def webhook_urls(self) -> tuple[str, ...]:
        """Return the URLs that HubSpot may have signed: every public URL plus our fixed route."""
        return tuple(f"{base}{self.url_prefix}/webhook" for base in self.public_url)

    def public_path(self) -> str:
        """Return where the outside world finds our routes: the public URL's path and our prefix."""
        return urlsplit(self.public_url[0]).path + self.url_prefix

    def oauth_url(self, page: str) -> str:
        """Return the public address of an OAuth page: ``install``, or ``callback``, HubSpot's redirect URL."""
        return f"{self.public_url[0]}{self.url_prefix}/oauth/{page}"

    def connect_url(self) -> str:
        """Return the public address of the page that HubSpot opens when an admin connects the channel to an inbox."""
        return f"{self.public_url[0]}{self.url_prefix}/connect"

    def file_url(self, token: str) -> str:
        """Return the public address of the page that leads to a conversation's file."""
        return f"{self.public_url[0]}{self.url_prefix}/files/{token}"


def _line(name: str, why: str, example: str) -> str:
    return f"{PREFIX}{name.upper()} {why}. Example: {example}"


def _missing(name: str, example: str) -> str:
    """Return the line for a setting that is missing; its example is a line of ``.env``."""
    pasted = f"'<{example}>'" if " " in example else example
    return _line(name, "is missing", f"{ENVIRONMENT}{name.upper()}={pasted}")


NO_SETTINGS_YET = (
    "Names that begin with FLASK_ are environment variables, which app.config.from_prefixed_env() reads before the "
    "extension is made. The command flask reads them from .env; servers such as gunicorn do not: load it for them. "
    "No account at HubSpot? 'flask hubspot-hitl simulate --env' prints settings for a stand-in. "
    f"No live agents here (a build, another command, tests)? {ENVIRONMENT}ENABLED=0"
)
"""What somebody does whose settings are missing."""


@dataclass(frozen=True, slots=True)
class Off:
    """Say that an app hands nothing over, and ``why``. ``is_wanted``: somebody has said so."""

    why: str
    is_wanted: bool
    url_prefix: str

    def error(self) -> NotConfigured:
        """Return what a verb raises that needs live agents."""
        return NotConfigured(f"this app runs without live agents: {self.why}")


def why_off(config: Mapping[str, Any]) -> Off | None:
    """Return why an app runs without live agents; None when it shall have them.

    :param config: the app's. With ``HUBSPOT_HITL_ENABLED = 0`` no other setting needs to be there, or right.
    :raises ConfigError: there is no setting, but the environment has some that nobody has read.
    """
    given = {key for key, value in config.items() if key.startswith(PREFIX) and value is not None}
    unread = sorted(key for key in os.environ if key.startswith((PREFIX, ENVIRONMENT)))
    prefix = config.get(f"{PREFIX}URL_PREFIX")
    prefix = prefix.rstrip("/") if isinstance(prefix, str) and prefix.startswith("/") else "/hubspot"
    if str(config.get(f"{PREFIX}ENABLED", "")).strip().lower() in ("false", "0", "off", "no"):
        return Off(f"{PREFIX}ENABLED is false", True, prefix)
    if given:
        return None
    if unread:
        raise ConfigError(
            [
                f"the environment has {unread[0]}, but no setting has come into app.config: call "
                "app.config.from_prefixed_env() (names with FLASK_ before them) before the extension is made"
            ]
        )
    missing = " and ".join(f"{PREFIX}{spec.name.upper()}" for spec in fields(Settings) if spec.default is MISSING)
    return Off(f"{missing} are missing. {NO_SETTINGS_YET}", False, prefix)


def _wants_client_id(values: Mapping[str, Any]) -> list[str]:
    """Return the settings that need the client id, when there is none."""
    return [name for name in ("refresh_token", "journal") if values.get(name) and not values.get("client_id")]


def _across(values: Mapping[str, Any]) -> list[str]:
    """Return the problems that only show when settings are held against each other."""
    problems = []
    if values.get("refresh_token") and values.get("access_token"):
        problems.append(_line("access_token", "and HUBSPOT_HITL_REFRESH_TOKEN are both set; keep one", "unset it"))
    for name in _wants_client_id(values):
        problems.append(_line("client_id", f"is missing, and {PREFIX}{name.upper()} needs it", "app's id"))
    if "signature_versions" in values and "v3" not in values["signature_versions"]:
        problems.append(_line("signature_versions", "must include v3", "v3,v1"))
    prefix = values.get("url_prefix", "/hubspot")
    for url in values.get("public_url", ()):
        if route := re.fullmatch(f"(.*)({re.escape(prefix)}(?:{_ROUTES}))", url):
            why = f"ends in a route of ours, {route[2]}, which is added to it: leave that out"
            problems.append(_line("public_url", why, route[1]))
    if (values.get("dispatcher_threads") or 0) > (values.get("dispatcher_max_threads") or MOST_THREADS):
        why = f"is more than HUBSPOT_HITL_DISPATCHER_MAX_THREADS, by default {MOST_THREADS}"
        problems.append(_line("dispatcher_threads", why, "4"))
    if trouble := idle_trouble(values.get("idle_warning", 0.0), values.get("idle_timeout", 0.0)):
        problems.append(_line("idle_timeout", trouble, "900"))
    problems += [
        _line(name, f"is missing, and {PREFIX}{why} needs it", example) for name, why, example in _hours(values)
    ]
    why = "is a stand-in's secret, but HUBSPOT_HITL_API_BASE_URL is not loopback"
    return problems + [_line(name, why, "…") for name in _of_a_stand_in(values)]


def _of_a_stand_in(values: Mapping[str, Any]) -> Iterator[str]:
    """Return the settings that hold a stand-in's secret, when HubSpot is called."""
    if is_loopback(values.get("api_base_url", "https://api.hubapi.com")):
        return
    for name in ("client_secret", "developer_api_key", "refresh_token", "access_token"):
        found = values.get(name) or ()
        if any(secret.startswith("sim-") for secret in ((found,) if isinstance(found, str) else found)):
            yield name


def idle_trouble(warning: float, timeout: float) -> str | None:
    """Return why these seconds of a user's silence don't go together: nothing ends that the host was not told of."""
    if not (0 <= warning <= _DURATION_MAX and 0 <= timeout <= _DURATION_MAX):
        return "and idle_warning must be numbers of seconds, zero or more"
    if timeout and not 0 < warning < timeout:
        return "must be more than idle_warning, which must be more than zero: the host is told before it ends"
    return None


def _hours(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Return the settings of business hours that are missing: the name, what needs it, and an example."""
    if values.get("availability") == "hours" and not values.get("business_hours"):
        yield "business_hours", "AVAILABILITY", "mon-fri 09:00-17:30"
    for name in ("business_hours", "business_holidays"):
        if values.get(name) and not values.get("business_time_zone"):
            yield "business_time_zone", name.upper(), "Europe/Madrid"
            return


def _not_used(values: Mapping[str, Any]) -> Iterator[str]:
    """Return a sentence for each setting that belongs to PORTAL_ID when that is missing."""
    for name in ("inbox_id", "channel_account_id"):
        if values.get(name) and not values.get("portal_id"):
            yield f"{PREFIX}{name.upper()} is ignored: it belongs to the account {PREFIX}PORTAL_ID, which is not set"


def unknown_settings(config: Mapping[str, Any]) -> Iterator[str]:
    """Return a sentence for each key of ours that is no setting."""
    known = {PREFIX + spec.name.upper() for spec in fields(Settings)}
    for key in config:
        if key.startswith(PREFIX) and key not in known and not key.startswith(PREFIX + "BOTPRESS_"):
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"Unknown setting {key} is ignored{hint}"
