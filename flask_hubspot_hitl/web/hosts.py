"""Serve a blueprint under every host name, in apps that match hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, current_app, request
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState

_HOST = "hubspot_hitl_host"


class AnyHost(Blueprint):
    """Serve its routes for whatever host is asked for, in apps with ``host_matching`` too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url_value_preprocessor(_forget_host)
        self.url_defaults(_same_host)

    def make_setup_state(
        self, app: App, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        return _AnyHostState(self, app, options, first_registration)


class _AnyHostState(BlueprintSetupState):
    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: Callable[..., Any] | None = None, **options: Any
    ) -> None:
        if self.app.url_map.host_matching:  # else a rule without a host is for the empty host, which nobody asks for
            options.setdefault("host", f"<{_HOST}>")
        super().add_url_rule(rule, endpoint, view_func, **options)


def _forget_host(endpoint: str | None, values: dict[str, Any] | None) -> None:
    if values is not None:
        values.pop(_HOST, None)


def _same_host(endpoint: str, values: dict[str, Any]) -> None:
    if current_app.url_map.is_endpoint_expecting(endpoint, _HOST):
        values.setdefault(_HOST, request.host)
