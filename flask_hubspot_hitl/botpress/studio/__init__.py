"""Botpress owns the user's channel: a snippet at the start of its flow asks us who answers.

``bridge`` puts it together, ``gate`` answers the bot's snippets, ``channel`` is what the user and the bot are told,
``api`` speaks to Botpress, ``memory`` is what the bridge remembers.
"""

from .bridge import StudioBridge as StudioBridge
