"""``python -m tests.bench [--json] [--runs N]``: what importing the package costs on top of what a host has anyway."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

TARGET = 1.2
BASE = "flask + requests + sqlalchemy"
CASES = {
    "(nothing)": "pass",
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


def measure(code: str) -> tuple[float, float, int]:
    """One fresh interpreter: milliseconds, MB of memory at its largest, modules."""
    command = [sys.executable, "-c", _PROBE.format(code=code)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[1]), int(out[2])


def import_cost(runs: int) -> dict[str, Any]:
    """Medians of ``runs`` fresh interpreters for each case, interleaved so that a busy machine hurts all alike."""
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in CASES}
    for code in CASES.values():
        measure(code)  # once for the page cache and the .pyc files
    for _ in range(runs):
        for name, code in CASES.items():
            found[name].append(measure(code))
    table = {
        name: {
            "ms": round(statistics.median(one[0] for one in rows), 1),
            "rss_mb": round(statistics.median(one[1] for one in rows), 1),
            "modules": rows[0][2],
        }
        for name, rows in found.items()
    }
    ratios = [ours[0] / base[0] for ours, base in zip(found["flask_hubspot_hitl"], found[BASE], strict=True)]
    return {
        "runs": runs,
        "imports": table,
        "ratio": round(statistics.median(ratios), 3),
        "rss_ratio": round(table["flask_hubspot_hitl"]["rss_mb"] / table[BASE]["rss_mb"], 3),
        "target": TARGET,
    }


def main() -> int:
    """Print the table. It measures; it judges nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for a machine to read")
    parser.add_argument("--runs", type=int, default=9, help="fresh interpreters for each case (default: %(default)s)")
    options = parser.parse_args()
    result = import_cost(max(7, options.runs))
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{'import':32} {'ms':>8} {'RSS MB':>8} {'modules':>8}   (median of {result['runs']})")
        for name, row in result["imports"].items():
            print(f"{name:32} {row['ms']:8.1f} {row['rss_mb']:8.1f} {row['modules']:8d}")
        print(f"flask_hubspot_hitl against {BASE}: time × {result['ratio']}, memory × {result['rss_ratio']}")
        print(f"wanted: time and memory × {TARGET} at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
