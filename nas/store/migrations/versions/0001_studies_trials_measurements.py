"""The first schema: studies, trials, measurements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the three tables."""
    _create_studies()
    _create_trials()
    _create_measurements()


def _create_studies() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("space_digest", sa.Text, nullable=False),
        sa.Column("space_json", sa.Text, nullable=False),
        sa.Column("config_json", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_trials() -> None:
    op.create_table(
        "trials",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("stage", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("evaluator", sa.Text, nullable=False),
        sa.Column("steps", sa.BigInteger, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("finished", sa.Double),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("reused", sa.Integer),
        sa.Column("reason", sa.Text),
        sa.Column("genotype_json", sa.Text, nullable=False),
        sa.Column("values_json", sa.Text, nullable=False),
        sa.Column("memo_json", sa.Text, nullable=False),
    )
    op.create_index("trials_by_digest", "trials", ["study_id", "digest"])
    op.create_index("trials_by_revision", "trials", ["study_id", "revision"])


def _create_measurements() -> None:
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("scenario_json", sa.Text),
        sa.Column("value_json", sa.Text, nullable=False),
    )
    op.create_index("measurements_by_digest", "measurements", ["study_id", "digest"])
