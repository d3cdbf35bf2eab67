"""The fixtures. A host overrides ``hitl_app_factory``, and ``hitl_settings`` or ``user_class`` where it wants to."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests
from flask import Flask

from ..config import PREFIX
from ..hubspot import signature
from ..runtime import get_runtime
from . import checks
from .captured import CapturedSignals
from .people import Agent, User
from .serving import Server
from .stand_in import ANSWER_SECONDS, WIRE_HEAD, HubSpot, running_hubspot
from .waiting import PATIENCE

AppFactory = Callable[[dict[str, str]], Flask]
STOP_SECONDS = 5.0

HOW_TO = """\
Tell the test kit how your app is made, in your conftest.py:

    @pytest.fixture
    def hitl_app_factory():
        return create_app    # called with a dict of HUBSPOT_HITL_* settings, which must end up in app.config
"""


# HubSpot -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def hubspot_process() -> Iterator[HubSpot]:
    """The stand-in for HubSpot: one process for the whole run."""
    with running_hubspot() as hubspot:
        yield hubspot


@pytest.fixture
def hubspot(hubspot_process: HubSpot) -> HubSpot:
    """The stand-in as it was when it started: nobody has written yet, nothing goes wrong."""
    hubspot_process.reset()
    return hubspot_process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what went over the wire below a test that failed, unless the failure tells itself."""
    report = yield
    found = getattr(item, "funcargs", {}).get("hubspot")
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
    """Override me: the function that makes your app from a dict of settings."""
    pytest.fail(HOW_TO, pytrace=False)


@pytest.fixture
def hitl_server() -> Iterator[Server]:
    """The address at which the app is served, known before the app is."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def hitl_settings(hubspot: HubSpot, hitl_server: Server, tmp_path: Path) -> dict[str, str]:
    """The settings that wire the app to the stand-in, with a fresh SQLite file. Override to add to them."""
    own = {
        "PUBLIC_URL": hitl_server.url,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'hubspot-hitl.sqlite3'}",
        "DISPATCHER": "thread",
    }
    return hubspot.env() | {f"{PREFIX}{name}": value for name, value in own.items()}


@pytest.fixture
def hitl_app(
    hitl_app_factory: AppFactory, hitl_settings: dict[str, str], hitl_server: Server, hubspot: HubSpot
) -> Iterator[Flask]:
    """Your app, served for real; the stand-in delivers to it."""
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
        hubspot.target(settings.webhook_urls()[0])
        yield app
    finally:
        hitl_server.stop()
        runtime.close(STOP_SECONDS)


def _wait_until_served(healthz: str) -> None:
    """It is up when it answers; with its first request the extension knows that it serves."""
    with requests.Session() as http:
        http.trust_env = False
        answer = http.get(healthz, headers={"Connection": "close"}, timeout=ANSWER_SECONDS)
    if answer.status_code != 200:
        raise AssertionError(f"the app is served, but {healthz} answers {answer.status_code}: {answer.text[:200]}")


@pytest.fixture
def captured_signals(hitl_app: Flask) -> Iterator[CapturedSignals]:
    """Every signal of the app, from now on."""
    captured = CapturedSignals(hitl_app)
    yield captured
    captured.close()


class SignedWebhook(Protocol):
    """See :func:`signed_webhook`."""

    def __call__(
        self,
        payload: Any,
        *,
        version: str = "v3",
        secret: str | None = None,
        timestamp: int | str | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response: ...


@pytest.fixture
def signed_webhook(hitl_app: Flask, hitl_server: Server) -> SignedWebhook:
    """``signed_webhook(payload)`` posts to the app's webhook as HubSpot would: bytes as they are, else as JSON.

    What is wrong with it is up to you: another ``secret``, an old ``timestamp`` (epoch milliseconds), another ``url``
    that was signed, further ``headers``.
    """
    runtime = get_runtime(hitl_app)
    settings = runtime.settings

    def post(
        payload: Any,
        *,
        version: str = "v3",
        secret: str | None = None,
        timestamp: int | str | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        signed = signature.headers(
            version,
            secret=secret or settings.client_secret[0],
            uri=url or settings.webhook_urls()[0],
            body=body,
            timestamp=runtime.ledger.now_ms() if timestamp is None else timestamp,
        )
        own = {"Content-Type": "application/json", "Connection": "close"}
        with requests.Session() as http:
            http.trust_env = False
            return http.post(
                f"{hitl_server.url}{settings.url_prefix}/webhook",
                data=body,
                headers={**own, **signed, **(headers or {})},
                timeout=ANSWER_SECONDS,
            )

    return post


# The people ----------------------------------------------------------------------------------------------


@pytest.fixture
def user_class() -> type[User]:
    """Override me if your users are driven through your own routes: a subclass of ``User``."""
    return User


@pytest.fixture
def user(user_class: type[User], hitl_app: Flask, hitl_server: Server, hubspot: HubSpot) -> Iterator[User]:
    """Somebody who chats with your bot."""
    found = user_class(hitl_app, hitl_server.url, hubspot)
    yield found
    found.close()


@pytest.fixture
def agent(hubspot: HubSpot) -> Agent:
    """A live agent in HubSpot, in the newest thread."""
    first = hubspot.agents()[0]
    return Agent(hubspot, actor_id=first["id"], name=first["name"])


# Checks --------------------------------------------------------------------------------------------------


class Settle(Protocol):
    """See :func:`settle`."""

    def __call__(self, *, timeout: float = PATIENCE) -> None: ...


@pytest.fixture
def settle(hitl_app: Flask, hubspot: HubSpot) -> Settle:
    """``settle()`` waits until nothing is on its way any more; after it, what was not seen will not come."""

    def wait(*, timeout: float = PATIENCE) -> None:
        __tracebackhide__ = True
        checks.settle(hitl_app, hubspot, timeout=timeout)

    return wait


class AssertNothingLost(Protocol):
    """See :func:`assert_nothing_lost`."""

    def __call__(self, *, allow_failed: bool = False, timeout: float = PATIENCE) -> None: ...


@pytest.fixture
def assert_nothing_lost(hitl_app: Flask, hubspot: HubSpot) -> AssertNothingLost:
    """``assert_nothing_lost()`` holds the app's database against HubSpot, when everything has settled."""

    def check(*, allow_failed: bool = False, timeout: float = PATIENCE) -> None:
        __tracebackhide__ = True
        checks.assert_nothing_lost(hitl_app, hubspot, allow_failed=allow_failed, timeout=timeout)

    return check
