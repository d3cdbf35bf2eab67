"""Provide the fixtures. A host overrides ``hitl_app_factory``, and if it likes ``hitl_settings`` or ``user_class``.

All begin with ``hitl_``, and need no others, so that a host may have a ``user`` of its own; ``short.py`` has the short
names. (PYTEST_DONT_REWRITE: the plugin may be imported before pytest gets to see it.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests
from flask import Flask

from ..config import PREFIX
from ..hubspot import signature
from ..runtime import get_runtime
from . import checks
from .agents import Agent
from .captured import CapturedSignals
from .serving import Server
from .stand_in import ANSWER_SECONDS, WIRE_HEAD, HubSpot, running_hubspot
from .users import User
from .waiting import PATIENCE

AppFactory = Callable[[dict[str, str]], Flask]
"""The function that makes a host's app, from settings by name."""
STOP_SECONDS = 5.0
"""Seconds that an app may take to finish, at the end of a test."""

HOW_TO = """\
Tell the test kit how your app is made, in your conftest.py:

    @pytest.fixture
    def hitl_app_factory():
        return create_app    # called with a dict of HUBSPOT_HITL_* settings, which must end up in app.config
"""
"""What a host reads that has not told how its app is made."""


# HubSpot -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def hitl_hubspot_process() -> Iterator[HubSpot]:
    """Run the stand-in for HubSpot: one process for the whole run.

    :returns: the stand-in, with what earlier tests have left in it.
    :raises AssertionError: the stand-in does not start.
    """
    with running_hubspot() as hubspot:
        yield hubspot


@pytest.fixture
def hitl_hubspot(hitl_hubspot_process: HubSpot) -> HubSpot:
    """Provide the stand-in for HubSpot as it was when it started: nobody has written yet, nothing goes wrong.

    :param hitl_hubspot_process: the running stand-in.
    :returns: the stand-in.
    :raises AssertionError: the stand-in has ended.
    """
    hitl_hubspot_process.reset()
    return hitl_hubspot_process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what went over the wire below a test that failed, unless the failure tells itself.

    :param item: the test.
    :param call: how it went.
    :returns: the report; pytest's own hook.
    """
    report = yield
    found = getattr(item, "funcargs", {}).get("hitl_hubspot")
    told = call.excinfo is not None and WIRE_HEAD in str(call.excinfo.value)
    if report.failed and call.when == "call" and isinstance(found, HubSpot) and not told:
        try:
            report.sections.append(("HubSpot", found.wire()))
        except AssertionError as error:  # it is gone, which may be why the test failed
            report.sections.append(("HubSpot", str(error)))
    return report


# The app -------------------------------------------------------------------------------------------------


@pytest.fixture
def hitl_app_factory() -> AppFactory:
    """Override me: return the function that makes your app from a dict of settings.

    :returns: a function that takes a dict of ``HUBSPOT_HITL_*`` settings, and returns a Flask app that has them in its
        config.
    """
    pytest.fail(HOW_TO, pytrace=False)


@pytest.fixture
def hitl_server() -> Iterator[Server]:
    """Hold the address at which the app is served, known before the app is.

    :returns: the server; ``url`` is its address.
    """
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def hitl_settings(hitl_hubspot: HubSpot, hitl_server: Server, tmp_path: Path) -> dict[str, str]:
    """Provide the settings that wire the app to the stand-in, with a fresh SQLite file. Override to add to them.

    :param hitl_hubspot: the stand-in.
    :param hitl_server: the address at which the app is served.
    :param tmp_path: pytest's directory for the test; the database is in it.
    :returns: ``HUBSPOT_HITL_*`` settings by name.
    """
    own = {
        "PUBLIC_URL": hitl_server.url,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'hubspot-hitl.sqlite3'}",
        "DISPATCHER": "thread",
    }
    return hitl_hubspot.env() | {f"{PREFIX}{name}": value for name, value in own.items()}


@pytest.fixture
def hitl_app(
    hitl_app_factory: AppFactory, hitl_settings: dict[str, str], hitl_server: Server, hitl_hubspot: HubSpot
) -> Iterator[Flask]:
    """Serve your app for real; the stand-in delivers to it.

    :param hitl_app_factory: makes your app.
    :param hitl_settings: its settings.
    :param hitl_server: where it is served.
    :param hitl_hubspot: the stand-in that it talks to.
    :returns: the app.
    :raises AssertionError: the app's healthz does not answer 200.
    :raises NotConfigured: the app runs without live agents.
    :raises RuntimeError: the extension is not on the app.
    """
    app = hitl_app_factory(dict(hitl_settings))
    runtime = get_runtime(app)
    settings = runtime.settings
    try:
        for name, used in (("API_BASE_URL", settings.api_base_url), ("PUBLIC_URL", settings.public_url[0])):
            wanted = hitl_settings[f"{PREFIX}{name}"]
            if used != wanted:
                told = f"The app has not taken its settings: {PREFIX}{name} is {used}, not {wanted}."
                pytest.fail(f"{told}\n\n{HOW_TO}", pytrace=False)
        hitl_server.start(app)
        _wait_until_served(f"{hitl_server.url}{settings.url_prefix}/healthz")
        hitl_hubspot.target(settings.webhook_urls()[0])
        yield app
    finally:
        hitl_server.stop()
        runtime.close(STOP_SECONDS)


def _wait_until_served(healthz: str) -> None:
    """Ask the app for its health, so that the extension knows with this first request that it serves."""
    with requests.Session() as http:
        http.trust_env = False
        answer = http.get(healthz, headers={"Connection": "close"}, timeout=ANSWER_SECONDS)
    if answer.status_code != 200:
        raise AssertionError(f"the app is served, but {healthz} answers {answer.status_code}: {answer.text[:200]}")


@pytest.fixture
def hitl_captured_signals(hitl_app: Flask) -> Iterator[CapturedSignals]:
    """Record every signal of the app, from now on.

    :param hitl_app: the app.
    :returns: the record.
    """
    captured = CapturedSignals(hitl_app)
    yield captured
    captured.close()


class SignedWebhook:
    """The type of :func:`signed_webhook`: call it to post to the app's webhook as HubSpot would."""

    def __init__(self, app: Flask, server: Server) -> None:
        """Make it for one app.

        :param app: the app.
        :param server: where the app is served.
        :raises NotConfigured: the app runs without live agents.
        :raises RuntimeError: the extension is not on the app.
        """
        self._runtime = get_runtime(app)
        self._server = server

    def __call__(
        self,
        payload: Any,
        *,
        version: str = "v3",
        secret: str | None = None,
        timestamp: int | str | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Post to the app's webhook as HubSpot would.

        :param payload: bytes are sent as they are, anything else as JSON.
        :param version: the signature's version: ``v1``, ``v2`` or ``v3``.
        :param secret: signs the request; by default the app's client secret.
        :param timestamp: epoch milliseconds; by default now.
        :param url: the URL that is signed; by default the webhook's own.
        :param headers: further headers, over those of the signature.
        :returns: the app's answer.
        :raises ValueError: the version or timestamp can't be signed.
        """
        settings = self._runtime.settings
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        signed = signature.headers(
            version,
            secret=secret or settings.client_secret[0],
            uri=url or settings.webhook_urls()[0],
            body=body,
            timestamp=self._runtime.ledger.now_ms() if timestamp is None else timestamp,
        )
        given = {"Content-Type": "application/json", "Connection": "close", **signed, **(headers or {})}
        to = f"{self._server.url}{settings.url_prefix}/webhook"
        with requests.Session() as http:
            http.trust_env = False
            return http.post(to, data=body, headers=given, timeout=ANSWER_SECONDS)


@pytest.fixture
def hitl_signed_webhook(hitl_app: Flask, hitl_server: Server) -> SignedWebhook:
    """Provide ``signed_webhook(payload)``, which posts to the app's webhook as HubSpot would.

    What is wrong with the request is up to you: another ``secret``, an old ``timestamp`` (epoch milliseconds), another
    ``url`` that was signed, further ``headers``.

    :param hitl_app: the app.
    :param hitl_server: where it is served.
    :returns: a function, see :class:`SignedWebhook`.
    :raises NotConfigured: the app runs without live agents.
    :raises RuntimeError: the extension is not on the app.
    """
    return SignedWebhook(hitl_app, hitl_server)


# The people ----------------------------------------------------------------------------------------------


@pytest.fixture
def hitl_user_class() -> type[User]:
    """Override me if your users are driven through your own routes: return a subclass of ``User``.

    :returns: the class.
    """
    return User


@pytest.fixture
def hitl_user(
    hitl_user_class: type[User], hitl_app: Flask, hitl_server: Server, hitl_hubspot: HubSpot
) -> Iterator[User]:
    """Provide a person who chats with your bot.

    :param hitl_user_class: the person's class.
    :param hitl_app: the app.
    :param hitl_server: where it is served.
    :param hitl_hubspot: the stand-in, which gets a contact for the person.
    :returns: the user.
    """
    found = hitl_user_class(hitl_app, hitl_server.url, hitl_hubspot)
    yield found
    found.close()


@pytest.fixture
def hitl_agent(hitl_hubspot: HubSpot) -> Agent:
    """Provide a live agent in HubSpot, in the newest thread.

    :param hitl_hubspot: the stand-in.
    :returns: the agent.
    :raises AssertionError: the stand-in has ended.
    """
    first = hitl_hubspot.agents()[0]
    return Agent(hitl_hubspot, actor_id=first["id"], name=first["name"])


# Checks --------------------------------------------------------------------------------------------------


class Settle(Protocol):
    """The type of :func:`settle`."""

    def __call__(self, *, timeout: float = PATIENCE) -> None:
        """Wait until nothing is on its way; see :func:`.checks.settle`.

        :param timeout: seconds.
        :raises AssertionError: something was still on its way then; the text names what.
        """
        ...


@pytest.fixture
def hitl_settle(hitl_app: Flask, hitl_hubspot: HubSpot) -> Settle:
    """Provide ``settle()``, which waits until nothing is on its way; after it, what was not seen will not come.

    :param hitl_app: the app.
    :param hitl_hubspot: the stand-in.
    :returns: a function, see :class:`Settle`.
    """

    return partial(checks.settle, hitl_app, hitl_hubspot)


class AssertNothingLost(Protocol):
    """The type of :func:`assert_nothing_lost`."""

    def __call__(self, *, allow_failed: bool = False, timeout: float = PATIENCE) -> None:
        """Wait until everything has settled, then compare; see :func:`.checks.assert_nothing_lost`.

        :param allow_failed: accept messages that were refused, as long as their author is told.
        :param timeout: seconds.
        :raises AssertionError: something is not so; the text lists everything, with what went over the wire.
        """
        ...


@pytest.fixture
def hitl_assert_nothing_lost(hitl_app: Flask, hitl_hubspot: HubSpot) -> AssertNothingLost:
    """Provide ``assert_nothing_lost()``, which compares the app's database with HubSpot when everything has settled.

    :param hitl_app: the app.
    :param hitl_hubspot: the stand-in.
    :returns: a function, see :class:`AssertNothingLost`.
    """

    return partial(checks.assert_nothing_lost, hitl_app, hitl_hubspot)
