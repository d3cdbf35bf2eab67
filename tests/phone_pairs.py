"""Pairs of phone numbers that are one person's, or two people's. All subscribers' digits are made up."""

from __future__ import annotations

from typing import NamedTuple

SOURCES = {
    "Mexico": "IFT to ITU, 12 June 2018 (ITU Operational Bulletin 1151): no 1 before mobile numbers from 3 August 2019",
    "Brazil": "Anatel to ITU, 6 February 2013: Resolution 553, a 9 before mobile numbers that begin with 6 to 9, none "
    "before fixed and trunked radio ones; area 11 from 29 July 2012",
    "Argentina": "WhatsApp Help Center 1294841057948784: 9 after +54, and no 15, before mobile numbers of the national "
    "plan (ITU T0202000009)",
    "Benin": "ARCEP Benin to ITU (T0202000017): 01 before every number of eight digits from 30 November 2024",
    "Côte d'Ivoire": "ARTCI's table by ITU-T E.129: 01, 05 or 07 before mobile numbers, by operator, from 31 January "
    "2021",
    "Vietnam": "Ministry of Information and Communications, as told by MobiFone: other network codes, the last seven "
    "digits as they were, from 15 September 2018",
    "Colombia": "CRC, Resolution 5826 of 2019: 60 before fixed numbers from 1 September 2021",
    "Mauritius": "ICTA, decision of 11 February 2013: 5 before mobile numbers from 1 September 2013",
    "Cameroon": "ART, plan of nine digits: 6 before mobile numbers, 2 before fixed ones, from 21 November 2014",
    "elsewhere": "ITU-T E.164: a country code is part of the number",
}


class Pair(NamedTuple):
    """Two numbers, as they were before and after where they were changed."""

    country: str
    old: str
    new: str
    is_same: bool

    def __str__(self) -> str:
        return f"{self.country} {self.old} {'=' if self.is_same else '≠'} {self.new}"


PAIRS = [
    Pair("Mexico", "+5215512345678", "+52 55 1234 5678", True),
    Pair("Mexico", "+5218112345678", "+528112345678", True),
    Pair("Mexico", "+52 1 999 123 4567", "+52 999 123 4567", True),
    Pair("Mexico", "+5215512345678", "+52 55 1234 5679", False),
    Pair("Mexico", "+5215512345678", "+1 551 234 5678", False),
    Pair("Brazil", "+551187654321", "+55 11 98765-4321", True),
    Pair("Brazil", "+559281234567", "+5592981234567", True),
    Pair("Brazil", "+55 31 9123-4567", "+55 31 99123-4567", True),
    Pair("Brazil", "+551187654321", "+55 21 98765-4321", False),
    Pair("Brazil", "+551132654321", "+55 11 93265-4321", False),
    Pair("Brazil", "+551177654321", "+55 11 97765-4321", False),
    Pair("Argentina", "+54 11 2345-6789", "+5491123456789", True),
    Pair("Argentina", "+54 351 15 123-4567", "+5493511234567", True),
    Pair("Argentina", "+542214567890", "+54 9 221 456-7890", True),
    Pair("Argentina", "+54 351 234-5678", "+5491123456789", False),
    Pair("Argentina", "+54 11 2345-6780", "+5491123456789", False),
    Pair("Benin", "+22997123456", "+229 01 97 12 34 56", True),
    Pair("Benin", "+229 61 23 45 67", "+2290161234567", True),
    Pair("Benin", "+22921301234", "+229 01 21 30 12 34", True),
    Pair("Benin", "+22997123456", "+229 01 96 12 34 56", False),
    Pair("Côte d'Ivoire", "+22501123456", "+225 01 01 12 34 56", True),
    Pair("Côte d'Ivoire", "+22505123456", "+2250505123456", True),
    Pair("Côte d'Ivoire", "+22507123456", "+225 07 07 12 34 56", True),
    Pair("Côte d'Ivoire", "+22548123456", "+2250748123456", True),
    Pair("Côte d'Ivoire", "+22507123456", "+225 05 07 12 34 56", False),
    Pair("Côte d'Ivoire", "+22505123456", "+225 07 05 12 34 56", False),
    Pair("Côte d'Ivoire", "+22541123456", "+225 05 41 12 34 56", False),
    Pair("Vietnam", "+841201234567", "+84 70 123 4567", True),
    Pair("Vietnam", "+841681234567", "+84381234567", True),
    Pair("Vietnam", "+841991234567", "+84591234567", True),
    Pair("Vietnam", "+841201234567", "+84 79 123 4567", False),
    Pair("Vietnam", "+841691234567", "+84 36 123 4567", False),
    Pair("Colombia", "+5712281260", "+57 601 2281260", True),
    Pair("Colombia", "+57 4 4484848", "+576044484848", True),
    Pair("Colombia", "+5712281260", "+57 604 2281260", False),
    Pair("Colombia", "+573011111111", "+57 601 1111111", False),
    Pair("Mauritius", "+2307123456", "+230 5712 3456", True),
    Pair("Mauritius", "+230 918 1234", "+23059181234", True),
    Pair("Mauritius", "+2307123456", "+230 5912 3456", False),
    Pair("Mauritius", "+2302101234", "+230 5210 1234", False),
    Pair("Cameroon", "+23776123456", "+237 6 76 12 34 56", True),
    Pair("Cameroon", "+237 99 12 34 56", "+237699123456", True),
    Pair("Cameroon", "+23776123456", "+237 6 96 12 34 56", False),
    Pair("Cameroon", "+23722201234", "+237 6 22 20 12 34", False),
    Pair("elsewhere", "+14155550123", "+1 (415) 555-0123", True),
    Pair("elsewhere", "+34911222334", "+34 911 22 23 34", True),
    Pair("elsewhere", "+14155550123", "+44 4155550123", False),
    Pair("elsewhere", "+14155550123", "+1 415 555 0124", False),
]
