"""Play Botpress: its Chat API, its Runtime API, and the two sides of a bot that hands over.

Start it with ``python -m flask_hubspot_hitl.simulator.botpress --port N``. In this folder ``world.py`` has what exists,
``bot.py`` what the bot says, ``signals.py`` the Chat integration's webhook; ``chat.py`` with ``people.py`` and
``runtime.py`` are the two APIs, ``hitl_api.py`` and ``studio.py`` act as the ``plus/hitl-api`` integration and as the
snippets in Studio, ``webhook.py`` is the Webhook integration, and ``control.py`` is ``/_sim/*``.
"""
