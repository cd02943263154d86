"""Plans and recipes speak the words of the command line: `train_steps` where they said `steps`, and so on."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"

WORDS = {
    "batch": "train_batch",
    "device": "train_on",
    "estimate": "roofline",
    "length": "window",
    "on": "time_on",
    "rungs": "finalist_steps",
    "steps": "train_steps",
    "strategy_settings": "settings",
    "tables": "latency_tables",
    "windows": "validation_windows",
}


def upgrade() -> None:
    """Rename the settings of every study whose record can be read; another one stays as it is."""
    if context.is_offline_mode():  # a script of SQL makes new databases, which hold no studies
        return
    connection = op.get_bind()
    studies = sa.table("studies", sa.column("id", sa.Integer), sa.column("config_json", sa.Text))
    for number, text in connection.execute(sa.select(studies.c.id, studies.c.config_json)).all():
        config = _read(text)
        plan = config.get("plan")
        if not isinstance(plan, dict):
            continue
        config["plan"] = {WORDS.get(name, name): value for name, value in plan.items()}
        _rename(config["plan"], "soft", "distill", inside=("recipe", "supernet"))
        new = json.dumps(config, separators=(",", ":"))
        connection.execute(studies.update().where(studies.c.id == number).values(config_json=new))


def _read(text: Any) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _rename(settings: Any, old: str, new: str, *, inside: tuple[str, ...]) -> None:
    for name in inside:
        settings = settings.get(name) if isinstance(settings, dict) else None
    if isinstance(settings, dict) and old in settings:
        settings[new] = settings.pop(old)
