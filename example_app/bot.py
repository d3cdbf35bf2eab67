"""The bot: a few rules on words. Knows nothing of Flask, HubSpot or the people behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bot says; ``wants_human`` when the user asked for a person, ``is_fact`` when it is no mere courtesy."""

    text: str
    wants_human: bool = False
    is_fact: bool = False


RULES = (
    ({"human", "agent", "person", "somebody"}, Answer("Tell me below who you are, and I will call somebody.", True)),
    ({"hello", "hi", "hey"}, Answer("Hello! Ask me about our hours or prices, or say “human” to talk to a person.")),
    ({"hours", "open", "when"}, Answer("We are here Monday to Friday, 9 to 17.", is_fact=True)),
    ({"price", "prices", "cost"}, Answer("The small plan is 9 a month, the large one 29.", is_fact=True)),
    ({"thanks", "thank", "bye"}, Answer("You are welcome!")),
)
OTHERWISE = Answer("I did not understand that. Try “hours”, “prices” or “human”.")


def answer(text: str) -> Answer:
    """The answer of the first rule that has one of the words of ``text``."""
    words = set(re.findall(r"\w+", text.lower()))
    return next((found for known, found in RULES if known & words), OTHERWISE)
