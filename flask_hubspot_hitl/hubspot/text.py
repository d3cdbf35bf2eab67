"""Make text and file names of unknown origin safe.

Pure functions; imports nothing of ours. :mod:`.content` re-exports all of it.
"""

from __future__ import annotations

import functools
import html
import mimetypes
import re
import unicodedata

NAME_BYTES = 255
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,16}")
_JOINERS = "\u200c\u200d"  # Persian words and family emoji need them
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


@functools.cache
def _mime() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes()  # its own table: the machine's /etc/mime.types has no say


def scrub(text: str) -> str:
    """Replace NUL and lone surrogates, which no database and no UTF-8 can hold, by U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNUSABLE.sub("\ufffd", text)


def one_line(text: str | None) -> str:
    """Return a name or a title on one line, without control characters and marks of direction: "" for None.

    Such marks would turn round what stands behind the name.
    """
    line = " ".join(scrub(text or "").split())
    return _visible(line)


def _visible(text: str) -> str:
    return "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE)


def escape_text(text: str) -> str:
    """Return plain text as HTML that shows exactly it: line ends become ``<br>``, and indentation and runs stay.

    HTML shows several spaces as one, and none at the beginning of a line; a tab is shown as four.
    """
    return "<br>".join(_keep_spaces(one) for one in html.escape(scrub(text)).splitlines())


def _keep_spaces(line: str) -> str:
    line = re.sub("^ ", "&nbsp;", line.replace("\t", "&nbsp;" * 4))
    return line.replace("  ", " &nbsp;")  # a line may still be broken at the other half of them


def clean_name(name: object, fallback: str = "file", *, content_type: str | None = None) -> str:
    """Return a safe file name: no path, no control or bidi characters, at most 255 bytes of UTF-8.

    One without an extension gets that of ``content_type``. ``fallback`` is used when nothing is left of ``name``. Never
    raises.
    """
    text = re.split(r"[/\\]", name)[-1] if isinstance(name, str) else ""
    text = _visible(text).strip(" \u00a0").rstrip(". ")
    if text.startswith("."):
        text = text.lstrip(". ")
        text = f"{fallback}.{text}" if _EXTENSION.fullmatch(f".{text}") else text
    text = text or fallback
    stem, extension = split_extension(text)
    if not extension and content_type:
        extension = _mime().guess_extension(_bare(content_type), strict=False) or ""
    return stem.encode()[: NAME_BYTES - len(extension)].decode(errors="ignore") + extension


def guess_content_type(name: str) -> str | None:
    """Return the MIME type that the extension of ``name`` stands for, or None."""
    extension = split_extension(name)[1].lower()
    types = _mime().types_map
    return types[1].get(extension) or types[0].get(extension)


def split_extension(name: str) -> tuple[str, str]:
    """``name`` cut before its extension (with the dot), which is "" when the tail does not look like one."""
    stem, dot, tail = name.rpartition(".")
    if stem and _EXTENSION.fullmatch(dot + tail):
        return stem, dot + tail
    return name, ""


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
