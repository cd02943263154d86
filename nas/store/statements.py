"""Statements that are built once: those of the search's loop and those that differ between databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from nas.store.rows import TRIAL_COLUMNS
from nas.store.schema import studies, trials

INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

CHANGED = (
    select(*TRIAL_COLUMNS, trials.c.revision)
    .where(trials.c.study_id == bindparam("of_study"), trials.c.revision > bindparam("known_revision"))
    .order_by(trials.c.revision)
)


def upsert(dialect: str) -> Insert:
    """Save a trial over what was recorded of it, with a revision above all others of its study."""
    revision = (
        select(func.coalesce(func.max(trials.c.revision), 0) + 1)
        .where(trials.c.study_id == bindparam("of_study"))
        .scalar_subquery()
    )
    statement = INSERTS[dialect](trials).values(revision=revision)
    key = [column.name for column in trials.primary_key]
    news = {column.name: statement.excluded[column.name] for column in trials.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=news)


def insert_study(dialect: str) -> Insert:
    """Add a study unless the name is taken."""
    return INSERTS[dialect](studies).on_conflict_do_nothing(index_elements=["name"])
