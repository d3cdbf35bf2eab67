"""Control routes for what happens around installations: an admin removes the app, and what the journal does then."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from ..behaviour import lifecycle
from ..engine.simulation import Simulation, current
from ..model import preset
from ..model.errors import ApiError
from ..model.journal import JournalFile
from ..model.world import now_ms
from .control import control_body

bp = Blueprint("control_journal", __name__, url_prefix="/_sim")


@bp.post("/uninstall")
def uninstall() -> Any:
    """An admin removes the preset app (or ``appId``) from the preset portal (or ``portalId``)."""
    sim = current()
    body = control_body({"portalId": str, "appId": str})
    made = sim.world.installs.get((body.get("appId") or preset.APP_ID, body.get("portalId") or preset.PORTAL_ID))
    if made is None:
        raise ApiError.missing("Such an installation")
    lifecycle.uninstall(sim, made)
    return {}


@bp.get("/journal")
def show() -> Any:
    """Every file of the journal, oldest first, those that are too old too."""
    sim, now = current(), now_ms()
    journal = sim.world.journal
    return [
        {"offset": one.offset, "appId": one.app_id, "events": one.events, "kept": journal.is_kept(one, now)}
        for one in journal.files
    ]


@bp.post("/journal/pass")
def let_time_pass() -> Any:
    """Let ``seconds`` go by for the journal: after three days what is in it can't be read any more."""
    body = control_body({"seconds!": int})
    current().world.journal.passed_ms += body["seconds"] * 1000
    return {}


@bp.post("/journal/repeat")
def repeat() -> Any:
    """Publish the newest file's events once more, in a file of their own."""
    sim = current()
    found = newest(sim)
    journal = sim.world.journal
    journal.files.append(JournalFile(found.app_id, list(found.events), now_ms() + journal.passed_ms))
    return {}


@bp.post("/journal/gap")
def gap() -> Any:
    """Lose the newest file, and its offset with it."""
    sim = current()
    sim.world.journal.files.remove(newest(sim))
    return {}


@bp.post("/journal/events")
def publish() -> Any:
    """Publish any ``events`` for the preset app (or ``appId``)."""
    sim = current()
    body = control_body({"events!": list, "appId": str})
    journal = sim.world.journal
    made = JournalFile(body.get("appId") or preset.APP_ID, body["events"], now_ms() + journal.passed_ms)
    journal.files.append(made)
    return {"offset": made.offset}


def newest(sim: Simulation) -> JournalFile:
    """The newest file, or a plain word when there is none."""
    if not sim.world.journal.files:
        raise ApiError.missing("A file of the journal")
    return sim.world.journal.files[-1]
