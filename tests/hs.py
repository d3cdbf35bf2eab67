"""What the test of the guide has in the place of HubSpot's command line ``hs``: it uploads a folder to the stand-in.

It takes the commands that the guide types and no others. Source: docs/hubspot.rst (Project apps).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import requests


def main() -> None:
    """Run one command in the current folder; an upload writes the app's words into the file ``HS_WORDS``."""
    parser = argparse.ArgumentParser(prog="hs")
    groups = parser.add_subparsers(dest="group", required=True)
    account = groups.add_parser("account").add_subparsers(dest="command", required=True)
    account.add_parser("auth")
    project = groups.add_parser("project").add_subparsers(dest="command", required=True)
    for name in ("validate", "upload"):
        project.add_parser(name).add_argument("--profile")
    options = parser.parse_args()
    if options.group == "account":
        return
    if not Path("hsproject.json").is_file():
        sys.exit("hs: there is no hsproject.json in this folder")
    profiles = [one.name.split(".")[1] for one in Path("src").glob("hsprofile.*.json")]
    profile = options.profile or (profiles[0] if len(profiles) == 1 else None)
    if (options.command == "upload" and profiles and profile is None) or profile not in [None, *profiles]:
        sys.exit(f"hs: name one of the profiles {profiles}")
    if options.command == "upload":
        upload(profile)


def upload(profile: str | None) -> None:
    """Give the files to the stand-in."""
    files = {str(one): one.read_text(encoding="utf-8") for one in Path().rglob("*") if one.is_file()}
    with requests.Session() as http:
        http.trust_env = False
        address = f"{os.environ['HS_STAND_IN']}/_control/project"
        answer = http.post(address, json={"files": files, "profile": profile}, timeout=30)
    if answer.status_code != 200 or answer.json()["skipped"]:
        sys.exit(f"hs: {answer.text}")
    Path(os.environ["HS_WORDS"]).write_text(json.dumps(answer.json()), encoding="utf-8")


main()
