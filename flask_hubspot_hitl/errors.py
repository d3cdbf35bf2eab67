"""Every exception of the extension. Imports nothing of ours.

::

    HITLError
    ├── ConfigError (ValueError)         a setting is wrong or missing; lists every problem at once
    ├── NotConfigured                    the setting is only needed now, and is not there
    │   └── WrongPortal                  the token is another portal's than the one that is configured
    ├── ContactError
    │   ├── ContactInvalid (ValueError)  not a phone number with country code, nor an e-mail address
    │   └── ContactNotFound (LookupError) HubSpot answered that it does not know the contact
    ├── InboxNotConnected (LookupError)  no authorised channel account of ours in that inbox
    ├── DeliveryFailed                   raised *by a receiver*: the message is refused for good
    ├── DeliveryDelayed                  raised *by a receiver*: not now; this was no attempt
    ├── LedgerUnavailable                the database can't be read or written
    └── HubSpotError                     a call to HubSpot failed
        ├── HubSpotUnavailable           try again later: no connection, time-out, 429, 5xx, dead token
        │   └── TokenRevoked             HubSpot refuses our token; somebody must reconnect the portal
        └── HubSpotRejected              HubSpot said no: trying again would not help
            ├── HubSpotNotFound          404
            └── HubSpotConflict          409
"""

from __future__ import annotations

from collections.abc import Sequence


class HITLError(Exception):
    """Base of every error raised by Flask-HubSpot-HITL."""


class ConfigError(HITLError, ValueError):
    """One or more settings are wrong. ``problems`` holds one readable line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"Flask-HubSpot-HITL cannot start; please fix:\n{lines}")


class NotConfigured(HITLError):
    """A setting that this call needs is missing; the text names it."""


class WrongPortal(NotConfigured):
    """The configured token is not that of ``HUBSPOT_HITL_PORTAL_ID``: an agent's replies would never be heard."""

    def __init__(self, wanted: str, owner: str) -> None:
        super().__init__(
            f"HUBSPOT_HITL_PORTAL_ID is {wanted}, but the configured token is portal {owner}'s: correct the one or "
            "the other"
        )


class ContactError(HITLError):
    """Base of what can be wrong with a contact."""


class ContactInvalid(ContactError, ValueError):
    """The contact is neither a phone number with country code nor an e-mail address."""


class ContactNotFound(ContactError, LookupError):
    """HubSpot answered that it knows no such contact, and the policy is ``require``."""


class InboxNotConnected(HITLError, LookupError):
    """Our channel has no authorised account in the inbox asked for."""


class DeliveryFailed(HITLError):
    """Raise it in a receiver to refuse an operator's message for good.

    The text is shown to the agent in HubSpot, word for word, as the reason of the FAILED message.
    """


class DeliveryDelayed(HITLError):
    """Raise it in a receiver whose own service is down: it is asked again later, and no attempt is counted.

    ``retry_after`` is when, in seconds, if the service said so. After a day the receiver is given up.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LedgerUnavailable(HITLError):
    """The database can't be read or written; nothing was accepted. "Just now" in the text: waiting helps."""


class HubSpotError(HITLError):
    """A call to HubSpot failed.

    The text never holds a query string, a token or a body. ``status`` is the HTTP status (None when there
    was no answer), ``category`` and ``correlation_id`` are HubSpot's own when it gave them.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        category: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.correlation_id = correlation_id


class HubSpotUnavailable(HubSpotError):
    """The call may work later.

    ``ambiguous`` is True when HubSpot may have carried the request out all the same (the answer was lost).
    ``retry_after`` is HubSpot's own wish in seconds, if it named one.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        category: str | None = None,
        correlation_id: str | None = None,
        ambiguous: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status=status, category=category, correlation_id=correlation_id)
        self.ambiguous = ambiguous
        self.retry_after = retry_after


class TokenRevoked(HubSpotUnavailable):
    """HubSpot refuses our token and a refresh did not help; the portal must be connected again."""


class HubSpotRejected(HubSpotError):
    """HubSpot said no (a 4xx that is not 401, 408, 423 or 429); repeating the call would not help."""


class HubSpotNotFound(HubSpotRejected):
    """HubSpot answered 404."""


class HubSpotConflict(HubSpotRejected):
    """HubSpot answered 409."""
