"""Real clients of HubSpot's API from the registries, run unmodified against the stand-in (``tests/test_clients*.py``).

``catalogue.py`` names them and their versions, ``environments.py`` installs each apart, ``front.py`` lets them find the
stand-in under HubSpot's own names over TLS. ``crm_*``, ``files_*``, ``site_*`` and ``tap.py`` are the programs that use
them: they run with the client's own Python or Node, read JSON from standard input and write JSON.
"""
