"""Where things lie unless a user says otherwise."""

from __future__ import annotations

DEFAULT_STORE = "studies/studies.db"
"""The database of studies; the files of a study lie beside it."""

TABLES = "tables"
"""The folder of imported latency tables, beside the studies; no study may have this name."""
