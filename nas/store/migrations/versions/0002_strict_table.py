"""Plans say `strict_table` where they said `allow_rough_table`.

Rough tables are used unless that is refused. No study on record needs to refuse them: one that did not allow
them has a good table, or ended before its first trial.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NEW = '"strict_table":false'


def upgrade() -> None:
    """Rewrite the setting in the JSON of every study, as text, so that it is plain SQL."""
    studies = sa.table("studies", sa.column("config_json", sa.Text))
    text: sa.ColumnElement[str] = studies.c.config_json
    for old in ('"allow_rough_table":true', '"allow_rough_table":false'):
        text = sa.func.replace(text, old, NEW)
    op.execute(studies.update().values(config_json=text))
