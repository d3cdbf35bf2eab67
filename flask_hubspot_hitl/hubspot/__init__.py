"""Speak HubSpot's wire formats: signatures, events, paths, calls, content.

Imports of ours: ``errors``, ``domain`` and ``clock`` only; no Flask, no database.
"""
