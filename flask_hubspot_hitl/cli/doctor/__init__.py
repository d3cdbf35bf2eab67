"""Look for what keeps handoffs from working, and say what puts it right.

A check is a plain function that yields findings; one file for each thing that is looked at. ``findings`` has the words,
``examination`` runs the checks, ``command`` shows what they found.
"""

from .examination import Report, examine, explain
from .findings import Code, Finding, Level

__all__ = ["Code", "Finding", "Level", "Report", "examine", "explain"]
