"""What all CRM records have: properties to ask for and to give, their history, search. Knows no kind of record.

Source: docs/hubspot.rst (Contact search; Contact properties).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from flask import request

from ..engine.simulation import Simulation
from ..model.errors import ApiError
from ..model.properties import NONE, sort_key, stored_key
from ..model.world import JSON, iso, now_ms
from .wire import ANY, Int32, json_body, page, query_list, whole

OPERATORS = frozenset(
    {
        "EQ",
        "NEQ",
        "LT",
        "LTE",
        "GT",
        "GTE",
        "BETWEEN",
        "IN",
        "NOT_IN",
        "HAS_PROPERTY",
        "NOT_HAS_PROPERTY",
        "CONTAINS_TOKEN",
        "NOT_CONTAINS_TOKEN",
    }
)
CATEGORIES = frozenset({"HUBSPOT_DEFINED", "INTEGRATOR_DEFINED", "USER_DEFINED", "WORK"})
FILTER = {"propertyName!": str, "operator!": OPERATORS, "value": str, "highValue": str, "values": [str]}
SEARCH = {
    "filterGroups": [{"filters!": [FILTER]}],
    "properties": [str],
    "sorts": [ANY],  # the documents say strings, the guides objects
    "query": str,
}
ASSOCIATION = {"to!": {"id!": str}, "types!": [{"associationCategory!": CATEGORIES, "associationTypeId!": Int32}]}
NEW: JSON = {"properties!": {}, "associations": [ASSOCIATION], "objectWriteTraceId": str}
MAX_GROUPS, MAX_FILTERS, MAX_TOTAL, MAX_BODY, MAX_RESULTS = 6, 6, 18, 3000, 10_000


class Searched(Protocol):
    """What is searched: anything that says when it was made."""

    created_ms: int


T = TypeVar("T", bound=Searched)


def has_token(value: str, wanted: str) -> bool:
    """Return True when CONTAINS_TOKEN holds: one of the words matches, with ``*`` as a wildcard."""
    words = [value, *re.split(r"[\s;,]+", value), *re.split(r"[^\w]+", value)]
    return any(fnmatch.fnmatchcase(word, re.sub(r"([\[?])", r"[\1]", wanted)) for word in words if word)


def matches(values: dict[str, str | None], item: JSON) -> bool:
    """Return True when a filter of the search holds. Strings are compared without regard to case."""
    operator, name = str(item["operator"]), item["propertyName"]
    value = (values.get(name) or "").lower()
    if operator.endswith("HAS_PROPERTY"):
        return bool(value) == (operator == "HAS_PROPERTY")
    if operator in ("IN", "NOT_IN"):
        if not item.get("values"):
            raise ApiError.invalid("filterGroups", f"{operator} needs `values`")
        # IN and NOT_IN compare with lower-case values only (docs/hubspot.rst: Contact search)
        return bool(value) and (value in list(item["values"])) == (operator == "IN")
    if item.get("value") is None:
        raise ApiError.invalid("filterGroups", f"{operator} needs `value`")
    wanted = str(item["value"]).lower()
    if operator == "BETWEEN" and item.get("highValue") is None:
        raise ApiError.invalid("filterGroups", "BETWEEN needs `highValue`")
    if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        return has_token(value, wanted) == (operator == "CONTAINS_TOKEN")
    return compares(name, values.get(name), operator, item)


def compares(name: str, value: str | None, operator: str, item: JSON) -> bool:
    """Return True when a value compares so: dates and numbers by what they mean. Raises ApiError (400)."""
    try:
        wanted, highest = (sort_key(name, item.get(one)) for one in ("value", "highValue"))
    except ValueError as problem:
        raise ApiError.invalid("filterGroups", f"the value for {name[:60]} {problem}") from None
    found = stored_key(name, value)
    if operator == "NEQ":
        return found != wanted
    return (
        found != NONE
        and {
            "EQ": found == wanted,
            "BETWEEN": wanted <= found <= highest,
            "LT": found < wanted,
            "LTE": found <= wanted,
            "GT": found > wanted,
            "GTE": found >= wanted,
        }[operator]
    )


def found(
    sim: Simulation,
    items: Iterable[T],
    values_of: Callable[[T], dict[str, str | None]],
    queried: Iterable[str],
    shape: Callable[[T, list[str] | None], JSON],
) -> JSON:
    """Answer the request's search among some records.

    :param values_of: gives all property values of a record.
    :param queried: the properties that ``query`` looks at.
    :param shape: the record as JSON, with the properties asked for.
    """
    if len(request.get_data()) > MAX_BODY:
        raise ApiError.invalid("body", f"must not be longer than {MAX_BODY} characters")
    body = json_body(SEARCH)
    groups = body.get("filterGroups") or []
    sizes = [len(group["filters"]) for group in groups]
    if len(groups) > MAX_GROUPS or max(sizes, default=0) > MAX_FILTERS or sum(sizes) > MAX_TOTAL:
        raise ApiError.invalid("filterGroups", "too many filters")
    query = (body.get("query") or "").lower()
    hits = []
    indexed_ms = now_ms() - round(sim.chaos.search_lag * 1000)
    for item in items:
        if item.created_ms > indexed_ms:
            continue
        values = values_of(item)
        if query and not any(query in (values.get(name) or "").lower() for name in queried):
            continue
        verdicts = [[matches(values, one) for one in group["filters"]] for group in groups]
        if not groups or any(all(verdict) for verdict in verdicts):
            hits.append(item)
    for rule in (body.get("sorts") or [])[:1]:
        descending = isinstance(rule, dict) and rule.get("direction") == "DESCENDING"
        name = str(rule.get("propertyName") if isinstance(rule, dict) else rule)
        descending, name = descending or name.startswith("-"), name.lstrip("-")
        hits.sort(key=lambda one: stored_key(name, values_of(one).get(name)), reverse=descending)
    names = body.get("properties") or None
    limit = whole(10 if body.get("limit") is None else body["limit"], "limit", 1, 200)
    after = body.get("after") or "0"
    if whole(after, "after", 0, 10**9) + limit > MAX_RESULTS:
        raise ApiError.invalid("after", f"a search gives {MAX_RESULTS} results at most")
    size = sim.chaos.page_size
    answer = page(hits, lambda one: shape(one, names), page_size=size, total=False, after=after, limit=limit)
    return {"total": len(hits), **answer}


# --- properties


def asked_properties(parameter: str = "properties") -> list[str] | None:
    """Return the names in the query, repeated or separated by commas."""
    return [name for name in query_list(parameter) if name and "," not in name] or None


def asked_history() -> list[str] | None:
    """Return the names of the properties to tell with their history."""
    return asked_properties("propertiesWithHistory")


def given_properties(body: JSON) -> dict[str, str | None]:
    """Return the properties of a write; values must be strings (numbers and booleans become one). "" takes one away."""
    answer: dict[str, str | None] = {}
    for name, value in body["properties"].items():
        if value is None or isinstance(value, dict | list):
            raise ApiError.invalid(f"properties.{name[:60]}", "must be a string")
        text = str(value).lower() if isinstance(value, bool) else str(value) or None
        try:
            sort_key(name.lower(), text)
        except ValueError as problem:
            raise ApiError.invalid(f"properties.{name[:60]}", str(problem)) from None
        answer[name.lower()] = text
    return answer


def history_of(names: list[str], past: Callable[[str], list[tuple[str, int]]]) -> JSON:
    """Return lists of ``ValueWithTimestamp``, newest first, of the properties that have a value or had one."""
    told = {name: past(name) for name in names}
    return {
        name: [{"value": value, "timestamp": iso(ms), "sourceType": "INTEGRATION"} for value, ms in kept]
        for name, kept in told.items()
        if kept
    }
