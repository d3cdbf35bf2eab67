"""Make text, HTML and file names of unknown origin safe, and turn HTML into readable text.

Pure functions; imports nothing of ours. :mod:`.content` re-exports all of it.
"""

from __future__ import annotations

import html
import mimetypes
import re
import unicodedata
from html.parser import HTMLParser
from urllib.parse import urlsplit

NAME_BYTES = 255
#: Characters of HTML. The cleaner's time grows with the square of the nesting: 1 MB of "<div>" costs a minute.
MARKUP_LIMIT = 100_000

_TAGS = {
    "a",
    "b",
    "strong",
    "i",
    "em",
    "u",
    "br",
    "p",
    "div",
    "span",
    "ul",
    "ol",
    "li",
    "blockquote",
    "code",
    "pre",
    "img",
}
_TEXT_TAGS = _TAGS | {"h1", "h2", "h3", "h4", "h5", "h6", "table", "tr", "td", "th", "hr"}
_BLOCKS = _TEXT_TAGS - {"a", "b", "strong", "i", "em", "u", "br", "span", "code", "img", "td", "th"}
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,16}")
_JOINERS = "\u200c\u200d"  # Persian words and family emoji need them
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_MIME = mimetypes.MimeTypes()  # its own table: the machine's /etc/mime.types has no say


def scrub(text: str) -> str:
    """Replace NUL and lone surrogates, which no database and no UTF-8 can hold, by U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNUSABLE.sub("\ufffd", text)


def escape_text(text: str) -> str:
    """Return plain text as HTML that shows exactly it; line ends become ``<br>``."""
    return "<br>".join(html.escape(scrub(text)).splitlines())


def clean_html(markup: str) -> str:
    """``markup`` reduced to simple formatting, https and mailto links and https images; safe to show.

    No style, class, script or comment survives; links get ``rel="noopener noreferrer"``.
    """
    return _clean(markup, _TAGS, ("https",)).replace("<img>", "")


def html_to_text(markup: str) -> str:
    """``markup`` as plain text that keeps what a reader would lose: link targets and images.

    ``<a href="https://x.test">here</a>`` is ``here (https://x.test)``, an image ``[image: https://…]``.
    """
    reader = _Reader()
    # Cleaning first leaves the simple parser nothing odd (or slow) to chew on.
    reader.feed(_clean(markup, _TEXT_TAGS, ("https", "http", "tel")))
    reader.close()
    return reader.text()


def clean_name(name: object, fallback: str = "file", *, content_type: str | None = None) -> str:
    """Return a safe file name: no path, no control or bidi characters, at most 255 bytes of UTF-8.

    One without an extension gets that of ``content_type``. ``fallback`` is used when nothing is left of ``name``. Never
    raises.
    """
    text = re.split(r"[/\\]", name)[-1] if isinstance(name, str) else ""
    text = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE)
    text = text.strip(" \u00a0").rstrip(". ")
    if text.startswith("."):
        text = text.lstrip(". ")
        text = f"{fallback}.{text}" if _EXTENSION.fullmatch(f".{text}") else text
    text = text or fallback
    stem, extension = split_extension(text)
    if not extension and content_type:
        extension = _MIME.guess_extension(_bare(content_type), strict=False) or ""
    return stem.encode()[: NAME_BYTES - len(extension)].decode(errors="ignore") + extension


def guess_content_type(name: str) -> str | None:
    """Return the MIME type that the extension of ``name`` stands for, or None."""
    extension = split_extension(name)[1].lower()
    return _MIME.types_map[1].get(extension) or _MIME.types_map[0].get(extension)


def split_extension(name: str) -> tuple[str, str]:
    """``name`` cut before its extension (with the dot), which is "" when the tail does not look like one."""
    stem, dot, tail = name.rpartition(".")
    if stem and _EXTENSION.fullmatch(dot + tail):
        return stem, dot + tail
    return name, ""


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _clean(markup: str, tags: set[str], schemes: tuple[str, ...]) -> str:
    import nh3  # costs a host that shows no HTML nothing

    def keep(tag: str, attribute: str, value: str) -> str | None:
        if (tag, attribute) in (("img", "alt"), ("a", "rel")):  # the only rel is the one set below
            return value
        scheme = _scheme(value)
        if (tag, attribute) == ("a", "href") and scheme in (*schemes, "mailto"):
            return value.strip()
        if (tag, attribute) == ("img", "src") and scheme in schemes:
            return value.strip()
        return None

    return nh3.clean(
        _fitting(scrub(markup)),
        tags=tags,
        attributes={"a": {"href"}, "img": {"src", "alt"}},
        attribute_filter=keep,
        url_schemes={*schemes, "mailto"},
        link_rel="noopener noreferrer",
    )


def _fitting(markup: str) -> str:
    """``markup`` within the limit: without the bytes of embedded images first, then cut with a visible mark."""
    if len(markup) > MARKUP_LIMIT:
        markup = re.sub(r"data:[^\"'\s<>]{100,}", "data:", markup)
    if len(markup) > MARKUP_LIMIT:
        markup = markup[:MARKUP_LIMIT].rpartition("<")[0] + " […]"
    return markup


def _scheme(url: str) -> str:
    try:
        return urlsplit(url.strip()).scheme
    except ValueError:
        return ""


class _Reader(HTMLParser):
    """Collect the text of cleaned HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._links: list[tuple[int, str]] = []
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self._links.append((len(self._parts), values.get("href") or ""))
        elif tag == "img":
            inner = values.get("src") or values.get("alt")
            self._parts.append(f"[image: {inner}]" if inner else "[image]")
        elif tag == "br":
            self._parts.append("\n")
        elif tag in ("td", "th"):
            self._parts.append(" ")
        elif tag in _BLOCKS:
            self._parts.append("\r")
        if tag == "li":
            self._parts.append("- ")
        self._preformatted += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._preformatted -= tag == "pre"
        if tag in _BLOCKS:
            self._parts.append("\r")
        elif tag == "a" and self._links:
            start, target = self._links.pop()
            shown = "".join(self._parts[start:]).strip()
            bare = target.removeprefix("mailto:").removeprefix("tel:")
            if target and bare != shown:
                self._parts.append(f" ({bare})" if shown else bare)

    def handle_data(self, data: str) -> None:
        # "\r" is ours: "a block begins or ends here", at most one line end however many meet.
        data = data.replace("\r", "")
        self._parts.append(data if self._preformatted else re.sub(r"\s+", " ", data))

    def text(self) -> str:
        joined = re.sub(r" *\r[ \r]*", "\r", "".join(self._parts))
        lines = re.sub(r"\n?\r|\r", "\n", joined).split("\n")
        return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip()
