"""``flask hubspot-hitl …``: what an operator looks at and does. A command's module is loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click
from flask.cli import AppGroup

_COMMANDS = {
    "status": ("status",),
    "queue": ("worker", "tick", "retry", "handoffs", "reconcile", "adopt", "dead"),
    "people": ("erase", "export"),
    "project": ("project",),
    "setup": ("setup", "teardown", "inboxes"),
    "doctor.command": ("doctor",),
    "portals": ("install-url", "installations", "rekey", "migrate"),
    "tools": ("sign", "simulate", "replay"),
}
"""The commands of each module."""
_MODULES = {name: module for module, names in _COMMANDS.items() for name in names}


class Commands(AppGroup):
    """Load a command when it is asked for: an app that serves needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(_MODULES.keys() | set(super().list_commands(ctx)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None."""
        module = _MODULES.get(cmd_name)
        if module is not None and cmd_name not in self.commands:
            self.add_command(getattr(import_module(f".{module}", __name__), cmd_name.replace("-", "_")))
        return super().get_command(ctx, cmd_name)


group = Commands("hubspot-hitl", help="Handoffs to live agents in HubSpot.")


def settings_not_yet() -> tuple[str, ...]:
    """Return the settings that the command that runs can do without: there is no secret before there is an app."""
    context = click.get_current_context(silent=True)
    while context is not None and context.parent is not None:
        if context.command.name == "project" and context.parent.command is group:
            return ("client_secret",)
        context = context.parent
    return ()
