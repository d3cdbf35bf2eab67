"""The bound on slow tests: what finds the time over is skipped, the crash rig comes first, each day has its order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TEST = "import pytest\n\ndef test_quick(): pass\n\n" + "".join(
    f"@pytest.mark.slow\ndef test_{number}(): pass\n\n" for number in range(6)
)


def run(folder: Path, **env: str) -> list[str]:
    """The tests with their outcomes, in the order in which they ran."""
    for name in ("test_other.py", "tests/test_rig.py"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(TEST, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow: takes long\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "tests.slow", "-v", "--color=no", "."]
    own = {key: value for key, value in os.environ.items() if not key.startswith(("HITL_SLOW", "PYTEST"))}
    given = {**own, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **env}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return [" ".join(line.split()[:2]) for line in done.stdout.splitlines() if "::" in line]


def test_without_a_bound_all_run_in_their_order(tmp_path: Path) -> None:
    ran = run(tmp_path)
    assert len(ran) == 14
    assert all(one.endswith("PASSED") for one in ran)
    names = [one.split("::")[1] for one in ran]
    assert names[:7] == names[7:]


def test_what_finds_the_time_over_is_skipped(tmp_path: Path) -> None:
    outcomes = {one.split("::")[1] for one in run(tmp_path, HITL_SLOW_SECONDS="0")}
    assert outcomes == {"test_quick PASSED", *(f"test_{number} SKIPPED" for number in range(6))}


def test_the_crash_rig_comes_first_and_each_day_has_its_order(tmp_path: Path) -> None:
    days = [run(tmp_path, HITL_SLOW_SECONDS="100", HITL_SLOW_DAY=f"2026-12-0{day}") for day in (1, 1, 2)]
    assert days[0] == days[1] != days[2]
    for one in days:
        assert all(line.startswith("tests/test_rig.py") for line in one[:7])
        assert all(line.endswith("PASSED") for line in one)
