"""Check the links of a site that was built: ``links.py FOLDER`` names those that lead to no file or no anchor of it."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

SPHINX = "builtins.html"
"""What Sphinx's list of modules links to although it makes no such page."""


class Page(HTMLParser):
    """What a page links to, and the anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag's links and its anchor."""
        given = {name: value for name, value in attrs if value}
        self.links |= {given[name] for name in ("href", "src") if name in given}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}


def broken(folder: Path) -> list[str]:
    """Return a line for each link within the site that leads nowhere."""
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            to = urlsplit(link)
            if to.scheme or to.netloc or link == SPHINX:
                continue
            target = path if not to.path else Path(urljoin(f"{path.parent}/", unquote(to.path)))
            if target.is_dir():
                target /= "index.html"
            known = pages[target].anchors if target in pages else {"", to.fragment}
            if not target.is_file() or unquote(to.fragment) not in known:
                found.append(f"{path.relative_to(folder)}: {link}")
    return found


if __name__ == "__main__":
    lines = broken(Path(sys.argv[1]).resolve())
    print("\n".join(lines) or "Every link within the site leads somewhere.")
    sys.exit(bool(lines))
