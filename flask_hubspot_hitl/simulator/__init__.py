"""The stand-in for HubSpot: a process that a real client accepts, for tests, demos and hosts.

Start it with ``python -m flask_hubspot_hitl.simulator --port N``. Where to look: ``world.py`` (what exists),
``publishing.py`` and ``threads.py`` (what customers and agents do to a conversation), ``events.py``, ``deliveries.py``
and ``signing.py`` (the two webhook feeds), ``chaos.py`` (the switches), ``control.py`` and ``control_threads.py``
(``/_sim/*``), ``desk.py`` (the agent's page), ``consent.py`` and ``connect.py`` (what an admin does in a browser);
every other module is one family of HubSpot's API. Nothing here is imported by the extension itself.
"""
