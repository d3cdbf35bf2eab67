"""Fill a project's ``${NAME}`` from a profile, as HubSpot's tools do. Pure. Source: docs/hubspot.rst (Project apps)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_VARIABLE = re.compile(r"\$\{(.*?)\}")
_ALONE = re.compile(r"\$\{([^}]+)\}")


def is_variable(value: object) -> bool:
    """Return True for a value that HubSpot takes for a profile's variable: text, a number, true or false."""
    return isinstance(value, str | int | float)


def used(value: Any) -> Iterator[str]:
    """Return the names of the variables in a value, also in what is inside of it."""
    if isinstance(value, str):
        yield from _VARIABLE.findall(value)
    elif isinstance(value, list):
        for one in value:
            yield from used(one)
    elif isinstance(value, dict):
        yield from used(list(value.values()))


def filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return a value with its variables filled in; one that the profile does not have stays as it stands.

    A lone ``${NAME}`` becomes what the profile has, a number too; inside of a longer text all become text.
    """
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    if isinstance(value, dict):
        return {key: filled(one, variables) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    alone = _ALONE.fullmatch(value)
    if alone and is_variable(variables.get(alone[1])):
        return variables[alone[1]]
    return _VARIABLE.sub(lambda found: _text(variables.get(found[1]), found[0]), value)


def _text(value: object, otherwise: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if is_variable(value) else otherwise
