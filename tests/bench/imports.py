"""What importing the package costs on top of what a host has anyway: fresh interpreters, one after the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from .figures import Figure, Target, interleave
from .stage import Stage

BASE = "flask + requests + sqlalchemy"
OURS = "flask_hubspot_hitl"
ALL = "… and all that init_app loads"
CASES = {
    "flask": "import flask",
    BASE: "import flask, requests, sqlalchemy",
    OURS: "import flask_hubspot_hitl",
    ALL: "import flask_hubspot_hitl.cli, flask_hubspot_hitl.web.blueprint, sqlalchemy.dialects.sqlite",
}
_PROBE = """
import sys, time
began = time.perf_counter()
{code}
took = time.perf_counter() - began
with open("/proc/self/status") as status:  # ru_maxrss may be that of whoever started us
    [peak] = [line.split()[1] for line in status if line.startswith("VmHWM")]
print(took * 1000, int(peak) / 1024, len(sys.modules))
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
            yield Figure(
                subject="imports",
                what=f"{figure} of importing {name}",
                unit=unit,
                values=figures[figure],
                against=BASE if name in (OURS, ALL) else "",
                yardstick=found[BASE][figure] if name in (OURS, ALL) else (),
                target=Target(1.2, at_most=True, of_ratio=True) if name == OURS else None,
            )
