"""Alembic's script folder: `env.py` runs the files of `versions` on the connection it is given."""
