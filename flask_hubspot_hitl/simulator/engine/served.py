"""What a stand-in serves, and how it says that it does not serve something: never as if a thing were missing.

HubSpot and Botpress have far more than what is here. A 404 would tell a client that its contact or file is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from werkzeug.routing import Map

from ..model.errors import ApiError
from .middleware import is_own

STATUS = 501
MOST = 30
"""Calls that an answer lists; of more than that it lists how their paths begin."""


def is_api(path: str) -> bool:
    """Whether a path is one of the API that is stood in for, and none of the stand-in's own pages and controls."""
    return not is_own(path)


def calls(routes: Map) -> list[str]:
    """Every call that is served, as ``GET /crm/v3/owners/{owner_id}``, sorted by path."""
    found = {
        (path, method)
        for rule in routes.iter_rules()
        for path in spelled(str(rule.rule))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if is_api(path)
    }
    return [f"{method} {path}" for path, method in sorted(found)]


def spelled(rule: str) -> list[str]:
    """The paths of a route: one for each of the words that a part may be, and parameters in braces."""
    words = re.search(r"<any\(([^)]*)\):\w+>", rule)
    if words is not None:
        named = re.findall(r"'([^']+)'", words[1])
        return [path for one in named for path in spelled(rule[: words.start()] + one + rule[words.end() :])]
    return [re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)]


def families(served: Iterable[str]) -> list[str]:
    """The beginnings of the paths of some calls, up to the first parameter, each once."""
    found = dict.fromkeys(call.partition(" ")[2].partition("/{")[0] for call in served)
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def nearest(served: list[str], path: str) -> list[str]:
    """Those calls that have at least two parts of a path in common with it, the most that there are; else none."""
    wanted = path.strip("/").split("/")

    def common(call: str) -> int:
        parts = call.partition(" ")[2].strip("/").split("/")
        return next(
            (n for n, (a, b) in enumerate(zip(parts, wanted, strict=False)) if a != b), min(len(parts), len(wanted))
        )

    most = max(map(common, served), default=0)
    return [call for call in served if common(call) == most] if most > 1 else []


def refusal(method: str, path: str, routes: Map) -> ApiError:
    """Make the answer to a call that is not served; it lists what is, of that family or else the families."""
    served = calls(routes)
    near = nearest(served, path)
    why = f"The stand-in does not serve {method[:10]} {path[:200]}, whatever the real service may do. It serves: "
    listed = near if 0 < len(near) <= MOST else families(near or served)
    return ApiError(STATUS, "NOT_SERVED", why + ", ".join(listed), context={"served": listed})
