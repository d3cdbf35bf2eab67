"""Give the fixtures their short names: ``user`` is ``hitl_user``. A host that has a ``user`` of its own keeps it.

``pytest_plugins = ["flask_hubspot_hitl.testing.fixtures"]`` has the names with the prefix only.
"""

from __future__ import annotations

import pytest

from .agents import Agent
from .captured import CapturedSignals
from .fixtures import AssertNothingLost, Settle, SignedWebhook
from .stand_in import HubSpot
from .users import User


@pytest.fixture
def hubspot(hitl_hubspot: HubSpot) -> HubSpot:
    """Provide the stand-in for HubSpot as it was when it started.

    :param hitl_hubspot: the stand-in.
    :returns: the same.
    """
    return hitl_hubspot


@pytest.fixture
def captured_signals(hitl_captured_signals: CapturedSignals) -> CapturedSignals:
    """Record every signal of the app, from now on.

    :param hitl_captured_signals: the record.
    :returns: the same.
    """
    return hitl_captured_signals


@pytest.fixture
def signed_webhook(hitl_signed_webhook: SignedWebhook) -> SignedWebhook:
    """Provide ``signed_webhook(payload)``, which posts to the app's webhook as HubSpot would.

    :param hitl_signed_webhook: the function.
    :returns: the same.
    """
    return hitl_signed_webhook


@pytest.fixture
def user_class() -> type[User]:
    """Override me if your users are driven through your own routes: return a subclass of ``User``.

    :returns: the class.
    """
    return User


@pytest.fixture
def hitl_user_class(user_class: type[User]) -> type[User]:
    """Take the class that was named by the short name.

    :param user_class: the class.
    :returns: the same.
    """
    return user_class


@pytest.fixture
def user(hitl_user: User) -> User:
    """Provide a person who chats with your bot.

    :param hitl_user: the person.
    :returns: the same.
    """
    return hitl_user


@pytest.fixture
def agent(hitl_agent: Agent) -> Agent:
    """Provide a live agent in HubSpot, in the newest thread.

    :param hitl_agent: the agent.
    :returns: the same.
    """
    return hitl_agent


@pytest.fixture
def settle(hitl_settle: Settle) -> Settle:
    """Provide ``settle()``, which waits until nothing is on its way; after it, what was not seen will not come.

    :param hitl_settle: the function.
    :returns: the same.
    """
    return hitl_settle


@pytest.fixture
def assert_nothing_lost(hitl_assert_nothing_lost: AssertNothingLost) -> AssertNothingLost:
    """Provide ``assert_nothing_lost()``, which compares the app's database with HubSpot when everything has settled.

    :param hitl_assert_nothing_lost: the function.
    :returns: the same.
    """
    return hitl_assert_nothing_lost
