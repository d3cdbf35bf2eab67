"""The agent's desk: one plain page. It polls ``/_sim/threads`` and posts to ``/_sim/threads/<id>/<verb>``."""

from __future__ import annotations

from flask import Blueprint, render_template

bp = Blueprint("desk", __name__)


@bp.get("/")
def page() -> str:
    """The page; everything in it comes from ``static/desk.js``."""
    return render_template("desk.html")


@bp.get("/favicon.ico")
def favicon() -> tuple[str, int]:
    """There is none."""
    return "", 204
