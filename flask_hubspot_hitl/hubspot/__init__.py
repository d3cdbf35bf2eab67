"""All that knows HubSpot's wire: signatures, events, paths, calls, content.

Imports of ours: ``errors``, ``domain`` and ``clock`` only; no Flask, no database.
"""
