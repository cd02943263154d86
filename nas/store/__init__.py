"""Studies and their trials in a database: SQLite by default, PostgreSQL by URL.

The only home of sqlalchemy and alembic: rows never leave this package, callers hold frozen records.
"""

from nas.store.records import Measurement, StudyRecord
from nas.store.store import Store
from nas.store.unreadable import Unreadable

__all__ = ["Measurement", "Store", "StudyRecord", "Unreadable"]
