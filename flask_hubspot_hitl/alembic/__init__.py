"""Keep a host's Alembic (or Flask-Migrate) off our tables, in a database that it shares with us.

Without it ``alembic revision --autogenerate`` and ``flask db migrate`` would write down that our tables are to be
dropped. In ``env.py``: ``context.configure(…, include_name=flask_hubspot_hitl.alembic.include_name)``; with
Flask-Migrate: ``Migrate(app, db, include_name=flask_hubspot_hitl.alembic.include_name)``. Does not import Alembic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ledger.schema import SCHEMA, TABLES


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Return False for what is in the database and ours; Alembic's ``include_name``.

    A host that has a hook of its own answers ``include_name(name, type_, parent_names) and …``.

    :param name: the name of a schema, table, column or index; None is the default schema.
    :param type_: what it is: ``schema``, ``table``, …
    :param parent_names: the names of what it belongs to, by ``schema_name`` and ``table_name``.
    """
    if type_ == "schema":
        return name != SCHEMA
    return (name if type_ == "table" else parent_names.get("table_name")) not in TABLES


def include_object(object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Return False for our tables; Alembic's ``include_object``, for an ``env.py`` that has that hook already.

    :param object_: SQLAlchemy's object for the table, column, index or constraint.
    :param name: its name.
    :param type_: what it is: ``table``, ``column``, …
    :param reflected: True when the object was read from the database, False when it is the host's own.
    :param compare_to: what the host has for it; None when it has nothing.
    """
    return not (type_ == "table" and reflected and compare_to is None and name in TABLES)
