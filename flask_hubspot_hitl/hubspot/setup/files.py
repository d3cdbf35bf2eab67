"""Compare a project's folder with what is wanted, and plan what a person does about it.

Of ours it may import its neighbours here, and ``hubspot.project``; nothing is changed here.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import project
from ..project import FolderError, Wanted
from ..project.kinds import INIT


def flag(profile: str | None) -> str:
    """Return the option that names a profile to ``hs`` and to our own commands; nothing without one."""
    return f" --profile {profile}" if profile else ""


def upload(folder: str, profile: str | None, *, for_stand_in: bool) -> str:
    """Return the command that brings a folder to HubSpot, or to the stand-in."""
    place = shlex.quote(folder)
    if for_stand_in:
        return f"flask hubspot-hitl project upload {place}{flag(profile)}"
    return f"cd {place} && hs project upload{flag(profile)}"


@dataclass(frozen=True, slots=True)
class Files:
    """Hold how a project's files differ from what is wanted.

    ``folder`` is its name for people: relative where that is possible. ``trouble`` is why it can't be read.
    ``distribution`` is the app's, when the file says one.
    """

    folder: str
    differences: Sequence[project.Difference] = ()
    trouble: str | None = None
    profile: str | None = None
    distribution: str | None = None
    for_stand_in: bool = False

    @property
    def upload(self) -> str:
        """Return the command that brings the folder to HubSpot, or to the stand-in."""
        return upload(self.folder, self.profile, for_stand_in=self.for_stand_in)

    @property
    def commands(self) -> list[str]:
        """Return what puts the folder right, and brings it to HubSpot."""
        return [f"flask hubspot-hitl project init {shlex.quote(self.folder)}", self.upload]

    @property
    def lines(self) -> list[str]:
        """Return a line for each difference, with what puts it right unless that is done by ``project init``."""
        return [f"{one.path}: {one.what}" if one.fix == INIT else str(one) for one in self.differences]

    def facts(self) -> dict[str, Any]:
        """Return the comparison, for machines."""
        differences = [one.facts() for one in self.differences]
        return {"folder": self.folder, "trouble": self.trouble, "differences": differences}


def compare(root: Path, wanted: Wanted, *, for_stand_in: bool) -> Files:
    """Read a folder and compare it."""
    place = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
    try:
        folder = project.read(place)
    except FolderError as error:
        return Files(str(place), trouble=str(error), for_stand_in=for_stand_in)
    profile = project.profile_of(folder, wanted)
    apps = [one.field("config") for one in folder.components() if one.field("type") == "app"]
    distribution = apps[0].get("distribution") if apps and isinstance(apps[0], dict) else None
    return Files(
        str(place),
        project.differences(folder, wanted),
        profile=profile,
        distribution=distribution if isinstance(distribution, str) else None,
        for_stand_in=for_stand_in,
    )


def steps(found: Files | None, target: str) -> tuple[str, list[str]] | None:
    """Return why somebody has to see to the files, and the steps; None when they are as wanted.

    :param found: None when no folder is known here.
    :param target: where the app's webhooks shall go to.
    """
    if found is None:
        why = (
            f"The app's webhooks are set in the project's files ({project.WEBHOOKS_FILE}), and no folder is known here."
        )
        return why, [
            "Set HUBSPOT_HITL_PROJECT_DIR to the folder, or have it written: flask hubspot-hitl project init DIR",
            f"It has to send the app's webhooks to {target}; 'flask hubspot-hitl project check DIR' looks at the rest.",
            "In that folder: hs project upload",
        ]
    if found.trouble is not None:
        return "The project's files can't be read.", [found.trouble, *found.commands]
    if found.differences:
        count = len(found.differences)
        points = "in one point" if count == 1 else f"in {count} points"
        return f"The project's files in {found.folder} differ {points} from what is wanted.", [
            *found.lines,
            *found.commands,
        ]
    return None
