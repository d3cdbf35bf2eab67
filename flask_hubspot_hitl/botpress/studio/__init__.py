"""Bridge a channel that Botpress owns: a snippet at the start of the bot's flow asks us whether bot or agent answers.

``bridge`` puts it together, ``gate`` answers the bot's snippets, ``channel`` is what the user and the bot are told,
``api`` speaks to Botpress, ``memory`` is what the bridge remembers.
"""

from .bridge import StudioBridge as StudioBridge
