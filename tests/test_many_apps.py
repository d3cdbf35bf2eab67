"""One process, many apps: what ends with an app, by ``close`` and when it is collected; and what never starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .helpers import HubSpot
from .slow import few_of

HERE = Path(__file__).parent


def run_suite(hubspot: HubSpot, folder: Path, apps: int, **env: str) -> tuple[list[int], list[int], list[int]]:
    """Run ``host_suite`` where 256 files may be open; threads and files at its beginning, its end, and at most."""
    said = folder / "told.json"
    settings = {
        **hubspot.env(),
        "HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.test",
        "HUBSPOT_HITL_START_TIMEOUT": "30",
        "APPS": str(apps),
        "TOLD": str(said),
        **env,
    }
    options = "--noconftest -c /dev/null -p no:cacheprovider -W error -q"
    command = f'ulimit -n 256 && exec "$0" -m pytest {options} --basetemp "$1" "$2"'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(folder / "base"), str(HERE / "host_suite.py")],
        env={**os.environ, **settings},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=280 if apps < 100 else 800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    begin, end, most = json.loads(said.read_text())
    return begin, end, most


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="this system does not tell what a process has open"
)
few_or_300 = pytest.mark.parametrize("apps", [25, pytest.param(300, marks=pytest.mark.slow)])
each_end = pytest.mark.parametrize(
    "closes", [pytest.param("", marks=pytest.mark.slow, id="collected"), pytest.param("yes", id="closed")]
)


@pytest.mark.timeout(900)
@few_or_300
@each_end
@pytest.mark.parametrize(
    "testing", [pytest.param("", marks=pytest.mark.slow, id="serving"), pytest.param("yes", id="testing")]
)
def test_a_suite_of_many_apps_leaves_nothing_behind(
    hubspot: HubSpot, tmp_path: Path, apps: int, closes: str, testing: str
) -> None:
    begin, end, most = run_suite(hubspot, tmp_path, apps, CLOSES=closes, IS_TESTING=testing)
    assert end[0] <= begin[0], "threads"
    assert end[1] <= begin[1], "files"
    if testing:
        assert most[0] == begin[0], "no thread is started for an app that has nothing to do"
        assert most[1] <= begin[1], "nor is a file held open"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("apps", few_of([4, 300]))
@each_end
def test_a_suite_whose_apps_all_work_leaves_nothing_behind(
    hubspot: HubSpot, tmp_path: Path, apps: int, closes: str
) -> None:
    begin, end, _ = run_suite(hubspot, tmp_path, apps, CLOSES=closes, IS_TESTING="yes", WORKS="yes")
    assert end[0] <= begin[0], "threads"
    assert end[1] <= begin[1], "files"
