"""Tell which kind of app it is at HubSpot, and what a person is told when that is not known. Calls nobody.

Source: docs/hubspot.rst (Subscriptions API; Project apps).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..scopes import AppKind

UNKNOWN = (
    "Neither HubSpot nor a setting says which kind of app this is. It is taken for a project app, the only kind that "
    "can still be made."
)
HOW_TO_SEE = (
    "How to see it: an app that is listed in HubSpot under Development, Projects, is a project app; any other is a "
    "legacy app, public if it has a client id, private if it has nothing but an access token."
)
SAY_IT = f"Set HUBSPOT_HITL_APP_KIND to {', '.join(AppKind)}."


@dataclass(frozen=True, slots=True)
class KnownKind:
    """Hold the kind as it is known here; without ``is_certain`` it is a guess that HubSpot's answer corrects."""

    kind: AppKind
    is_certain: bool

    @property
    def has_webhooks_api(self) -> bool:
        """Return whether HubSpot is asked for the app's webhooks: it answers for legacy public apps alone."""
        return self.kind is AppKind.LEGACY_PUBLIC or not self.is_certain

    def after(self, is_served: bool | None) -> KnownKind:
        """Return what is known once HubSpot was asked for the app's webhooks.

        :param is_served: None when it was not asked.
        """
        if is_served is None or (self.is_certain and not is_served):
            return self
        return KnownKind(AppKind.LEGACY_PUBLIC if is_served else AppKind.PROJECT, is_served)


def contradiction(kind: AppKind) -> str:
    """Return what to do when HubSpot refuses the webhooks of an app that counts as a legacy public one."""
    return (
        f"HubSpot lets legacy public apps do so, and this app counts as {kind}. If it is listed under Development, "
        "Projects, it is a project app by now: set HUBSPOT_HITL_APP_KIND to project."
    )
