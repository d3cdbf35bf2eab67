"""What importing the package costs on top of what a host has anyway: fresh interpreters, one after the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from .figures import Figure, Target, interleave
from .stage import Stage

BASE = "flask + requests + sqlalchemy"
CASES = {
    "nothing": "pass",
    "flask": "import flask",
    BASE: "import flask, requests, sqlalchemy",
    "flask_hubspot_hitl": "import flask_hubspot_hitl",
    "… and all that init_app loads": "import flask_hubspot_hitl.install, sqlalchemy.dialects.sqlite",
}
_PROBE = """
import resource, sys, time
began = time.perf_counter()
{code}
took = time.perf_counter() - began
print(took * 1000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(sys.modules))
"""


def measure(code: str) -> dict[str, float]:
    """One fresh interpreter: milliseconds, MB of memory at its largest, modules."""
    command = [sys.executable, "-c", _PROBE.format(code=code)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return dict(zip(("time", "memory", "modules"), map(float, out), strict=True))


def run(stage: Stage) -> Iterator[Figure]:
    """Time and memory of each import."""
    for code in CASES.values():
        measure(code)  # once for the page cache and the .pyc files
    found = interleave({name: partial(measure, code) for name, code in CASES.items()}, 9, stage.say)
    for name, figures in found.items():
        for figure, unit in (("time", "ms"), ("memory", "MB")):
            is_ours = name == "flask_hubspot_hitl"
            yield Figure(
                subject="imports",
                what=f"{figure} of importing {name}",
                unit=unit,
                values=figures[figure],
                against=BASE if is_ours else "",
                yardstick=found[BASE][figure] if is_ours else (),
                target=Target(1.2, at_most=True, of_ratio=True) if is_ours else None,
            )
