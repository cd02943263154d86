"""The tables, as of schema `HEAD`.

A change here needs a new file in `migrations/versions`, a new `HEAD`, and a dump of the old schema in
`tests/store/databases`. JSON is kept as text, which both databases read alike; columns that listings need
come before the long ones, so that SQLite finds them without following a row through its overflow pages.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text

HEAD = "0004"

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("space_digest", Text, nullable=False),
    Column("space_json", Text, nullable=False),
    Column("config_json", Text, nullable=False),
    sqlite_autoincrement=True,  # a reader that polls by id must never meet another study under it
)


def _of_study(*, primary_key: bool = False) -> Column[int]:
    deleted_with_it = ForeignKey("studies.id", ondelete="CASCADE")
    return Column("study_id", Integer, deleted_with_it, primary_key=primary_key, nullable=False)


trials = Table(
    "trials",
    metadata,
    _of_study(primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("evaluator", Text, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("started", Double, nullable=False),
    Column("finished", Double),
    Column("worker", Text, nullable=False),
    Column("reused", Integer),
    Column("reason", Text),
    Column("genotype_json", Text, nullable=False),
    Column("values_json", Text, nullable=False),
    Column("memo_json", Text, nullable=False),
    Column("heard", Integer),
    Column("told", Integer),
    Index("trials_by_digest", "study_id", "digest"),
    Index("trials_by_revision", "study_id", "revision"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_study(),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("scenario_json", Text),
    Column("value_json", Text, nullable=False),
    Index("measurements_by_digest", "study_id", "digest"),
)
