"""The app with a Botpress bot: a file for each bridge, chosen by ``EXAMPLE_BRIDGE``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

BRIDGES = ("chat", "studio", "hitl-api")


def connect(app: Flask, name: str) -> None:
    """Switch a bridge on; its options are ``HUBSPOT_HITL_BOTPRESS_*`` settings."""
    if name not in BRIDGES:
        raise ValueError(f"EXAMPLE_BRIDGE must be one of {', '.join(BRIDGES)}")
    import_module(f".{name.replace('-', '_')}", __name__).connect(app)
