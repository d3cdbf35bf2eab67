"""Encrypt stored tokens, with ``ENCRYPTION_KEY`` or with keys derived from the app's ``SECRET_KEY``.

Imports ``cryptography`` only when something is to be encrypted or read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

_INFO = b"flask-hubspot-hitl: secrets at rest, version 1"


class Undecipherable(ValueError):
    """Say that a stored secret can't be read with the keys at hand, or is another portal's."""


class Cipher:
    """Encrypt small JSON objects for one portal at a time; the first key encrypts, all decrypt.

    :param encryption_keys: Fernet keys.
    :param secret_keys: Flask's ``SECRET_KEY`` and its fallbacks; keys are derived from them with HKDF.
    :raises ValueError: when there is no key at all, or an encryption key is not valid.
    """

    def __init__(self, encryption_keys: Sequence[str], secret_keys: Sequence[str | bytes]) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        try:
            fernets = [Fernet(key) for key in encryption_keys]
        except ValueError:
            raise ValueError("HUBSPOT_HITL_ENCRYPTION_KEY is not a Fernet key (32 bytes, as URL-safe base64)") from None
        fernets += [Fernet(_derived(key)) for key in secret_keys]
        self._fernet: MultiFernet = MultiFernet(fernets)

    def __repr__(self) -> str:
        return "Cipher(…)"

    def encrypt(self, portal_id: str, value: dict[str, Any]) -> str:
        """Return ``value`` as ciphertext that names its portal inside, so that it can't be moved to another row."""
        text = json.dumps({"portal_id": portal_id, "value": value})
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def decrypt(self, portal_id: str, secret: str) -> dict[str, Any]:
        """Return what :meth:`encrypt` was given.

        :raises Undecipherable: the keys are others, the text is damaged, or the secret is another portal's.
        """
        from cryptography.fernet import InvalidToken

        try:
            found = json.loads(self._fernet.decrypt(secret.encode()))
            owner, value = found["portal_id"], found["value"]
        except (InvalidToken, ValueError, KeyError, TypeError):
            raise Undecipherable("a stored secret can't be read with the keys at hand") from None
        if owner != portal_id or not isinstance(value, dict):
            raise Undecipherable("a stored secret is another portal's")
        return value


def _derived(secret: str | bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    material = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_INFO).derive(material)
    return base64.urlsafe_b64encode(key)
