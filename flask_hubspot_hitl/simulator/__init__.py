"""Play HubSpot: a process that a real client accepts, for tests, demos and hosts.

Start it with ``python -m flask_hubspot_hitl.simulator --port N``; a test gets it from ``flask_hubspot_hitl.testing``.
Each layer imports only those before it:

* ``model/``: what exists (``world.py``), what exists at the start (``preset.py``), and errors;
* ``engine/``: the two webhook feeds (``deliveries.py``, ``signing.py``), the switches (``chaos.py``), logs, limits;
* ``behaviour/``: what customers and agents do to a conversation (``publishing.py``, ``threads.py``), ``events.py``;
* ``api/``: HubSpot's API, one module for each family; what an admin does in a browser (``consent.py``, ``connect.py``);
* ``desk/``: ``/_sim/*`` (``control.py``, ``control_threads.py``) and the agent's page (``desk.py``);
* ``app.py``: all of it as a Flask app. ``botpress/`` is the stand-in for Botpress.

Nothing here is imported by the extension itself.
"""
