"""A person with a browser who connects HubSpot: follows redirects one by one, presses the buttons, keeps cookies."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, urljoin, urlsplit

import requests


class Browser:
    """One browser. Every method answers the page that is shown in the end."""

    def __init__(self) -> None:
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Connection"] = "close"
        self.visited: list[requests.Response] = []

    def get(self, url: str) -> requests.Response:
        """Open an address, without following where it leads."""
        return self._kept(self._http.get(url, allow_redirects=False, timeout=30))

    def press(self, page: requests.Response, **more: str) -> requests.Response:
        """Send the form of a page, without following where it leads; ``more`` is added to it, or stands instead."""
        action = re.search(r'<form method="post"(?: action="([^"]*)")?', page.text)
        assert action, page.text
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page.text)
        fields = {name: html.unescape(value) for name, value in hidden}
        target = urljoin(page.url, html.unescape(action[1] or "")) if action[1] else page.url
        return self._kept(self._http.post(target, data=fields | more, allow_redirects=False, timeout=30))

    def _kept(self, answer: requests.Response) -> requests.Response:
        self.visited.append(answer)
        return answer

    def to_hubspot(self, install_url: str, **more: str) -> requests.Response:
        """From our install page to HubSpot's consent page."""
        led = self.press(self.get(install_url), **more)
        assert led.status_code == 303, said(led)
        return self.get(led.headers["Location"])

    def agree(self, consent: requests.Response, portal: str, *, answer: str = "allow") -> str:
        """Answer HubSpot's question; the address that HubSpot sends the browser back to."""
        back = self.press(consent, portal=portal, answer=answer)
        assert back.status_code == 302, back.text
        return back.headers["Location"]

    def connect(self, install_url: str, portal: str) -> requests.Response:
        """The whole way; our last page."""
        return self.get(self.agree(self.to_hubspot(install_url), portal))

    def cookie(self, name: str) -> str | None:
        """A cookie's value."""
        return self._http.cookies.get(name)

    def close(self) -> None:
        """Close it."""
        self._http.close()


def said(page: requests.Response) -> str:
    """The heading of a page of ours."""
    found = re.search(r"<h1>(.*?)</h1>", page.text, re.DOTALL)
    assert found, page.text[:500]
    return html.unescape(found[1])


def query_of(url: str) -> dict[str, str]:
    """A URL's query, each name once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}
