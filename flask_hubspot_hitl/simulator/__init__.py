"""The stand-in for HubSpot: a process that a real client accepts, for tests, demos and hosts.

Start it with ``python -m flask_hubspot_hitl.simulator --port N``. Where to look: ``world.py`` (what exists),
``threads.py`` (what happens to a conversation), ``events.py`` and ``deliveries.py`` (the two webhook feeds),
``chaos.py`` (the switches), ``control.py`` (``/_sim/*``), ``desk.py`` (the agent's page); every other module is
one family of HubSpot's API. Nothing here is imported by the extension itself.
"""
