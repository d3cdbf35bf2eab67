"""A real browser, the two servers it looks at as processes of their own, and a watch over every page.

Playwright drives the system's Chromium; it downloads none.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from example_app.demo import AVAILABILITY, USERS_SCOPE

from . import helpers
from .helpers import HubSpot

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Locator, Page

ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "test-output"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run")
QUIET = ("disable-background-networking", "disable-component-update", "disable-sync")
SIZES = {"desktop": (1280, 800), "tablet": (768, 1024), "phone": (390, 844)}
PATIENCE_MS = 60_000
NAME, PHONE = "Rosa Vidal", "+34911222333"
"""A contact of the preset portal: a stand-in that was started anew knows it by the same id."""
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium. Skips the test without it, or without Playwright; fails it when ``CI=true``."""
    missing = None if os.access(CHROMIUM, os.X_OK) else f"there is no {CHROMIUM}"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"the pages can't be seen: {missing}")
    if missing:
        pytest.skip(missing)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[f"--{flag}" for flag in (*FLAGS, *QUIET)], timeout=60_000
        )
        try:
            yield chromium
        finally:
            chromium.close()


# --- the servers


class Server:
    """``python -m module --port N``; after :meth:`stop` it can be started again at the same address."""

    def __init__(self, module: str, env: dict[str, str]) -> None:
        self._module, self.env = module, env
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it and wait for its address."""
        port = str(urlsplit(self.url).port or 0)
        command = [sys.executable, "-m", self._module, "--port", port]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=self.env)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.url = next(word.rstrip("/") for word in line.split() if word.startswith("http://"))

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


class Site:
    """The stand-in with its desk, the example app with its chat, and the control routes."""

    def __init__(self, folder: Path) -> None:
        kept = {key: text for key, text in os.environ.items() if not key.startswith(("HUBSPOT_HITL_", "FLASK_"))}
        self.desk = Server("flask_hubspot_hitl.simulator", kept)
        self.desk.start()
        self.hubspot = HubSpot(self.desk.url)
        settings = {
            "FLASK_SECRET_KEY": secrets.token_urlsafe(32),
            "FLASK_EXAMPLE_NAME": NAME,
            "FLASK_EXAMPLE_CONTACT": PHONE,
            "FLASK_EXAMPLE_ADMIN": "true",
            "EXAMPLE_INSTANCE_PATH": str(folder),
        }
        self.chat = Server("example_app", kept | settings | self.hubspot.env() | AVAILABILITY)
        try:
            self.start_chat()
        except BaseException:
            self.close()
            raise

    def start_chat(self) -> None:
        """Start the example app and wait until it answers."""
        self.chat.start()
        helpers.wait_until(self._answers, what="the example app")

    def _answers(self) -> bool:
        with requests.Session() as http:
            http.trust_env = False
            try:
                return http.get(f"{self.chat.url}/hubspot/healthz", timeout=10).ok
            except requests.RequestException:
                return False

    def reset(self) -> None:
        """The stand-in back to the preset, delivering to the example app."""
        self.hubspot.reset()
        self.hubspot.control("POST", "grant", {"scopes": [USERS_SCOPE]})
        self.hubspot.target(f"{self.chat.url}/hubspot/webhook")

    def close(self) -> None:
        """End both."""
        self.hubspot.close()
        self.chat.stop()
        self.desk.stop()


# --- the pages


class Watch:
    """Opens pages, and keeps what none of them may do: complain, show a dialog, or ask another host for anything."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self.outage = False  # while it lasts, that a server can't be reached is no complaint

    def context(self, size: str = "desktop", scheme: Any = "light", *, java_script: bool = True) -> BrowserContext:
        """A browser window of its own: its cookies, its size, its colours."""
        width, height = SIZES[size]
        made = self._chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            accept_downloads=True,
            java_script_enabled=java_script,
        )
        made.set_default_timeout(PATIENCE_MS)
        made.on("console", lambda message: self._heard(message.type, message.text))
        made.on("weberror", lambda error: self.complaints.append(f"exception: {error.error}"))
        self._contexts.append(made)
        return made

    def open(self, url: str, context: BrowserContext | None = None) -> Page:
        """A new tab, watched."""
        page = (context or self.context()).new_page()
        own = urlsplit(url).netloc
        page.on("dialog", self._dialog)
        page.on("request", lambda request: self._asked(own, request.url))
        answer = page.goto(url)
        assert answer is not None
        assert answer.headers["content-security-policy"] == POLICY
        return page

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (self.outage and "net::ERR_" in text):
            self.complaints.append(f"console {kind}: {text}")

    def _asked(self, own: str, url: str) -> None:
        if urlsplit(url).netloc != own:
            self.complaints.append(f"a page of {own} asked for {url}")

    def close(self) -> None:
        """Close the windows."""
        for context in self._contexts:
            context.close()


def expect(found: Locator) -> Any:
    """Playwright's assertions, with our patience."""
    from playwright.sync_api import expect as real

    real.set_options(timeout=PATIENCE_MS)
    return real(found)


def attach(page: Page, name: str, content: bytes) -> None:
    """Choose a file, on either page."""
    page.locator("#composer input[type=file]").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content}
    )


def shot(page: Page, name: str) -> None:
    """Keep how a page looks as ``test-output/NAME.png``."""
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def wait_for(condition: Callable[[], object], page: Page, what: str) -> None:
    """Wait until something outside of the page holds, while the page goes on."""
    ends = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < ends, f"waited in vain for {what}"
        page.wait_for_timeout(50)
