"""Executed by Alembic: runs the migrations on the connection that `nas.store.database` holds open.

Without a connection (`alembic upgrade --sql`) it prints them, in the words of `dialect_name`.
"""

from __future__ import annotations

from alembic import context

given = context.config.attributes
# the caller's transaction is open already, so that a migration happens as a whole or not at all
context.configure(connection=given.get("connection"), dialect_name=given.get("dialect_name"))
context.run_migrations()
