"""The clients, the versions they are known to pass with, and what each does here. ``docs/clients.rst`` lists them."""

from __future__ import annotations

from dataclasses import dataclass

NPM, PYPI = "npm", "PyPI"


@dataclass(frozen=True, slots=True)
class Client:
    """A package of a registry, and the program of ours that uses it."""

    registry: str
    package: str
    version: str
    program: str
    does: tuple[str, ...]
    """What the program does and reports."""
    beside: tuple[tuple[str, str], ...] = ()
    """Packages that it is used with and does not bring along: name and version."""
    extra: str = ""
    """The extra of a PyPI package."""

    def requirements(self, *, newest: bool) -> tuple[tuple[str, str], ...]:
        """Return names and versions to install; no versions for the newest.

        :param newest: whether the newest are wanted, and not those known to pass.
        """
        every = ((self.package, self.version), *self.beside)
        return tuple((name, "" if newest else version) for name, version in every)


CRM_CALLS = ("contacts", "properties", "owners")
ALL_CALLS = (*CRM_CALLS, "history", "files", "account")
MCP_CALLS = ("contacts", "properties", "own owner", "account")
LOGIN = ("login", "token introspection")
SYNC = ("properties", "contacts in full", "contacts that changed")
CRM = (
    Client(PYPI, "hubspot-sdk", "0.1.0a9", "crm_hubspot_sdk.py", ALL_CALLS),
    Client(PYPI, "hubspot-api-client", "12.0.0", "crm_hubspot_api_client.py", ALL_CALLS),
    Client(NPM, "@hubspot/api-client", "14.0.1", "crm_api_client.mjs", ALL_CALLS),
    Client(NPM, "@hubspot/mcp-server", "0.4.0", "crm_mcp_server.mjs", MCP_CALLS),
    Client(PYPI, "arcade-hubspot-crm-api", "0.2.1", "crm_arcade.py", CRM_CALLS),
    Client(PYPI, "s6r-hubspot", "1.1.6", "crm_s6r.py", (*CRM_CALLS, "account", "renewing", "a missing scope")),
    Client(PYPI, "hubspotctl", "0.8.1", "crm_hubspotctl.py", ("contacts", "properties", "account")),
    Client(PYPI, "airbyte-agent-hubspot", "0.15.32", "crm_airbyte_agent.py", ("reading contacts", "renewing")),
)
LOGINS = (
    Client(
        PYPI,
        "django-allauth",
        "65.21.1",
        "site_allauth.py",
        (*LOGIN, "PKCE"),
        beside=(("django", "5.2.19"),),
        extra="socialaccount",
    ),
    Client(
        PYPI,
        "social-auth-core",
        "7.0.0",
        "site_social.py",
        LOGIN,
        beside=(("social-auth-app-django", "8.0.0"), ("django", "5.2.19")),
    ),
    Client(NPM, "@auth/core", "0.41.3", "site_authjs.mjs", (*LOGIN, "PKCE")),
)
TAPS = (
    Client(PYPI, "meltano-tap-hubspot", "0.10.1", "tap.py", SYNC),
    Client(PYPI, "tap-hubspot", "4.5.0", "tap.py", SYNC),
)
FILES = (
    Client(NPM, "@hubspot/local-dev-lib", "5.10.3", "files_local_dev_lib.mjs", ("files", "overwriting", "account")),
)
CLIENTS = (*CRM, *LOGINS, *TAPS, *FILES)
