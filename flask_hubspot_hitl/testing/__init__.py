"""A pytest plugin for the tests of a bot: ``pytest_plugins = ["flask_hubspot_hitl.testing"]``.

The host's app is served for real, wired to a stand-in for HubSpot that is a process of its own. Tell the plugin how
your app is made by overriding one fixture, ``hitl_app_factory``; ``fixtures.py`` has them all, and is the plugin to
name if you want none but those that begin with ``hitl_``. Everything waits for what it waits for, at most
:data:`PATIENCE` seconds, and then says what was seen and what went over the wire.

Needs nothing but pytest; ``strategies.py`` needs Hypothesis and is not imported here. (PYTEST_DONT_REWRITE: the
plugin may be imported before pytest gets to see it.)
"""

from __future__ import annotations

from .agents import Agent
from .captured import CapturedSignals
from .fixtures import (
    hitl_agent,
    hitl_app,
    hitl_app_factory,
    hitl_assert_nothing_lost,
    hitl_captured_signals,
    hitl_hubspot,
    hitl_hubspot_process,
    hitl_server,
    hitl_settings,
    hitl_settle,
    hitl_signed_webhook,
    hitl_user,
    pytest_runtest_makereport,
)
from .serving import Server
from .short import (
    agent,
    assert_nothing_lost,
    captured_signals,
    hitl_user_class,
    hubspot,
    settle,
    signed_webhook,
    user,
    user_class,
)
from .stand_in import HubSpot, StandIn, running, running_hubspot
from .users import User
from .waiting import PATIENCE, wait_until

__all__ = [
    "Agent",
    "CapturedSignals",
    "HubSpot",
    "PATIENCE",
    "Server",
    "StandIn",
    "User",
    "agent",
    "assert_nothing_lost",
    "captured_signals",
    "hitl_agent",
    "hitl_app",
    "hitl_app_factory",
    "hitl_assert_nothing_lost",
    "hitl_captured_signals",
    "hitl_hubspot",
    "hitl_hubspot_process",
    "hitl_server",
    "hitl_settings",
    "hitl_settle",
    "hitl_signed_webhook",
    "hitl_user",
    "hitl_user_class",
    "hubspot",
    "pytest_runtest_makereport",
    "running",
    "running_hubspot",
    "settle",
    "signed_webhook",
    "user",
    "user_class",
    "wait_until",
]
