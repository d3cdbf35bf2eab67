"""Reduce HTML of unknown origin to what is safe to show, and turn it into readable text.

Pure functions. Of ours it imports only :mod:`.text`; :mod:`.content` re-exports both functions.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from urllib.parse import urlsplit

from .text import scrub

MARKUP_LIMIT = 100_000
"""Characters of HTML."""
DEPTH_LIMIT = 500
"""Levels of nesting. The cleaner's time grows with their square; of what is deeper only the words are kept."""

_INLINE = {"a", "b", "strong", "i", "em", "u", "s", "br", "span", "code", "sub", "sup", "img"}
_TABLES = {"table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_BLOCKS = _HEADINGS | {"p", "div", "ul", "ol", "li", "dl", "dt", "dd", "blockquote", "pre", "hr"}
_TAGS = _INLINE | _TABLES | _BLOCKS
#: Blocks of no formatting that anybody needs: they become a <div>, so that their words stay apart.
_OTHER_BLOCKS = {
    "address", "article", "aside", "center", "details", "dialog", "dir", "fieldset", "figcaption", "figure", "footer",
    "form", "header", "hgroup", "legend", "main", "menu", "nav", "option", "search", "section", "summary", "title",
}  # fmt: skip
_COUNTS = {"ol": {"start"}, "li": {"value"}, "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}}
LEVELS = 10
"""Levels of lists and quotes that can be told apart in text."""
_CLEAN_OTHER_BLOCK = re.compile(f"<(/?)(?:{'|'.join(sorted(_OTHER_BLOCKS))})>")
_NUMBER = re.compile("[0-9]{1,5}")
_TABLE = re.compile("<table", re.IGNORECASE)
_STRAY = re.compile(r"<t([rdh])(?=[\s>])", re.IGNORECASE)
_DATA = re.compile(r"data:[^\"'\s<>]{100,}")
_STYLE = re.compile(r"""(?<=[\s"'])(?:style|class)=(?:"[^"]*"|'[^']*')""", re.IGNORECASE)
_NESTING = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]*)")
_NOT_NESTED = {
    "p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "br", "hr", "img", "col", "colgroup",
    "input", "wbr", "meta", "link", "base", "area", "source",
}  # fmt: skip
_MARKS = re.compile("<[^>]*>?")
_TAG_BEGUN = re.compile("<[A-Za-z/!][^<>]*$")
_REFERENCE_BEGUN = re.compile("&[A-Za-z0-9#]{0,30}$")


def clean_html(markup: str) -> str:
    """``markup`` reduced to simple formatting, tables, https and mailto links and https images; safe to show.

    No style, class, script or comment survives; links get ``rel="noopener noreferrer"``. Blocks stay blocks and cells
    stay cells, so that no two words meet.
    """
    return _clean(markup, ("https",)).replace("<img>", "")


def html_to_text(markup: str) -> str:
    """``markup`` as plain text that keeps what a reader would lose: link targets, images, cells, lists and quotes.

    ``<a href="https://x.test">here</a>`` is ``here (https://x.test)``, an image ``[image: https://…]``; the cells of a
    row are parted by `` | ``, items have their number or ``-``, and quoted lines begin with ``>``.
    """
    reader = _Reader()
    # Cleaning first leaves the simple parser nothing odd (or slow) to chew on.
    reader.feed(_clean(markup, ("https", "http", "tel")))
    reader.close()
    return reader.text()


def pictures(markup: str) -> list[str]:
    """Return the addresses of the images in ``markup``, each once, in order; "" for those that have none to be read."""
    if "<img" not in markup.lower():
        return []
    reader = _Pictures()
    reader.feed(_clean(markup, ("https", "http")))
    reader.close()
    return list(dict.fromkeys(reader.found))


class _Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs).get("src") or "")


def _clean(markup: str, schemes: tuple[str, ...]) -> str:
    import nh3  # costs a host that shows no HTML nothing

    def keep(tag: str, attribute: str, value: str) -> str | None:
        if (tag, attribute) in (("img", "alt"), ("a", "rel")):  # the only rel is the one set below
            return value
        if attribute in _COUNTS.get(tag, ()):
            return value if _NUMBER.fullmatch(value) else None
        scheme = _scheme(value)
        if (tag, attribute) == ("a", "href") and scheme in (*schemes, "mailto"):
            return value.strip()
        if (tag, attribute) == ("img", "src") and scheme in schemes:
            return value.strip()
        return None

    cleaned = nh3.clean(
        _with_cells(_fitting(scrub(markup))),
        tags=_TAGS | _OTHER_BLOCKS,
        attributes={"a": {"href"}, "img": {"src", "alt"}, **_COUNTS},
        attribute_filter=keep,
        url_schemes={*schemes, "mailto"},
        link_rel="noopener noreferrer",
    )
    return _CLEAN_OTHER_BLOCK.sub(r"<\1div>", cleaned)


def _with_cells(markup: str) -> str:
    """``markup`` whose cells outside of any table, which no HTML parser keeps, are parted by spaces and line ends."""
    if _TABLE.search(markup):
        return markup
    return _STRAY.sub(lambda found: f"<br>{found[0]}" if found[1] in "rR" else f" {found[0]}", markup)


def _fitting(markup: str) -> str:
    """``markup`` within the limits: first without what nobody reads, then cut with a visible mark, never to nothing."""
    if len(markup) <= MARKUP_LIMIT:
        return _words_of(markup) if _is_deep(markup) else markup
    markup = _DATA.sub("data:", markup)
    for begin, end in (("<!--", "-->"), ("<style", "</style>")):
        markup = _without(markup, begin, end)
    markup = _STYLE.sub("", markup)
    if len(markup) <= MARKUP_LIMIT:
        return _fitting(markup)
    cut = _TAG_BEGUN.sub("", markup[:MARKUP_LIMIT])
    if _is_deep(cut) or not _MARKS.sub("", cut).strip():  # all marks: the words come later
        cut = _words_of(markup) or ("" if _is_deep(cut) else cut)
    return _REFERENCE_BEGUN.sub("", cut) + " […]"


def _words_of(markup: str) -> str:
    """Return what stands between the tags, as HTML without any, within the limit."""
    words = " ".join(_MARKS.sub(" ", markup).split())[:MARKUP_LIMIT]
    return html.escape(html.unescape(words), quote=False)[:MARKUP_LIMIT]


def _is_deep(markup: str) -> bool:
    depth = 0
    for end, tag in _NESTING.findall(markup):
        if tag.lower() not in _NOT_NESTED:
            depth = max(0, depth - 1) if end else depth + 1
            if depth > DEPTH_LIMIT:
                return True
    return False


def _without(markup: str, begin: str, end: str) -> str:
    """``markup`` without what stands between ``begin`` and the next ``end``; in one pass, whatever it is."""
    kept, place = [], 0
    while (start := markup.find(begin, place)) >= 0 and (stop := markup.find(end, start)) >= 0:
        kept.append(markup[place:start])
        place = stop + len(end)
    return "".join([*kept, markup[place:]])


def _scheme(url: str) -> str:
    try:
        return urlsplit(url.strip()).scheme
    except ValueError:
        return ""


_BLOCK, _BREAK, _ROW, _ROW_END, _CELL, _QUOTE, _QUOTE_END, _ITEM, _AS_IT_IS = (f"\r{mark}" for mark in "bnrRcqQip")
"""Marks: other text never begins so. ``_ITEM`` and ``_AS_IT_IS`` are followed by text."""
_STARTS = {**dict.fromkeys(_BLOCKS | _TABLES, _BLOCK), **dict.fromkeys(("td", "th"), _CELL), "br": _BREAK, "tr": _ROW}
_STARTS["blockquote"] = _QUOTE
_ENDS = {**dict.fromkeys((_BLOCKS | _TABLES) - {"td", "th"}, _BLOCK), "tr": _ROW_END, "blockquote": _QUOTE_END}


class _Reader(HTMLParser):
    """Collect the text of cleaned HTML, and marks between it, of which :class:`_Lines` makes lines."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._links: list[tuple[int, str]] = []
        self._lists: list[int | None] = []  # the next number; None: no numbers
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self._links.append((len(self._parts), values.get("href") or ""))
        elif tag == "img":
            inner = values.get("src") or values.get("alt")
            self._parts.append(f"[image: {inner}]" if inner else "[image]")
        elif tag == "li":
            self._begin_item(values.get("value"))
        elif tag in _STARTS:
            self._parts.append(_STARTS[tag])
        if tag in ("ul", "ol"):
            self._lists.append(int(values.get("start") or 1) if tag == "ol" else None)
        self._preformatted += tag == "pre"

    def _begin_item(self, value: str | None) -> None:
        indent = "  " * min(max(0, len(self._lists) - 1), LEVELS)
        number = self._lists[-1] if self._lists else None
        if number is None:
            self._parts.append(f"{_ITEM}{indent}- ")
        else:
            number = int(value or number)
            self._lists[-1] = number + 1
            self._parts.append(f"{_ITEM}{indent}{number}. ")

    def handle_endtag(self, tag: str) -> None:
        self._preformatted -= tag == "pre"
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        if tag in _ENDS:
            self._parts.append(_ENDS[tag])
        elif tag == "a" and self._links:
            start, target = self._links.pop()
            shown = _Lines(self._parts[start:]).text()
            bare = target.removeprefix("mailto:").removeprefix("tel:")
            if target and bare != shown:
                self._parts.append(f" ({bare})" if shown else bare)

    def handle_data(self, data: str) -> None:
        if not self._preformatted:
            self._parts.append(re.sub(r"\s+", " ", data))
            return
        for number, line in enumerate(data.replace("\r", "").split("\n")):
            self._parts += [_BREAK, _AS_IT_IS + line] if number else [_AS_IT_IS + line]

    def text(self) -> str:
        return _Lines(self._parts).text()


class _Lines:
    """Make lines of text and marks. A block that begins or ends makes one new line, however many meet."""

    def __init__(self, parts: Iterable[str]) -> None:
        self._done: list[tuple[int, str]] = []  # with the level of quotes
        self._line = ""
        self._is_fresh = True  # nothing was written since a block, an item or a cell began
        self._quotes = 0
        self._rows: list[tuple[int, int]] = []  # of each row that is open: lines before it, cells so far
        self._empty_cells = 0
        marks = {
            _BREAK: self._end_line,
            _CELL: self._begin_cell,
            _ROW: self._begin_row,
            _ROW_END: self._end_row,
            _QUOTE: lambda: self._quote(1),
            _QUOTE_END: lambda: self._quote(-1),
            _BLOCK: self._end_block,
        }
        for part in parts:
            if not part.startswith("\r"):
                self._write(part.lstrip() if self._line[-1:] in ("", " ") else part)
            elif part in marks:
                marks[part]()
            elif part.startswith(_ITEM):
                self._end_block()
                before = self._line if self._line.endswith("| ") else ""
                self._line = before + part.removeprefix(_ITEM)
            else:
                self._write(part.removeprefix(_AS_IT_IS))

    def text(self) -> str:
        self._end_line()
        lines = [f"{'> ' * min(quotes, LEVELS)}{line}".rstrip() for quotes, line in self._done]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _write(self, text: str) -> None:
        self._line += text
        if text.strip():
            self._is_fresh = False
            self._empty_cells = 0

    def _end_line(self) -> None:
        self._done.append((self._quotes, self._line))
        self._line = ""
        self._is_fresh = True

    def _end_block(self) -> None:
        if not self._is_fresh:
            self._end_line()

    def _quote(self, levels: int) -> None:
        self._end_block()
        self._quotes += levels

    def _begin_row(self) -> None:
        self._end_block()
        self._rows.append((len(self._done), 0))
        self._empty_cells = 0

    def _begin_cell(self) -> None:
        """Go on in the line of the cell before, also when that ended with a block."""
        before, cells = self._rows[-1]  # the HTML parser lets no cell stand outside of a row
        self._rows[-1] = before, cells + 1
        if cells:
            while not self._line.strip() and len(self._done) > before:
                self._line = self._done.pop()[1]
            self._line = f"{self._line.rstrip()} | ".lstrip()
            self._empty_cells += 1
        self._is_fresh = True

    def _end_row(self) -> None:
        """End the row without its last empty cells."""
        if self._rows:
            self._rows.pop()
        for _ in range(self._empty_cells):
            self._line = self._line.rstrip().removesuffix("|")
        self._empty_cells = 0
        if self._line.strip():
            self._end_line()
        self._line = ""
        self._is_fresh = True
