"""The order in which a search heard of outcomes, without which the search of several workers is lost.

Trials from before it have none; their studies go on as they did.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Two columns that may be empty."""
    for name in ("heard", "told"):
        op.add_column("trials", sa.Column(name, sa.Integer))
