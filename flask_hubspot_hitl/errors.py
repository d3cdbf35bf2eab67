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
    ├── NobodyAvailable                  no live agent is there, and the handoff was to be for one who is
    ├── DeliveryFailed                   raised *by a receiver*: the message is refused for good
    ├── DeliveryDelayed                  raised *by a receiver*: not now; this was no attempt
    ├── LedgerUnavailable                the database can't be read or written
    │   └── LaneTaken                    a task's lane was taken away: what it is about was erased, for one
    └── HubSpotError                     a call to HubSpot failed
        ├── HubSpotUnavailable           try again later: no connection, time-out, 429, 5xx, dead token
        │   ├── CallPostponed            not asked: the budget of requests, or of threads, is for others just now
        │   └── TokenRevoked             HubSpot refuses our token; somebody must reconnect the portal
        └── HubSpotRejected              HubSpot said no: trying again would not help
            ├── HubSpotNotFound          404
            └── HubSpotConflict          409
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


class HITLError(Exception):
    """Base of every error raised by Flask-HubSpot-HITL."""


class ConfigError(HITLError, ValueError):
    """One or more settings are wrong.

    ``problems`` holds them: a tuple of readable lines.
    """

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        """Make the error, whose text lists all problems.

        :param problems: one line each: the setting's name, what is wrong, and an example.
        :param hint: what helps with all of them.
        """
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"Flask-HubSpot-HITL cannot start; please fix:{lines}" + (f"\n{hint}" if hint else ""))


class NotConfigured(HITLError):
    """A setting that this call needs is missing; the text names it."""


class WrongPortal(NotConfigured):
    """The configured token is not that of ``HUBSPOT_HITL_PORTAL_ID``: no agent's reply would ever arrive."""

    def __init__(self, wanted: str, owner: str) -> None:
        """Make the error, whose text says what to correct.

        :param wanted: the configured portal's id.
        :param owner: the id of the portal that the token belongs to.
        """
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


class NobodyAvailable(HITLError):
    """``start(require_available=True)``: no live agent is there now; nothing was stored.

    The parameters but the first are attributes, too.
    """

    def __init__(self, message: str, *, opens_at: datetime | None = None) -> None:
        """Make the error.

        :param message: why nobody is there.
        :param opens_at: when somebody's working time begins next, an aware datetime in UTC; None when nobody knows.
        """
        super().__init__(message)
        self.opens_at = opens_at


class DeliveryFailed(HITLError):
    """Raise it in a receiver to refuse an operator's message for good.

    The text is shown to the agent in HubSpot, word for word, as the reason of the FAILED message.
    """


class DeliveryDelayed(HITLError):
    """Raise it in a receiver whose own service is down: the receiver is called again later, and no attempt is counted.

    After a day the receiver is given up.
    """

    is_failure = True
    """False when nothing was tried: the pauses do not grow then, and the text is ours and may be shown."""
    is_planned = False
    """True when only its time has not come yet: no line of the log tells of it."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        """Make the error.

        :param message: why, for the log.
        :param retry_after: seconds until the receiver is called again, if its service said so; else the usual pauses
            apply.
        """
        super().__init__(message)
        self.retry_after = retry_after


class LedgerUnavailable(HITLError):
    """The database can't be read or written, and nothing was accepted. "Just now" in the text: waiting helps."""


class LaneTaken(LedgerUnavailable):
    """The task at work lost its lane, because its person was erased or its lease ran out: nothing was stored."""

    def __init__(self) -> None:
        """Make the error."""
        super().__init__("what this was about was erased, or another process has it now")


class HubSpotError(HITLError):
    """A call to HubSpot failed.

    The text never holds a query string, a token or a body. The parameters are attributes, too. Source of the fields:
    docs/hubspot.rst (Statuses; Error bodies).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        category: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """Make the error.

        :param message: what was tried, and how it failed.
        :param status: the HTTP status; None when there was no answer.
        :param category: HubSpot's own word for the kind of error, if it gave one.
        :param correlation_id: HubSpot's id of the call, for its support, if it gave one.
        """
        super().__init__(message)
        self.status = status
        self.category = category
        self.correlation_id = correlation_id


class HubSpotUnavailable(HubSpotError):
    """The call failed for now; it may work later."""

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
        """Make the error.

        :param message: what was tried, and how it failed.
        :param status: the HTTP status; None when there was no answer.
        :param category: HubSpot's own word for the kind of error, if it gave one.
        :param correlation_id: HubSpot's id of the call, for its support, if it gave one.
        :param ambiguous: True when HubSpot may have carried the request out all the same, because the answer was lost.
        :param retry_after: seconds until HubSpot wants to be asked again, if it said so.
        """
        super().__init__(message, status=status, category=category, correlation_id=correlation_id)
        self.ambiguous = ambiguous
        self.retry_after = retry_after


class CallPostponed(HubSpotUnavailable):
    """The call was not made, by our own doing: to keep to a budget, or to leave threads for other servers.

    ``retry_after`` says when its turn may come.
    """


class TokenRevoked(HubSpotUnavailable):
    """HubSpot refuses our token and a refresh did not help: the portal must be connected again."""


class HubSpotRejected(HubSpotError):
    """HubSpot refuses the call (a 4xx but 401, 408, 423 and 429); repeating it would not help."""


class HubSpotNotFound(HubSpotRejected):
    """HubSpot answered 404: what the call names is not there."""


class HubSpotConflict(HubSpotRejected):
    """HubSpot answered 409: the call contradicts what is there."""
