"""Connect a handoff with Botpress by bridges, each switched on by ``init_app``: ``chat``, ``studio``, ``hitl_api``.

The core knows nothing of them. ``options`` reads their settings, ``door`` guards their routes, ``service`` makes their
calls.
"""
