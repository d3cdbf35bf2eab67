"""Read a bridge's options: given to its constructor, or ``HUBSPOT_HITL_BOTPRESS_<OPTION>`` in the app's config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from ..config import PREFIX
from ..errors import ConfigError
from ..hubspot import addresses

SECRET_LENGTH = 16
"""Characters that a secret must have at least."""


class Options:
    """Read the options of one bridge, and report everything that is wrong with them at once: see :meth:`check`."""

    def __init__(self, app: Flask) -> None:
        self._config = app.config
        self._problems: list[str] = []

    def secret(self, name: str, given: object, *, example: str, required: bool = True) -> str:
        """Return a secret of at least :data:`SECRET_LENGTH` characters; "" when it is not required and missing."""
        value = self.text(name, given, example, required=required)
        if value and len(value) < SECRET_LENGTH:
            self._problem(name, f"is shorter than {SECRET_LENGTH} characters", example)
        return value

    def url(self, name: str, given: object, *, example: str, default: str | None = None, required: bool = True) -> str:
        """Return a service's base URL without a slash at its end: https, or http on this machine."""
        value = self.text(name, given, example, default=default, required=required).rstrip("/")
        if not value:
            return value
        try:
            address = addresses.parse(value)
        except addresses.AddressRefused as why:
            self._problem(name, f"{why}: it must be a full URL in plain ASCII", example)
            return value
        if "?" in value or "#" in value:
            self._problem(name, "must be a URL without query", example)
        elif address.scheme == "http" and not address.is_loopback:
            self._problem(name, "must be https (http is for this machine only)", example)
        return value

    def choice(self, name: str, given: object, *allowed: str) -> str:
        """Return one of the allowed values, the first by default."""
        value = self.text(name, given, allowed[0], default=allowed[0])
        if value not in allowed:
            self._problem(name, f"must be one of {', '.join(allowed)}", allowed[0])
        return value

    def number(self, name: str, given: object, *, default: float) -> float:
        """Return a number of zero or more."""
        value = self.text(name, given, str(default), default=str(default))
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < 10**9:
            self._problem(name, "must be a number, zero or more", str(default))
        return number

    def callback(self, name: str, given: object) -> Callable[..., Any]:
        """Return a callable of the host's; it can only be given to the constructor."""
        if not callable(given):
            self._problems.append(f"{name}= must be a callable of yours, given to the bridge's constructor")
        return given  # type: ignore[return-value]  # check() raises first

    def check(self) -> None:
        """End the reading.

        :raises ConfigError: one or more options are wrong; the error lists all of them.
        """
        if self._problems:
            raise ConfigError(self._problems)

    def text(self, name: str, given: object, example: str, *, default: str | None = None, required: bool = True) -> str:
        """Return any text; "" when it is not required and missing."""
        value = given if given is not None else self._config.get(f"{PREFIX}BOTPRESS_{name.upper()}", default)
        if value is None or value == "":
            if required:
                self._problem(name, "is missing", example)
            return ""
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            self._problem(name, "must be text", example)
            return ""
        return str(value).strip()

    def _problem(self, name: str, why: str, example: str) -> None:
        self._problems.append(f"{PREFIX}BOTPRESS_{name.upper()} (or {name}=) {why}. Example: {example}")
