"""The folders of a portal's file manager, each known by its path. Knows nothing of HTTP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Folder:
    """A folder; ``path`` begins with a slash and ends with the folder's name."""

    id: str
    portal_id: str
    path: str
    created_ms: int
    updated_ms: int
    archived: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """The path of the folder that it lies in; empty at the top."""
        return self.path.rpartition("/")[0]


def cleaned(path: str) -> str:
    """Return a path with one slash before each of its parts, and none at its end; empty for the top."""
    return "".join(f"/{part}" for part in path.replace("\\", "/").split("/") if part.strip(". "))


def inside(path: str, folder: str) -> bool:
    """Whether a path is a folder's or lies below it."""
    return path == folder or path.startswith(f"{folder}/")
