"""Hold one app's settings, ledger, and a HubSpot client for each portal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from itsdangerous import URLSafeSerializer

from ..clock import Clock
from ..config import Settings
from ..domain import Operator
from ..errors import HubSpotRejected, LedgerUnavailable, NotConfigured, WrongPortal
from ..hubspot.admin import AppCalls
from ..hubspot.client import HubSpotClient
from ..hubspot.journal import OAUTH_VERSION, JournalCalls
from ..hubspot.oauth import TokenEndpoint
from ..hubspot.options import ClientOptions, ConnectionOptions, OAuthOptions
from ..hubspot.scopes import AppKind
from ..hubspot.tokens import NoToken, RefreshingToken, StaticToken, TokenProvider
from ..ledger import Ledger
from ..ledger.crypto import Cipher
from ..metrics import Meter
from ..process import Process
from . import installations
from .api_version import api_version, oauth_version
from .app_kind import app_kind
from .attendance import Attendance
from .remote_files import Fetcher
from .throttle import Throttle
from .tickets import TicketNotes
from .tokens import DatabaseTokens, digest

SHARES = 4
"""One server may hold one of so many parts of the threads that there may be."""


@dataclass(slots=True, weakref_slot=True)
class Services:
    """Hold one app's settings, ledger, clock and HubSpot clients."""

    settings: Settings
    ledger: Ledger
    clock: Clock
    secret_keys: Callable[[], Sequence[str | bytes]] = field(default=tuple, repr=False)
    """The app's ``SECRET_KEY`` and its fallbacks, asked for when a client is made."""
    meter: Meter = field(default_factory=Meter)
    """Takes what is measured."""
    receipts_refused: int = 0
    """How many receipts HubSpot answered with a 4xx, in this process."""
    fixed_threads: int | None = None
    """How many threads this process runs lanes with, when that is no setting's number and they do not grow."""
    remote_files: Fetcher = field(init=False)
    """Fetches the attachments that are given by URL."""
    attendance: Attendance = field(init=False)
    """Tells whether a live agent is there."""
    ticket_notes: TicketNotes = field(init=False)
    """Tells whether notes may be on tickets."""
    _notes_refused: dict[str, int] = field(default_factory=dict, repr=False)
    _clients: dict[str, HubSpotClient] = field(default_factory=dict, repr=False)
    _journal: JournalCalls | None = field(default=None, repr=False)
    _checked: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _process: Process = field(init=False, repr=False)
    _inherited: object = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._process = Process(self._begin_anew)
        settings = self.settings
        self.remote_files = Fetcher(
            settings.attachment_hosts,
            limit=settings.max_attachment_bytes,
            proxy=settings.proxy,
            private_hosts=settings.private_hosts,
            share=self.share,
            now_ms=self.ledger.now_ms,
        )
        self.attendance = Attendance(settings, self.ledger, self.client)
        self.ticket_notes = TicketNotes(settings, self.ledger, self.client)

    def share(self) -> int:
        """Return how many threads of one process may wait for one and the same server; never all there are."""
        settings, fixed = self.settings, self.fixed_threads
        if fixed is None and settings.dispatcher_max_threads is None:
            fixed = settings.dispatcher_threads
        return max(1, min(settings.most_threads // SHARES, (fixed or settings.most_threads) - 1))

    def _begin_anew(self) -> None:
        # The parent's clients are kept, and neither used nor closed: their locks, budgets and connections are its own.
        self._inherited = (self._clients, self._journal)
        self._clients, self._journal, self._lock = {}, None, threading.Lock()
        self.attendance = Attendance(self.settings, self.ledger, self.client)

    def notes_refused(self, portal_id: str, now: int) -> None:
        """Note that a portal takes no notes: for an hour, histories go into the first message.

        :param now: epoch ms.
        """
        self._notes_refused[portal_id] = now + 3_600_000

    def takes_notes(self, portal_id: str) -> bool:
        """Return False for an hour after the portal refused a note."""
        return self.ledger.now_ms() >= self._notes_refused.get(portal_id, 0)

    def client(self, portal_id: str) -> HubSpotClient:
        """Return the client that calls HubSpot for a portal.

        :raises NotConfigured: when there is no token for the portal.
        :raises LedgerUnavailable: when the token can't be looked up.
        """
        self._process.check()
        with self._lock:
            if portal_id not in self._clients:
                gate = Throttle(self.ledger, portal_id, self.settings.rate_limit, self.share)
                tokens = self._tokens(portal_id, gate)
                self._clients[portal_id] = HubSpotClient(self._client_options(), tokens=tokens, gate=gate)
            return self._clients[portal_id]

    def journal(self) -> JournalCalls:
        """Return the client that reads HubSpot's journal, with the app's own token.

        :raises NotConfigured: when there is no client id.
        """
        self._process.check()
        with self._lock:
            if self._journal is None:
                oauth = replace(self._oauth_options(), oauth_version=OAUTH_VERSION)
                self._journal = JournalCalls(self._client_options(), endpoint=TokenEndpoint(oauth))
            return self._journal

    def check_portal(self, portal_id: str) -> None:
        """Ask HubSpot once which portal the configured access token belongs to, before anything is done with it.

        A refresh token's portal comes with each renewal.

        :raises WrongPortal: when the token is another portal's.
        :raises HubSpotUnavailable: when HubSpot can't be asked.
        """
        if portal_id in self._checked:
            return
        token = StaticToken(self.settings.access_token or "", on_refused=lambda: self._refused(portal_id))
        gate = Throttle(self.ledger, portal_id, self.settings.rate_limit, self.share)
        client = HubSpotClient(self._client_options(), tokens=token, gate=gate)
        try:
            owner = str(client.account_info().get("portalId"))
        except HubSpotRejected:
            owner = portal_id  # a token without the right to ask; doctor tells
        finally:
            client.close()
        if owner != portal_id:
            raise WrongPortal(portal_id, owner)
        self._checked.add(portal_id)

    def skew_seconds(self) -> float | None:
        """Return the seconds by which this clock is ahead of HubSpot's (negative: behind).

        :returns: by the newest answer that any portal got; None without one.
        """
        self._process.check()
        with self._lock:
            known = [client.skew_seconds() for client in self._clients.values()]
        return next((one for one in known if one is not None), None)

    def app_client(self) -> AppCalls:
        """Make a client for calls about the app, with the developer API key and no portal's token.

        The caller closes the client.

        :raises LedgerUnavailable: when the API version can't be looked up.
        """
        return AppCalls(self._client_options(), tokens=NoToken())

    def _connection(self) -> ConnectionOptions:
        settings = self.settings
        return ConnectionOptions(
            clock=self.clock, proxy=settings.proxy, private_hosts=settings.private_hosts, meter=self.meter
        )

    def app_kind(self) -> AppKind:
        """Return the app's kind at HubSpot.

        :raises LedgerUnavailable: when it can't be looked up.
        """
        with self.ledger.read() as tx:
            return app_kind(tx, self.settings)

    def wanted_scopes(self) -> tuple[str, ...]:
        """Return the scopes that an installation has to ask for.

        :raises LedgerUnavailable: when the app's kind can't be looked up.
        """
        return installations.wanted_scopes(self.settings, self.app_kind())

    def _client_options(self) -> ClientOptions:
        settings = self.settings
        with self.ledger.read() as tx:
            version = api_version(tx, settings)
        return ClientOptions(
            base_url=settings.api_base_url,
            api_version=version,
            connection=self._connection(),
            developer_api_key=settings.developer_api_key,
            app_id=settings.app_id,
        )

    def _oauth_options(self, version: str | None = None) -> OAuthOptions:
        """Describe our app to HubSpot's token endpoint.

        :param version: of the endpoint; None: the one in use.
        :raises NotConfigured: when there is no client id.
        """
        settings = self.settings
        if settings.client_id is None:
            raise NotConfigured("HUBSPOT_HITL_CLIENT_ID is missing")
        if version is None:
            with self.ledger.read() as tx:
                version = oauth_version(tx, settings)
        return OAuthOptions(
            base_url=settings.api_base_url,
            oauth_version=version,
            client_id=settings.client_id,
            client_secret=settings.client_secret[0],
            connection=self._connection(),
        )

    def known_operator(self, portal_id: str, actor_id: str) -> Operator | None:
        """Return an operator from this process's cache, without a call."""
        self._process.check()
        client = self._clients.get(portal_id)
        return None if client is None else client.known_operator(actor_id)

    def close(self) -> None:
        """Close the connections to HubSpot; :meth:`client` makes new ones later."""
        self._process.check()
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
            if self._journal is not None:
                self._journal.close()
                self._journal = None
        self.remote_files.close()

    def _tokens(self, portal_id: str, gate: Throttle) -> TokenProvider:
        """Return where a portal's token comes from: the configuration, or the portal's own installation."""
        settings = self.settings
        if settings.portal_id not in (None, portal_id):
            raise NotConfigured(f"portal {portal_id} is not ours: HUBSPOT_HITL_PORTAL_ID is {settings.portal_id}")
        is_configured = portal_id == settings.portal_id
        if is_configured and settings.access_token:
            return StaticToken(
                settings.access_token,
                on_refused=lambda: self._refused(portal_id),
                check=lambda: self.check_portal(portal_id),
            )
        configured = settings.refresh_token if is_configured else None
        cipher = self.cipher()
        if configured is None:
            with self.ledger.read() as tx:
                found = tx.installations.get(portal_id)
            if found is None or found.secret is None:
                raise NotConfigured(_no_token(portal_id))
            if cipher is None:
                raise NotConfigured(NO_KEY)
        return RefreshingToken(
            self._oauth_options(),
            refresh_token=configured,
            gate=gate,
            store=DatabaseTokens(self.ledger, portal_id, cipher, configured),
            portal_id=None if configured is None else portal_id,
        )

    def cipher(self) -> Cipher | None:
        """Return what encrypts secrets at rest; None when the app has no key for it.

        :raises NotConfigured: when a configured key is not a valid Fernet key.
        """
        secret_keys = self.secret_keys()
        if not self.settings.encryption_key and not secret_keys:
            return None
        try:
            return Cipher(self.settings.encryption_key, secret_keys)
        except ValueError as error:
            raise NotConfigured(str(error)) from None

    def signer(self, purpose: str) -> URLSafeSerializer:
        """Return what signs values of ours that strangers bring back, one for each purpose.

        :raises NotConfigured: when there is no key.
        """
        keys = self.secret_keys() or self.settings.encryption_key
        if not keys:
            raise NotConfigured(NO_KEY)
        # itsdangerous signs with the last key and accepts all; ours are listed the other way round.
        bare = [key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key for key in reversed(keys)]
        return URLSafeSerializer(bare, salt=f"hubspot-hitl.{purpose}")

    def token_endpoint(self, version: str | None = None) -> TokenEndpoint:
        """Make a client of HubSpot's token endpoint, for a portal that is not known yet. The caller closes it.

        :param version: of the endpoint; None: the one in use.
        :raises NotConfigured: when there is no client id.
        :raises LedgerUnavailable: when the version in use can't be looked up.
        """
        return TokenEndpoint(self._oauth_options(version))

    def _refused(self, portal_id: str) -> None:
        """Signal ``installation_revoked`` once for a configured access token that HubSpot refuses."""
        key = f"installation-revoked:{portal_id}:{digest(self.settings.access_token or '')}"
        with contextlib.suppress(LedgerUnavailable), self.ledger.write() as tx:
            installations.put_signal(tx, "installation_revoked", portal_id, now=self.ledger.now_ms(), key=key)


NO_KEY = "there is no key to encrypt HubSpot's tokens with: set the app's SECRET_KEY, or HUBSPOT_HITL_ENCRYPTION_KEY"


def _no_token(portal_id: str) -> str:
    return (
        f"there is no token for portal {portal_id}: install the app in it ('flask hubspot-hitl install-url'), "
        "or set HUBSPOT_HITL_REFRESH_TOKEN (with HUBSPOT_HITL_CLIENT_ID) or HUBSPOT_HITL_ACCESS_TOKEN for "
        "HUBSPOT_HITL_PORTAL_ID"
    )
