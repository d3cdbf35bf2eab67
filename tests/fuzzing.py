"""Ask a stand-in whatever its documents allow, and whatever they do not; alone, and in walks through what was made.

``HUBSPOT_FUZZ=200`` (examples for each operation and mode, walks for each document) searches longer, and at random;
otherwise every run asks the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from .helpers import Json

EXAMPLES = int(os.environ.get("HUBSPOT_FUZZ", "2"))
MORE = max(EXAMPLES, 5)
"""Of slow tests."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
KEPT = 6
"""Ids of a kind that a walk remembers, the newest ones."""


@dataclass
class Target:
    """Who is asked, with what credentials, and the ids that there are, by the names that the documents use."""

    base: str
    http: requests.Session
    ids: dict[str, list[str]]
    credentials: Callable[[Any], tuple[Json, Json]]
    """Headers and query for an operation."""
    only_errors: tuple[str, ...] = ()
    """Ends of paths whose 200 no document describes."""
    lenient: Callable[[Any, str], bool] = lambda case, why: False
    """Whether it is on purpose that this request was taken, although no document allows it."""
    statuses: dict[str, set[int]] = field(default_factory=dict)


def put(data: st.DataObject, values: Any, ids: dict[str, list[str]]) -> None:
    """Replace most of the values that have a known name, so that what is asked for is there."""
    if isinstance(values, dict):
        for name in sorted(set(values) & set(ids)):
            if data.draw(st.integers(0, 4)):
                values[name] = data.draw(st.sampled_from(ids[name]))


def send(target: Target, operation: Any, case: Any, data: st.DataObject) -> requests.Response:
    """Send a request; all answers must be as documented, and a wrong request be refused."""
    is_wrong = case.meta.generation.mode is NEGATIVE
    as_made = is_wrong and data.draw(st.booleans())
    if not (as_made and case.meta.is_negative_at(ParameterLocation.PATH)):
        put(data, case.path_parameters, target.ids)
    if not as_made:
        put(data, case.body, target.ids)
    headers, query = target.credentials(operation)
    case.query = {**(case.query or {}), **query}
    sent = {"User-Agent": "schemathesis", **headers}
    answer: requests.Response = case.call(
        base_url=target.base, session=target.http, headers=sent, timeout=30, allow_redirects=False
    )
    target.statuses.setdefault(operation.label, set()).add(answer.status_code)
    if answer.status_code == 200 and operation.path.endswith(target.only_errors or ("\0",)):
        return answer
    case.validate_response(answer, checks=CHECKS)
    if as_made:
        refused(target, case, answer)
    return answer


def refused(target: Target, case: Any, answer: requests.Response) -> None:
    """What does not fit the document is refused, unless that is on purpose."""
    try:
        case.validate_response(answer, checks=[negative_data_rejection])
    except (Failure, FailureGroup) as problem:
        if not target.lenient(case, str(problem)):
            raise


def quick(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize="HUBSPOT_FUZZ" not in os.environ,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


def ask(target: Target, operation: Any, mode: Any, *, examples: int) -> None:
    """Call one operation in many ways."""

    @quick(examples)
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def call(case: Any, data: st.DataObject) -> None:
        send(target, operation, case, data)

    try:
        call()
    except (schemathesis.errors.InvalidSchema, Unsatisfiable):  # a request that may be anything can't be wrong
        if mode is not NEGATIVE:
            raise


def walk(make: Callable[[], Target], operations: list[Any], *, walks: int, steps: int) -> dict[str, set[int]]:
    """Call one operation after the other in the same world, with the ids of what was made, and also removed, before.

    :returns: the statuses that each operation has answered with.
    """
    made: dict[str, set[int]] = {}
    cases = {one.label: one.as_strategy(generation_mode=POSITIVE) for one in operations}
    children = {found[1]: found[2] for one in operations if (found := re.fullmatch(r"(.*)/\{(\w+)\}", one.path))}

    @quick(walks)
    @given(data=st.data())
    def go(data: st.DataObject) -> None:
        target = make()
        for _ in range(steps):
            operation = data.draw(st.sampled_from(operations))
            case = data.draw(cases[operation.label])
            answer = send(target, operation, case, data)
            learn(target, children.get(operation.path), answer)
        for label, statuses in target.statuses.items():
            made.setdefault(label, set()).update(statuses)

    go()
    return made


def learn(target: Target, name: str | None, answer: requests.Response) -> None:
    """Remember the ids in an answer under the name that paths have for them."""
    if name is None or answer.status_code >= 300 or "json" not in answer.headers.get("Content-Type", ""):
        return
    found = answer.json()
    within = [found, *found.values()] if isinstance(found, dict) else [found]
    objects = [one for item in within for one in (item if isinstance(item, list) else [item]) if isinstance(one, dict)]
    ids = [one["id"] for one in objects if isinstance(one.get("id"), str)]
    target.ids[name] = [*dict.fromkeys([*target.ids.get(name, []), *ids])][-KEPT:]
