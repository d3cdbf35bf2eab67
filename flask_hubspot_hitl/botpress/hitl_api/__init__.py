"""Bridge the ``plus/hitl-api`` contract: Botpress's older HITL agent hands its conversations to us, and gets them back.

Botpress calls five routes of ours and we call three of its; neither side is authenticated but by a secret in the URL,
and no request has an id. Source: docs/botpress.rst (Who can use it; What Botpress sends; What the service sends). For
bots on the HITL agent only; the current HITL plugin does not take this integration.

``bridge`` puts it together, ``routes`` is what Botpress calls, ``tickets`` what is remembered and guessed of users and
sessions, ``agents`` what we call.
"""

from .bridge import HitlApiBridge as HitlApiBridge
