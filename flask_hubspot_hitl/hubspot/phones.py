"""Know when two phone numbers are one person's: as written, and before and after a country renumbered.

Pure functions; of ours it may import ``errors`` only. ``phonenumbers`` is imported on first use: it costs more than
the rest of the package. None of its levels of ``is_number_match`` tells what this module has to know: somebody's old
Ivorian number is ``SHORT_NSN_MATCH`` with a stranger's new one, an old Brazilian one ``NO_MATCH`` with the same
person's. So each country's own rule is written down here, and digits decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ContactInvalid

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber


@dataclass(frozen=True, slots=True)
class Renumbering:
    """Say how a country changed some of its numbers: ``head``, then ``old`` or ``new``, then ``tail``.

    What neither form of any rule matches was not changed. The newer form is the one that counts, so that each number
    has one person whichever way it is written.

    :param country: its name, and in parentheses what was changed.
    :param code: the country code.
    :param old: digits before the change, between head and tail.
    :param new: digits after the change.
    :param tail: a regular expression of the digits that stayed.
    :param head: a regular expression of digits that stayed in front of them, such as an area code.
    :param since: the first day of the new form; empty when both are in use.
    :param source: who announced it, and where.
    """

    country: str
    code: str
    old: str
    new: str
    tail: str
    since: str
    source: str
    head: str = ""

    def renumbered(self, digits: str) -> str | None:
        """Return the new form of an old one; both are digits with their country code. None for any other number."""
        return self._changed(digits, self.old, self.new)

    def before(self, digits: str) -> str | None:
        """Return the old form of a new one; None for any other number."""
        return self._changed(digits, self.new, self.old)

    def _changed(self, digits: str, was: str, becomes: str) -> str | None:
        found = _pattern(self.code, self.head, was, self.tail).fullmatch(digits)
        return None if found is None else f"{self.code}{found[1]}{becomes}{found[2]}"


@cache
def _pattern(code: str, head: str, middle: str, tail: str) -> re.Pattern[str]:
    return re.compile(f"{code}({head}){middle}({tail})", re.ASCII)


_ANATEL = "Anatel, Resolution 553 of 14 December 2010; its communication to ITU of 6 February 2013"
_ARTCI = "ARTCI's table by ITU-T E.129; ITU Operational Bulletin of 1 August 2020"
_MIC = "Ministry of Information and Communications; MobiFone's plan of the conversion"
_VIETNAM = {
    "120": "70", "121": "79", "122": "77", "126": "76", "128": "78",
    "123": "83", "124": "84", "125": "85", "127": "81", "129": "82",
    "162": "32", "163": "33", "164": "34", "165": "35", "166": "36", "167": "37", "168": "38", "169": "39",
    "186": "56", "188": "58", "199": "59",
}  # fmt: skip
"""Old and new network codes, of MobiFone, VinaPhone, Viettel, Vietnamobile and Gmobile; seven digits stayed."""

RENUMBERINGS = (
    Renumbering(
        "Mexico (mobile, from abroad)", "52", "1", "", r"[2-9]\d{9}", "2019-08-03",
        "IFT, numbering plan of 11 May 2018; ITU Operational Bulletin 1151",
    ),
    # 7 is left out: numbers of the trunked radio service begin with it, and have stayed as they were.
    Renumbering("Brazil (mobile)", "55", "", "9", r"[689]\d{7}", "2012-07-29", _ANATEL, head="[1-9][1-9]"),
    # No change, but two ways to write a mobile number. Fixed and mobile numbers share the ten digits.
    Renumbering(
        "Argentina (mobile, from abroad)", "54", "", "9", r"[1-3]\d{9}", "",
        "ITU, national numbering plan T0202000009; WhatsApp Help Center 1294841057948784",
    ),
    Renumbering(
        "Benin", "229", "", "01", r"[2-9]\d{7}", "2024-11-30", "ARCEP Benin; ITU, national numbering plan T0202000017"
    ),
    Renumbering("Côte d'Ivoire (mobile, Moov)", "225", "", "01", r"(?:0[1-3]|[457][0-3])\d{6}", "2021-01-31", _ARTCI),
    Renumbering("Côte d'Ivoire (mobile, MTN)", "225", "", "05", r"[0457][4-6]\d{6}", "2021-01-31", _ARTCI),
    Renumbering("Côte d'Ivoire (mobile, Orange)", "225", "", "07", r"[0457][7-9]\d{6}", "2021-01-31", _ARTCI),
    *(
        Renumbering("Vietnam (mobile)", "84", old, new, r"\d{7}", "2018-09-15", _MIC)
        for old, new in _VIETNAM.items()
    ),
    Renumbering("Colombia (fixed)", "57", "", "60", r"[124-8]\d{7}", "2021-09-01", "CRC, Resolution 5826 of 2019"),
    Renumbering(
        "Mauritius (mobile)", "230", "", "5", r"[79]\d{6}", "2013-09-01", "ICTA, decision of 11 February 2013"
    ),
    Renumbering("Cameroon (mobile)", "237", "", "6", r"[579]\d{7}", "2014-11-21", "ART, plan of nine digits"),
)  # fmt: skip
"""The changes that are known, each with its source. A country without a public source is left out."""


class Same(IntEnum):
    """How surely two numbers are one person's; the lowest is the surest."""

    EXACT = 1
    """Digit by digit, with the country code."""
    RENUMBERED = 2
    """Before and after the country renumbered, with the country code."""
    LOCAL = 3
    """One was typed without its country code, and is that number in the other one's country."""


class Number(NamedTuple):
    """Hold a number in E.164, and the extension that was written behind it."""

    value: str
    extension: str | None = None


_RIGHT = "write it with + and its country code, such as +14155550123"
_SCHEME = re.compile(r"(?:tel|sms|whatsapp):\s*", re.IGNORECASE)
_EXTENSION = re.compile(r"[\s,;]*(?:;ext=|\bext(?:ension|n)?\b\.?|x|#)[\s:.]*([0-9]{1,7})\s*", re.IGNORECASE)
_MESSENGER = re.compile(r"\+?([1-9][0-9]{6,14})")
_JID = re.compile(r"(?::[0-9]+)?@(?:s\.whatsapp\.net|c\.us)")
"""How WhatsApp's own software ends an id."""


def read(text: str) -> Number:
    """Read a number as a person or a program writes it: ``+…``, ``00…`` or ``tel:+…``, perhaps with an extension.

    :raises ContactInvalid: when the country is not told, or has no such numbers and never had; the text says what
        would be right and never holds the number.
    """
    import phonenumbers

    text, extension = _plain(text)
    # phonenumbers reads letters as a keypad does ("+1 800 FLOWERS"): here that would be a guess.
    if any(character.isalpha() for character in text):
        raise ContactInvalid("The contact has letters but no @; give a phone number or an e-mail address.")
    is_dialled = text.startswith("00")
    number = _parse(f"+{text[2:]}" if is_dialled else text)
    value = "" if number is None else _e164(number)
    was = any(rule.renumbered(value[1:]) for rule in RENUMBERINGS)
    if is_dialled and not (was or (number is not None and phonenumbers.is_valid_number(number))):
        raise ContactInvalid(f"The phone number begins with 00 and is in no country's plan; {_RIGHT}.")
    if number is None:
        raise ContactInvalid(_unreadable(text))
    if not (was or phonenumbers.is_possible_number(number)):
        raise ContactInvalid(f"The phone number is too short or too long for its country code; {_RIGHT}.")
    return Number(value, extension)


def _unreadable(text: str) -> str:
    if re.fullmatch(r"[\s().\-/]*[0-9][0-9\s().\-/]*", text):
        return (
            f"The phone number does not say its country; {_RIGHT}. Digits alone that a messenger gave you, such as a "
            "WhatsApp id, go into Contact(whatsapp=…)."
        )
    return f"The phone number can't be read; {_RIGHT}."


def read_messenger_id(text: str) -> str:
    """Return what a messenger delivered as a number in E.164: digits, with or without ``+`` or ``whatsapp:``.

    No plan of numbers is asked: who writes from a number has it.

    :raises ContactInvalid: when it is not 7 to 15 digits.
    """
    bare = _JID.sub("", _SCHEME.sub("", text.strip(), count=1))
    found = _MESSENGER.fullmatch(re.sub(r"[\s().\-]", "", bare))
    if found is None:
        raise ContactInvalid(
            "The WhatsApp id is not 7 to 15 digits that begin with a country code; give it as WhatsApp delivers it, "
            "such as 14155550123."
        )
    return f"+{found[1]}"


def is_messenger_id(text: str) -> bool:
    """Return True when a text itself says that a messenger delivered the number: ``whatsapp:+14155550123``."""
    text = text.strip()
    return text.lower().startswith("whatsapp:") or re.fullmatch(_MESSENGER.pattern + _JID.pattern, text) is not None


def forms(value: str) -> list[str]:
    """Return the ways in which a number in E.164 may stand in HubSpot, itself first."""
    return list(dict.fromkeys([value, *_other_forms(value)]))


def newest(value: str) -> str:
    """Return the form that a number in E.164 has today: two numbers are one person's when theirs are equal."""
    changed = (rule.renumbered(value[1:]) for rule in RENUMBERINGS)
    return next((f"+{one}" for one in changed if one), value)


def dialable(value: str) -> str:
    """Return the form of a number in E.164 to write to HubSpot: itself while its country has such numbers."""
    import phonenumbers

    valid = (one for one in (value, newest(value)) if phonenumbers.is_valid_number(phonenumbers.parse(one, "ZZ")))
    return next(valid, value) if _parse(value) else value


def is_possible(value: str) -> bool:
    """Return True when a number in E.164 has a length that its country uses today."""
    import phonenumbers

    number = _parse(value)
    return number is not None and phonenumbers.is_possible_number(number)


def compare(wanted: str, stored: object) -> Same | None:
    """Return how surely ``stored``, as somebody typed it, is the person with the number ``wanted``, in E.164.

    :returns: None when it is not, or nothing tells that it is.
    """
    if not isinstance(stored, str) or not stored.strip():
        return None
    import phonenumbers

    text, _ = _plain(stored)
    number = _parse(f"+{text[2:]}" if text.startswith("00") else text)
    is_local = number is None
    if number is None:
        known = _parse(wanted)
        region = phonenumbers.region_code_for_country_code(known.country_code or 0) if known else "ZZ"
        number = _parse(text, region)
    if number is None:
        return None
    value = _e164(number)
    if is_local:
        return Same.LOCAL if newest(value) == newest(wanted) and _is_whole(value) else None
    if value == wanted:
        return Same.EXACT
    return Same.RENUMBERED if newest(value) == newest(wanted) else None


def compare_messenger_id(wanted: str, stored: object) -> Same | None:
    """Do what :func:`compare` does for ``hs_whatsapp_phone_number``, whose digits need no ``+``."""
    try:
        return compare(wanted, read_messenger_id(stored)) if isinstance(stored, str) else None
    except ContactInvalid:
        return compare(wanted, stored)


def spellings(values: Iterable[str]) -> list[str]:
    """Return how the forms of numbers in E.164 are usually typed, for a search that compares letter by letter."""
    found: list[str] = []
    for value in values:
        for form in forms(value):
            found += [form, form[1:], _spelled(form)]
        found += _spelled_before(newest(value))
    return list(dict.fromkeys(found))


def national_forms(values: Iterable[str]) -> list[str]:
    """Return the forms of numbers in E.164 without their country code."""
    import phonenumbers

    numbers = (_parse(form) for value in values for form in forms(value))
    return list(dict.fromkeys(phonenumbers.national_significant_number(one) for one in numbers if one is not None))


def _other_forms(value: str) -> Iterator[str]:
    digits = value[1:]
    for rule in RENUMBERINGS:
        for changed in (rule.renumbered(digits), rule.before(digits)):
            if changed is not None:
                yield f"+{changed}"


def _spelled(value: str) -> str:
    import phonenumbers

    number = _parse(value)
    if number is None:
        return value
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def _spelled_before(value: str) -> Iterator[str]:
    """Spell the old form as the new one is spelled: ``+52 1 55 1234 5678``."""
    spelled = _spelled(value)
    for rule in RENUMBERINGS:
        if rule.before(value[1:]) is None:
            continue
        found = re.match(rf"(\+{rule.code} {rule.head}) ?{rule.new} ?(?=\d)", spelled)
        if found is not None:
            rest = spelled[found.end() :]
            yield " ".join(filter(None, (found[1].strip(), rule.old, rest)))


def _plain(text: str) -> tuple[str, str | None]:
    """Return a number without what stands in front of it and behind it, and its extension."""
    text = _SCHEME.sub("", text.strip(), count=1)[:250]
    found = re.search(_EXTENSION.pattern + r"\Z", text, re.IGNORECASE)
    if found is None or not found.start():
        return text, None
    return text[: found.start()].rstrip(" ,;"), found[1]


def _parse(text: str, region: str | None = None) -> PhoneNumber | None:
    import phonenumbers

    try:
        return phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None


def _is_whole(value: str) -> bool:
    """Return False for what can only be the end of a number, such as one without its area code."""
    import phonenumbers

    number = _parse(value)
    was = any(rule.renumbered(value[1:]) for rule in RENUMBERINGS)
    possible = number is not None and phonenumbers.is_possible_number_with_reason(number)
    return was or possible == phonenumbers.ValidationResult.IS_POSSIBLE


def _e164(number: PhoneNumber) -> str:
    import phonenumbers

    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
